"""`minigo play`: its page in a real browser, its routes, and its numbers beside GTP's."""

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

pytest.importorskip("openvino")

from minigo.config import PlayConfig, Rules
from minigo.coords import parse_vertex
from minigo.lab.page import Handler, Server
from minigo.play.gtp import Session
from minigo.play.shipped import Turned
from minigo.record import GameRecord, RecordWriter

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TOKEN, EMPTY = "t" * 32, "(;GM[1]SZ[5]KM[7])"
# Variations, a comment, set-up in mid-game, text in GB 18030, and a ")" that is missing.
EDITED = "(;SZ[9]KM[7]PB[柯洁]PW[李]RE[B+R];B[ee]C[a\nb];W[cc](;B[gg];AB[aa];W[gc])(;B[gc];W[gg])"
EDITED = EDITED.encode("gb18030")
OPPONENTS = [("from zero", "9x9-zero-2min"), ("imitation", "9x9-human-b4c32")]
FAST = "const real = setTimeout; window.setTimeout = (f, ms, ...rest) => real(f, ms / 20, ...rest);"
FOLLOW = [b"\xff\x00", b"[" * 100_000, "9" * 15, {"sgf": "no game"}, {"sgf": EMPTY, "at": 7}]
FOLLOW += [{"sgf": EMPTY, "move": 99}, {"sgf": "(;SZ[5];B[cc])", "at": 1, "move": 12}]
FOLLOW += [{"sgf": EMPTY, "minds": {"B": {"network": "/etc/passwd"}}}]
GAME = {"size": 5, "rules": "chinese", "komi": 7, "handicap": 4}
GARBAGE = [("follow", body) for body in FOLLOW] + [("new", GAME), ("new", GAME | {"size": 99})]
GARBAGE += [("load", b"(;SZ[5];B[cc];W[jj])"), ("surprises", {"sgf": EMPTY}), ("run", b"garbage")]
REACH = """url => {
  document.body.innerHTML = `<iframe src="${url}"></iframe><iframe name="frame"></iframe>
    <form method="POST" target="frame" action="${url}run"></form>`;
  document.forms[0].submit();
  const post = {method: "POST", body: "{}"}, mode = "no-cors", source = new EventSource(url);
  const opened = new Promise((open, fail) => Object.assign(source, {onopen: open, onerror: fail}));
  const tries = [["", {}], ["", {mode}], ["run", post], ["run", {...post, mode}]]
    .map(([route, how]) => fetch(url + route, how));
  return Promise.all([opened, ...tries].map(reach => reach.then(() => "in", () => "out")));
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Return a server that watches a run of two cycles and one game, and turns no position."""
    root = tmp_path_factory.mktemp("run")
    networks, games = root / "checkpoints" / "5x5", root / "selfplay" / "5x5"
    for folder in (networks, games):
        folder.mkdir(parents=True)
    rows = [{"cycle": i, "games": 9, "elapsed_s": i, "losses": {"policy": 1 / i}} for i in (1, 2)]
    (networks / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    moves = np.array([12, 7, 25, 25], np.int16)
    with RecordWriter(games / "cycle-0003-0-0.games") as writer:
        writer.write(GameRecord(5, Rules(), moves, result=1.0, score=3.0))
    with pytest.MonkeyPatch.context() as patch, Server(0, TOKEN, networks) as server:
        patch.setattr(Turned, "begin", lambda self, positions: self.evaluator.begin(positions))
        server.address = f"http://127.0.0.1:{server.server_port}/{TOKEN}/"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("needs a Chromium")
    with api.sync_playwright() as playwright:
        args = ["--no-sandbox", "--host-resolver-rules=MAP a.example 127.0.0.1"]
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=args)


@pytest.fixture
def page(browser, server):
    """Return the page on a phone, on 5x5; an error in its code fails the test."""
    context = browser.new_context(viewport={"width": 390, "height": 844})
    context.add_init_script(FAST)
    page, problems = context.new_page(), []
    page.on("pageerror", lambda error: problems.append(error))
    page.goto(server.address)
    page.select_option("[name=size]", "5")
    page.click("text=Begin")
    wait(page, "view.size === 5 && thought.visits >= 16")
    yield page
    assert not problems
    context.close()


def wait(page, condition: str) -> None:
    page.wait_for_function(f"() => {condition}", timeout=20_000)


def click(page, vertex: str) -> None:
    size, width = page.evaluate("[view.size, $('board').getBoundingClientRect().width]")
    places = [(n + 1) * width / (size + 0.7) for n in divmod(parse_vertex(vertex, size), size)]
    page.click("#board", position=dict(zip("yx", places, strict=True)))


