"""The report: its arithmetic, its files, and its page in a real browser at two widths."""

import itertools
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("torch")
from conftest import save_network
from minigo.checkpoint import load_checkpoint
from minigo.config import Rules
from minigo.lab import ladder as rate
from minigo.lab import lessons as module
from minigo.lab.lessons import Study, Subject, compare, find_networks, lessons
from minigo.play.match import parse_player
from minigo.record import GameRecord
from minigo.sgf import format_sgf

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MOVES = [40, 30, 50, 32, 48, 22, 58, 20, 60, 41, 81, 81]


def test_the_crossing_is_found_between_two_points_of_a_log_axis():
    whom = "the imitator without search"
    assert compare({1: -300, 4: -100, 16: 100}) == f"passes {whom} after 8.0 minutes"
    assert compare({1: 0, 4: 200, 16: 400}) == f"+400 Elo from {whom} after 16 minutes in all"
    # From the start.
    assert compare({1: 50, 4: 70}) == f"+70 Elo from {whom} after 4 minutes in all"


def make_ladder(elos: dict[str, float]) -> dict:
    players = [
        {"name": name, "elo": elo, "elo_low": elo - 50, "elo_high": elo + 50, "games": 9}
        for name, elo in elos.items()
    ]
    covariance = (25.0**2 * (np.eye(len(elos)) + 1)).tolist()
    ladder = {"players": players, "covariance": covariance, "anchor": "gnugo-10", "komi": 7.0}
    return ladder | {"games": 99, "size": 9}


def test_slopes_and_exchange_rate_of_a_plane():
    networks = [Subject("a", "from zero", 10.0, {}), Subject("b", "from zero", 80.0, {})]
    study = Study([*networks, Subject("9x9", "imitation", 5.0, {})], 9, quick=True)
    elos = {"a@0": -300.0, "b@0": -200.0, "9x9@0": 150.0, "9x9@64": 160.0}
    for n, visits in itertools.product(networks, (16, 64, 256)):
        elos[f"{n.name}@{visits}"] = 7 + 60 * np.log2(n.minutes) + 40 * np.log2(visits)
    study.take(make_ladder(elos))
    section = study.search()
    labels = [line["label"].split(" (± ")[0] for line in section["lines"]]
    assert labels == ["9x9", "b +40"]  # of its kind the most trained
    (fact,) = section["facts"]
    assert "b +40 (± " in fact and "a +40" not in fact
    (fact,) = study.exchange()["facts"]
    assert "+60 Elo for each doubling of the training, +40 of" in fact and "saves 1.5 (± " in fact
    facts = study.reinforcement()["facts"]  # 64 simulations: 447 at 10 minutes, without: -300
    text = "no search: -350 Elo from the imitator without search after 80 minutes"
    assert any(text in fact for fact in facts)


def test_networks_are_found_with_their_kind_and_time(tmp_path):
    runs = ("a", "zero", "9x9-human", 12), ("b", "imitation", "9x9-human", 2)
    for run, start, began, cycles in (*runs, ("c", "imitation", "9x9", 2)):
        (tmp_path / run).mkdir()
        recipe = {"start": start, "start_from": f"somewhere/{began}.safetensors"}
        for cycle in range(cycles):
            path = tmp_path / run / f"cycle-{cycle:04d}.safetensors"
            save_network(path, elapsed_s=60.0 * cycle, recipe=recipe)
    networks = find_networks(9, [tmp_path / "a", tmp_path / "b", tmp_path / "c"])
    by_name = {network.name: network for network in networks}
    human = by_name["9x9-human"]
    assert human.kind == "imitation"
    assert human.minutes == load_checkpoint("9x9-human").info["minutes"]
    zero = [network for network in networks if network.name.startswith(f"{tmp_path}/a")]
    assert {network.kind for network in zero} == {"from zero"}
    assert zero[0].minutes == 1 and zero[-1].minutes == 11
    assert 4 <= len(zero) <= module.RUN_NETWORKS
    pupil = by_name[f"{tmp_path}/b/cycle-0001.safetensors"]
    assert pupil.kind == "from imitation" and pupil.minutes == 1 + human.minutes
    later, first = by_name[f"{tmp_path}/c/cycle-0001.safetensors"], by_name["9x9"]
    assert later.kind == first.kind == "from zero" and later.minutes == 1 + first.minutes
    with pytest.raises(ValueError, match="no folder of a run"):
        find_networks(9, [tmp_path / "elsewhere"])
    texts = Study(networks, 9, quick=True).player_texts()
    assert {"9x9@256", "9x9@64:no-value", "9x9@64:no-policy", "9x9-human@16"} <= set(texts)
    assert f"{zero[0].name}@64" in texts and f"{zero[0].name}@16" not in texts


def test_without_matplotlib_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ValueError, match="minigo.plots."):
        lessons(tmp_path)


