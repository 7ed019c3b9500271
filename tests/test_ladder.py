"""The Elo ladder: its arithmetic against published figures, the choice of games, and kills."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("torch")
from conftest import kill_with_children, wait_until
from minigo.lab import ladder as module
from minigo.lab.ladder import Ladder, list_players, rate, read_results
from minigo.play.match import MatchConfig, find_gnugo
from minigo.sgf import load_games


def test_players_have_names_of_their_own(network):
    players = list_players([network, "9x9@7", "gtp:x --level 3", "gtp:x --level=4"], (0, 4), 9)
    names = [player.name for player in players]
    assert names == [f"{network}@0", f"{network}@4", "9x9@7", "x-3", "x-4"]
    with pytest.raises(ValueError, match="1 players"):
        list_players(["9x9@7", "9x9@7"], (0,), 9)
    with pytest.raises(ValueError, match="two different players are called gnugo-5"):
        list_players(["gtp:gnugo --level 5", "gtp:/usr/games/gnugo --level 5"], (0,), 9)
    if find_gnugo():
        default = [player.name for player in list_players([], (0, 16), 9)]
        assert {"gnugo-1", "gnugo-10", "9x9@16", "9x9-human@0"} <= set(default)


@pytest.mark.slow
def test_a_ladder_is_played_written_and_resumed(network, tmp_path):
    players = list_players([network], (0, 2, 8), 5)
    options = {"config": MatchConfig(size=5), "sprt_elo": 0, "workers": 1}
    report = rate(players, tmp_path, max_games=10, **options)
    assert report["games"] == 10 and report["anchor"] == f"{network}@0"
    assert json.loads((tmp_path / "ladder.json").read_text()) == report
    assert f"{network}@8" in (tmp_path / "ladder.md").read_text()
    rows = read_results(tmp_path)
    assert len({row["sgf"] for row in rows}) == 10
    for row in rows:
        record = next(load_games([tmp_path / row["sgf"]], strict=True))
        black_points = row["points"] if row["black"] == row["a"] else 1 - row["points"]
        assert record.result == 2 * black_points - 1 and len(record.moves) == row["moves"]
    with open(tmp_path / "results.jsonl", "a") as file:
        file.write('{"a": "torn')
    again = rate(players[:2], tmp_path, max_games=14, **options)
    assert again["games"] == 14 and read_results(tmp_path)[:10] == rows
    assert {p["name"] for p in again["players"]} == {player.name for player in players}
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 15  # the torn one, too


@pytest.mark.slow
def test_a_killed_ladder_leaves_no_process_and_loses_no_finished_game(network, tmp_path):
    words = [network, f"{network}@4", "--size", "5", "--visits", "0", "--workers", "1"]
    command = [sys.executable, "-m", "minigo", "rate", *words, "--out", str(tmp_path)]
    process = subprocess.Popen([*command, "--games", "5000"], stderr=subprocess.DEVNULL)
    wait_until(lambda: len(read_results(tmp_path)) >= 6)
    kill_with_children(process)
    kept = read_results(tmp_path)
    games = ["--games", str(len(kept) + 40), "--sprt", "0", "--json"]
    done = subprocess.run([*command, *games], capture_output=True, text=True)
    report = json.loads(done.stdout)
    rows = read_results(tmp_path)
    assert rows[: len(kept)] == kept and report["games"] == len(rows) >= len(kept) + 40
    assert len({row["sgf"] for row in rows}) == len(rows)


@pytest.mark.slow
def test_a_ladder_whose_time_is_up_drops_the_games_under_way_and_says_nothing(network, tmp_path):
    words = [f"{network}@20", f"{network}@2000", "--size", "9", "--workers", "2", "--json"]
    command = [sys.executable, "-W", "always::UserWarning", "-m", "minigo", "rate", *words]
    options = ["--minutes", "0.1", "--out", str(tmp_path)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and list((tmp_path / "games").iterdir())
    assert json.loads(done.stdout)["games"] == len(read_results(tmp_path))
    lines = done.stderr.replace("\r", "\n").splitlines()
    assert [line for line in lines if line and not line.startswith("rate: ")] == []


def test_a_ladder_stops_when_the_order_is_known(network, tmp_path, monkeypatch):
    row = {"a": f"{network}@2", "b": f"{network}@0", "black": "", "moves": 9, "size": 5, "komi": 7}
    players = list_players([network], (0, 2), 5)
    row |= {"points": 1, "sgf": "", "ending": "", "identities": [module._identify(players[0])] * 2}
    retired = row | {"a": "retired", "points": 0}  # nobody waits for what he can't play any more
    lines = [json.dumps(row)] * 40 + [json.dumps(retired), ""]
    (tmp_path / "results.jsonl").write_text("\n".join(lines))
    monkeypatch.setattr(Ladder, "next_job", lambda *_: pytest.fail("a game too many"))
    report = rate(players, tmp_path, MatchConfig(size=5), workers=1)
    assert report["games"] == 41 and report["players"][0]["name"] == row["a"]
    assert report["players"][0]["elo_low"] > 0


def test_games_of_others_are_refused(network, tmp_path):
    players = list_players([network], (0, 2), 5)
    row = {"a": players[0].name, "b": players[1].name, "size": 5, "komi": 7, "points": 1}
    row |= {"identities": ["01234567", "01234567"], "ending": ""}
    (tmp_path / "results.jsonl").write_text('7\n{"a": 1}\n' + json.dumps(row) + "\n")  # torn, too
    with pytest.raises(ValueError, match="holds games of another"):
        Ladder(players, tmp_path, MatchConfig(size=5))
    with pytest.raises(ValueError, match="size 5 and komi 7: choose another folder"):
        Ladder(players, tmp_path, MatchConfig())


def test_games_are_played_on_the_device_that_is_asked_for(network, tmp_path):
    with pytest.raises(ValueError, match="device 'abacus'"):
        config = MatchConfig(size=5, device="abacus")
        rate(list_players([network], (0, 2), 5), tmp_path, config, workers=1)


def test_a_player_that_does_not_start_stops_the_ladder(network, tmp_path):
    players = list_players([f"{network}@0", "gtp:no-such-program"], (0,), 5)
    with pytest.raises(ValueError, match="no-such-program"):
        rate(players, tmp_path, MatchConfig(size=5), workers=1)