def ask(server, route: str, body: bytes | dict | str, token=TOKEN, **headers) -> tuple[int, str]:
    """Return the answer's status and text; a body that is a str is a lie about its length."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    body = json.dumps(body).encode() if isinstance(body, dict) else body
    headers |= {"Content-Length": body} if isinstance(body, str) else {}
    connection.request("POST", f"/{token}/{route}", body, headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


@pytest.mark.parametrize("route, body", GARBAGE)
def test_garbage_is_refused_in_one_line(server, capfd, route, body):
    status, text = ask(server, route, body)
    assert status == 400 and re.fullmatch(r"[^\n]+\n", text), text
    assert "Traceback" not in capfd.readouterr().err


def test_who_has_no_token_or_comes_from_elsewhere_gets_nothing(server, browser, monkeypatch):
    assert ask(server, "run", {})[0] == 200
    elsewhere = [{"Host": "a.example"}, {"Origin": "http://a.example"}, {"Origin": "null"}]
    for how in [{"token": ""}, {"token": "u" * 32}, *elsewhere]:
        assert ask(server, "run", {}, **how)[0] == 403
    page, seen = browser.new_page(), []
    note = lambda self, code, *_: seen.append((self.command, int(code)))  # noqa: E731
    monkeypatch.setattr(Handler, "log_request", note)
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as elsewhere:
        threading.Thread(target=elsewhere.serve_forever, daemon=True).start()
        for host in ("127.0.0.1", "localhost", "a.example"):
            page.goto(f"http://{host}:{elsewhere.server_port}/")
            assert page.evaluate(REACH, server.address) == ["out"] * 5
            page.wait_for_load_state("networkidle")
            assert not any(frame.query_selector("#board") for frame in page.frames)
        elsewhere.shutdown()
    assert [code for command, code in seen if command == "POST"] == [403] * 9
    assert page.goto(server.address.replace("127.0.0.1", "a.example")).status == 403
    page.close()


def test_a_file_comes_back_whole_and_its_result_stays_with_its_end(server):
    sgf = json.loads(ask(server, "load", EDITED)[1])["sgf"]
    assert "PB[柯洁]" in sgf and "C[a\nb]" in sgf and "CA[UTF-8]" in sgf
    asks = [{"sgf": sgf, "at": 5} | more for more in ({}, {"at": 7, "move": 0}, {"move": 80})]
    asks += [{"sgf": "(;SZ[5]KM[7];B[cc];W[];B[])", "at": 3}, {"sgf": sgf, "at": 7, "move": -1}]
    end, variation, longer, passed, resigned = (
        json.loads(ask(server, "follow", body)[1]) for body in asks
    )
    assert [node[0] for node in end["nodes"]] == [-1, 0, 1, 2, 3, 4, 2, 6]
    assert end["stones"].count("X") == 3 and end["result"] == "B+R" and end["over"]
    assert variation["result"] == "" and "RE[B+R]" in variation["sgf"]
    assert longer["result"] == "" and "RE[?]" in longer["sgf"] and longer["at"] == 6
    assert passed["result"] == "B+18"
    assert resigned["result"][1:] == "+R" and "RE[B+R]" in resigned["sgf"]
    told = ask(server, "surprises", {"sgf": sgf})[1].split("\n")
    assert json.loads(told[0]) == {"looked": 1, "of": 6}


def test_numbers_are_those_of_gtp(page):
    page.evaluate("Object.assign(state.seats.W, {who: 'you', step: 99, thinking: 6})")
    page.evaluate("goTo(1, {sgf: '(;SZ[9]KM[7];B[ee])'})")  # with a tree that begins there
    wait(page, "view.size === 9 && thought.visits >= 64")
    session, thought = Session(PlayConfig("9x9", 64)), page.evaluate("thought")
    for line in ("boardsize 9", "kata-set-rules chinese", "play b E5"):
        assert "".join(session.answer(line)).startswith("=")
    engine = session.engine
    engine.is_interrupted = lambda: engine._search.forest.num_visits(0) >= 64
    answer = next(session.answer("kata-analyze w 6000 ownership true rootInfo true"))
    infos = re.findall(r"move (\S+) visits (\d+) winrate (\S+) prior (\S+) .*?Lead (\S+)", answer)
    vertices, *told = zip(*infos, strict=True)
    visits, wins, priors, leads = np.array(told, float)
    assert sum(visits) > 60 and vertices[0] == page.inner_text("#table tr:nth-child(2) td >> nth=0")
    told = [("search", 1000 * visits / sum(visits), 1), ("network", 1000 * priors, 1)]
    for name, values, most in [*told, ("wins", wins, 1e-3), ("points", leads, 1e-3)]:
        shown = [thought[name].get(str(parse_vertex(vertex, 9)), 0) for vertex in vertices]
        assert shown == pytest.approx(values, abs=most)
    root = rf"rootInfo visits {thought['visits']} winrate (\S+) .*ownership (.*)"
    win, owners = re.search(root, answer).groups()
    assert thought["black"] == pytest.approx(1 - float(win), abs=1e-5)
    owners = -10 * np.array(owners.split(), float)  # Black's, not White's
    assert thought["owners"] == pytest.approx(owners, abs=0.51)
    for name in ("search", "people", "network", "owners", "line", "points"):
        page.click(f"[value={name}]")  # the search is off now
    assert page.locator("#board rect").count() == 81 and page.locator("#board .search").count() == 0
    assert all(page.locator(f"#board .{name}").count() > 1 for name in ("people", "network"))


@pytest.mark.parametrize("kind, name", OPPONENTS)
def test_a_whole_game_by_clicks(page, kind, name):
    page.select_option("#Wwho", kind)
    page.get_by_role("slider", name="Thinking").press("Home")
    page.get_by_role("slider", name="Training").press("Home")
    wait(page, "thought.visits === 1")
    assert page.evaluate("mindOf(state.seats.W)") == {"network": name, "visits": 0}
    click(page, "C3")
    wait(page, "state.at === 2 && thought.visits")
    page.click("#undo")
    wait(page, "state.at === 0 && view.stones === '.'.repeat(25)")
    click(page, "C2")
    wait(page, "state.at > 2 && view.color === 'B' && view.nodes.length === 5")  # a variation
    while not page.evaluate("view.over"):
        number = page.evaluate("line.length")
        page.click("#pass")
        wait(page, f"view.over || view.color === 'B' && line.length > {number} && thought.visits")
    assert re.search("won|draw", page.inner_text("#said"))
    assert re.search(r"RE\[([BW]\+.*|0)\]", page.evaluate("state.sgf"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_reload_loses_nothing_and_two_tabs_are_two_games(page, server):
    click(page, "C3")
    wait(page, "state.at === 2 && thought.visits")
    game = "[state.sgf.replace(/\\s|SBKV.*?]/g, ''), view.stones]"
    before, other = page.evaluate(game), page.context.new_page()
    other.goto(server.address)
    wait(other, "view.size === 9 && thought.visits")
    page.reload()
    wait(page, "view.nodes && thought.visits")
    assert page.evaluate(game) == before
    page.click("#resign")
    wait(page, "$('said').textContent.includes('White won by resignation')")
    assert not other.evaluate("view.over")


def test_files_keys_and_a_move_37(page):
    page.set_input_files("#file", {"name": "a.sgf", "mimeType": "", "buffer": EDITED})
    wait(page, "view.nodes.length === 8 && thought.visits")
    page.keyboard.press("End")
    wait(page, "view.over && view.at === 5 && scrollY === 0")
    page.dblclick("#undo")  # the second takes set-up back
    wait(page, "view.at === 3")
    assert "柯洁" in page.inner_text("#comment")
    for button in ("Find a move 37", "Stop", "Find a move 37"):
        page.click(f"text={button}")
    wait(page, "$('message').textContent.includes('would hardly')")
    assert page.evaluate("line.every(node => view.nodes[node][2])")  # the graph is whole
    for key, at in (("ArrowDown", 6), ("End", 7), ("ArrowUp", 6), ("Home", 0), ("ArrowRight", 1)):
        page.locator("#tree").press(key)
        wait(page, f"view.at === {at}")
    assert "a\nb" in page.inner_text("#comment")
    page.locator("#board").press("ArrowUp")
    assert page.inner_text("#said") == "E6, empty"  # above the middle
    page.keyboard.press("Enter")
    wait(page, "view.last === 31 && view.color === 'B'")
    with page.expect_download() as download:
        page.click("#save")
    assert "W[ed]" in download.value.path().read_text("utf-8")
    drop = "file = new DataTransfer(); file.items.add(new File(['no game'], 'a.sgf'));"
    drop += "document.dispatchEvent(new DragEvent('drop', {dataTransfer: file}))"
    page.evaluate(drop)
    wait(page, "$('message').textContent.includes('broken SGF')")


def test_two_networks_play_and_a_run_is_watched(page):
    page.select_option("#Bwho", "from zero")
    page.select_option("#Wwho", "level")
    page.locator("#Bthinking").press("Home")
    page.click("#ten")
    wait(page, "state.match.played === 1 && view.nodes.length < 4")
    assert "1 of 10 games" in page.inner_text("#score")
    page.click("#pause")
    assert page.locator("#curves svg").count() == 2 and "9 games" in page.inner_text("#progress")
    page.select_option("#games", label="cycle-0003-0-0: 4 moves, B+3")
    wait(page, "view.nodes.length === 5")
    page.keyboard.press("End")
    wait(page, "view.over")
    name = page.evaluate("state.sgf = '(;SZ[19])', networkOf({who: 'imitation', step: 9}).name")
    assert name == "human"


def test_a_server_killed_in_mid_thought(browser, tmp_path):
    env = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "BROWSER": "true"}
    with Server(0, TOKEN, None) as free:
        command = [sys.executable, "-m", "minigo", "play", "--port", str(free.server_port)]
    page, how = browser.new_page(), {"stdout": subprocess.PIPE, "text": True, "env": env}
    with subprocess.Popen(command, **how) as server:
        page.goto(server.stdout.readline().strip())
        wait(page, "thought.visits >= 16")
        page.locator("#Wthinking").press("End")
        click(page, "E5")
        wait(page, "state.at === 1")
        server.kill()
    wait(page, "$('message').textContent.includes('minigo play')")
    with subprocess.Popen(command, **how) as server:
        wait(page, "state.at === 2 && $('message').textContent === ''")
        page.close()
        server.kill()
    assert oct((tmp_path / "minigo" / "token").stat().st_mode)[-3:] == "600"