@pytest.fixture(scope="module")
def report_folder(tmp_path_factory):
    """Return the folder of a report made from games that nobody had to play."""
    pytest.importorskip("matplotlib")
    folder = tmp_path_factory.mktemp("lessons")
    study = Study(find_networks(9), 9, quick=True)
    players = [parse_player(text) for text in study.player_texts()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MEASURED", 16)
        write_games(folder / "ladder", players)
        patch.setattr(module, "MEASURED", 64)
        lessons(folder, quick=True, minutes=0, workers=1)
    return folder


def write_games(folder, players) -> None:
    """Have the later of two players win four of five games."""
    rules, rows = Rules(ko="positional", suicide=False), []
    (folder / "games" / "00001").mkdir(parents=True)
    pairs = [(a, b) for i, a in enumerate(players) for b in players[i + 1 :]]
    for number, (a, b) in enumerate(pairs * 5):
        sgf = f"games/00001/{number + 1:04d}.sgf"
        points = float(number % 5 == 0)
        result = 1.0 if points else -1.0
        record = GameRecord(9, rules, np.array(MOVES, np.int16), result=result, score=5 * result)
        (folder / sgf).write_text(format_sgf(record, a.name, b.name))
        row = {"a": a.name, "b": b.name, "identities": [rate._identify(a), rate._identify(b)]}
        row |= {"points": points, "black": a.name, "moves": len(MOVES), "size": 9, "komi": 7.0}
        rows.append(json.dumps(row | {"sgf": sgf, "ending": ""}) + "\n")
    (folder / "results.jsonl").write_text("".join(rows))


def test_the_report_is_whole(report_folder):
    report = json.loads((report_folder / "lessons.json").read_text())
    names = ["imitation", "search", "reinforcement", "exchange", "ablation", "everybody"]
    assert list(report["sections"]) == names
    for name, section in report["sections"].items():
        assert section["facts"] and section["lines"], name
        width = 2 if name == "imitation" else 6
        assert all(len(row) == width for line in section["lines"] for row in line["points"])
        assert (report_folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    accuracy = load_checkpoint("9x9-human").info["top1"]
    assert f"{accuracy:.1%}" in report["sections"]["imitation"]["facts"][0]


def test_the_page_needs_nothing_from_elsewhere(report_folder):
    text = (report_folder / "lessons.html").read_text()
    data = json.loads(re.search(r"const data = (.*);", text)[1])
    page = text.replace(json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"), "")
    assert not re.findall(r"https?://[^\"' ]+", page)
    assert not re.findall(r"<(?:link|script|img)[^>]*(?:src|href)=\"(?!data:|\${data\.)", page)
    assert len(data["games"]) >= 2
    for game in data["games"]:
        assert len(game["positions"]) == len(game["moves"]) + 1
        for position in game["positions"]:
            assert len(position["stones"]) == len(position["owners"]) == 81
            assert 0 <= position["black"] <= 100
            assert 900 <= sum(position["people"].values()) <= 1001
        assert game["positions"][2]["stones"].count("X") == 1


# Loads the page into a frame (%d pixels wide) and writes what it finds there.
HARNESS = """<iframe id="frame" src="lessons.html" style="width:%dpx;height:900px;border:0">
</iframe><pre id="found">nothing</pre><script>
frame.onload = () => {
  const page = frame.contentDocument, view = frame.contentWindow, $ = id => page.getElementById(id);
  const buttons = [...page.querySelectorAll("button")];
  const click = text => buttons.find(button => button.textContent === text).click();
  const count = selector => $("board").querySelectorAll(selector).length;
  const controls = [...buttons, ...page.querySelectorAll("select, input")];
  const loaded = view.performance.getEntriesByType("resource");
  const result = {
    width: page.documentElement.scrollWidth,
    images: [...page.images].map(image => image.complete && image.naturalWidth > 0),
    tables: page.querySelectorAll("table").length,
    sections: page.querySelectorAll("section").length,
    small: controls.filter(e => e.getBoundingClientRect().height < 44).length,
    resources: loaded.map(entry => entry.name.slice(0, 5)),
  };
  click("|<");
  result.first = [$("said").textContent, count(".stone")];
  click(">");
  result.second = [$("said").textContent, count(".stone")];
  page.dispatchEvent(new view.KeyboardEvent("keydown", {key: "ArrowRight"}));
  result.third = count(".stone");
  click("search");
  result.nothing = count(".mark");
  for (const overlay of ["people", "network", "search", "owners"]) {
    click(overlay);
    result[overlay] = count(".mark");
    click(overlay);
  }
  $("game").value = 1;
  $("game").dispatchEvent(new Event("change"));
  result.other = $("said").textContent;
  found.textContent = JSON.stringify(result);
};
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_works_in_a_browser(report_folder, tmp_path, width):
    harness = report_folder / f"harness-{width}.html"
    harness.write_text(HARNESS.replace("%d", str(width)))
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    flags += "--disable-background-networking --disable-component-update --dump-dom "
    flags += "--allow-file-access-from-files --virtual-time-budget=9000 --window-size=1300,950"
    command = [CHROMIUM, *flags.split(), f"--user-data-dir={tmp_path}", harness.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = json.loads(re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)[1])
    assert found["width"] <= width  # nothing sticks out to the side
    assert len(found["images"]) == found["tables"] == 6 and all(found["images"])
    assert found["sections"] == 7 and found["small"] == 0
    assert set(found["resources"]) <= {"data:"}
    assert found["first"][1] == 0 and "Move" not in found["first"][0]
    assert "Move 1, Black E5: people" in found["second"][0] and found["second"][1] == 1
    assert found["third"] == 2 and found["nothing"] == 0
    assert all(found[overlay] > 0 for overlay in ("people", "network", "search"))
    assert found["other"] != found["second"][0]
