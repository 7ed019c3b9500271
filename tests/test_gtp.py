"""GTP: transcripts of what is sent and what comes back, and input that nobody should send."""

import io
import json
import math
import os
import random
import re
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest

from conftest import from_diagram, side_by_side
from minigo.config import PlayConfig, Rules
from minigo.coords import BLACK
from minigo.play import gtp
from minigo.play.engine import Clock
from minigo.play.gtp import COMMANDS, parse_line, serve
from minigo.play.shipped import Turned


class Session(gtp.Session):
    def respond(self, line: str | bytes) -> str:
        """Return the whole answer to a line."""
        return "".join(self.answer(line))


@pytest.fixture(autouse=True)
def unturned(monkeypatch):
    """Positions are evaluated as they are, so that two searches can be compared."""
    monkeypatch.setattr(Turned, "begin", lambda self, positions: self.evaluator.begin(positions))


@pytest.fixture
def session() -> Session:
    """Return an engine whose network isn't there."""
    return Session(PlayConfig(checkpoint="no-such-network"))


@pytest.fixture
def player(network) -> Session:
    """Return an engine with a network, on 5x5."""
    session = Session(PlayConfig(network, visits=16))
    session.respond("boardsize 5")
    return session


@pytest.fixture
def check(session):
    """Return a function that plays a transcript: what is sent, and beside or below it the answer.

    A command without an answer is answered by "=".
    """

    def play(transcript: str) -> None:
        for exchange in re.split(r"\n *> ", transcript.rstrip())[1:]:
            sent, *expected = re.split(r"\n *|  +(?=[=?])", exchange)
            answer = session.respond(sent).rstrip("\n").split("\n")
            assert [line.strip() for line in answer] == (expected or ["="]), sent

    return play


def tell(session: Session, *lines: str) -> None:
    """Send lines that are answered by "=", and nothing else."""
    for line in lines:
        assert session.respond(line) == "= \n\n", line


def test_the_first_questions(check, session):
    check("""
        > protocol_version       = 2
        > 17 name                =17 minigo
        > known_command genmove  = true
        > known_command dance    = false
        > 3 dance                ?3 unknown command 'dance'
        > get_komi               = 7
        > komi 6.5
        > get_komi               = 6.5
        > komi much              ? no komi in 'much'
        > komi 1_0               ? no komi in '1_0'
        > komi inf               ? komi = inf: Expected `float` <= 1000.0
        > quit
        """)
    assert session.respond("list_commands").split() == ["=", *COMMANDS]
    assert session.respond("version").startswith("= 0.")


def test_playing_and_taking_back(check):
    check("""
        > boardsize 5
        > play b A1
        > play W a2
        > play w b1
        > captures w      = 1
        > captures black  = 0
        > list_stones w   = A2 B1
        > list_stones b
        > play b b1       ? illegal move: Black may not play B1: the point is taken
        > play b C9       ? 'C9' is not a vertex of a 5x5 board
        > play b          ? '' is not a vertex of a 5x5 board
        > play red C3     ? no colour in 'red C3'
        > play b pass
        > play w PASS
        > play b C3
        > showboard
        =
        A B C D E
        5 . . . . . 5
        4 . . . . . 4
        3 . . X . . 3
        2 O . . . . 2
        1 . O . . . 1
        A B C D E
        W to move, komi 7, Black lost 1 stones, White 0
        > undo
        > undo
        > undo
        > undo
        > list_stones b   = A1
        > undo
        > undo
        > undo            ? cannot undo
        """)


def test_handicap(check):
    check("""
        > fixed_handicap 3           = C3 G7 C7
        > fixed_handicap 2           ? board not empty
        > undo                       ? cannot undo
        > boardsize 19
        > fixed_handicap 9           = D4 Q16 D16 Q4 D10 Q10 K16 K4 K10
        > boardsize 13
        > fixed_handicap 7           = D4 K10 D10 K4 D7 K7 G7
        > boardsize 8
        > fixed_handicap 5           ? invalid number of stones 5
        > place_free_handicap 64     ? invalid number of stones 64
        > place_free_handicap 1      ? invalid number of stones 1
        > place_free_handicap 5      = C3 F6 C6 F3
        > boardsize 5
        > place_free_handicap 2      ? invalid number of stones 2
        > boardsize 8
        > set_free_handicap A1       ? bad vertex list 'A1'
        > set_free_handicap A1 A1    ? there is a stone at A1 already
        > set_free_handicap A1 pass  ? move 64 is not a point of a 8x8 board
        > set_free_handicap A1 B2
        > list_stones b              = B2 A1
        > play w C3
        > play b C4
        """)


def test_rules(session):
    tell(session, 'kata-set-rules {"suicide": false, "tax": "NONE"}')
    assert not session.engine.board.rules.suicide
    tell(session, "komi 6.5", "kata-set-rules chinese")
    assert session.engine.board.rules == Rules("simple", False, "area", 6.5, True, "N")
    tell(session, "kata-set-rules japanese")
    assert session.engine.board.rules == Rules("simple", False, "territory", 6.5)
    tell(session, 'kata-set-rules {"ko": "SITUATIONAL", "score":"AREA"}')
    assert session.engine.board.rules == Rules("situational", False, "area", 6.5)


def describe(ko: str, suicide: bool, bonus: str = "0", scoring="AREA", friendly=True) -> dict:
    """Return rules in the form of https://lightvector.github.io/KataGo/rules.html."""
    tax = "NONE" if scoring == "AREA" else "SEKI"
    form = {"ko": ko, "scoring": scoring, "tax": tax, "suicide": suicide, "hasButton": False}
    return form | {"whiteHandicapBonus": bonus, "friendlyPassOk": friendly}


JAPANESE = describe("SIMPLE", False, "0", "TERRITORY", False)
KATAGO = {
    "tromp-taylor": describe("POSITIONAL", True, friendly=False),
    "chinese": describe("SIMPLE", False, "N"),
    **dict.fromkeys(("chinese-ogs", "chinese-kgs"), describe("POSITIONAL", False, "N")),
    **dict.fromkeys(("japanese", "korean"), JAPANESE),
    **dict.fromkeys(("aga", "bga", "french"), describe("SITUATIONAL", False, "N-1")),
    "new-zealand": describe("SITUATIONAL", True),
}


@pytest.mark.parametrize("name", KATAGO)
def test_katagos_rules_by_name_and_by_json(session, name):
    for spelled in (name, name.upper(), name.replace("-", "_"), name.replace("-", " ")):
        tell(session, "kata-set-rules aga", f"kata-set-rules {spelled}")
        assert json.loads(session.respond("kata-get-rules")[2:]) == KATAGO[name]
    old = KATAGO[name] | {"score": KATAGO[name]["scoring"]}
    del old["scoring"]
    for form in (KATAGO[name], old):
        tell(session, "kata-set-rules japanese", f"kata-set-rules {json.dumps(form)}")
        assert json.loads(session.respond("kata-get-rules")[2:]) == KATAGO[name]
    for rule, value in KATAGO[name].items():
        tell(session, f"kata-set-rule {rule} {json.dumps(value).strip(chr(34))}")
    assert json.loads(session.respond("kata-get-rules")[2:]) == KATAGO[name]


@pytest.mark.parametrize(
    "line",
    ["kata-set-rules " + name for name in ("stone-scoring", "aga-button", "ancient-territory")]
    + ["kata-set-rules " + words for words in ("", "ing", "{", "[]", "[" * 5000, '{"ko": 7}')]
    + ['kata-set-rules {"ko": "SOME"}', 'kata-set-rules {"koRule": "SIMPLE"}']
    + ['kata-set-rules {"scoring": "TERRITORY", "tax": "NONE"}', 'kata-set-rules {"tax": "SEKI"}']
    + ['kata-set-rules {"ko": "SIMPLE", "tax": "SEKI"}', 'kata-set-rules {"suicide": "false"}']
    + ["kata-set-rule " + words for words in ("tax ALL", "hasButton true", "ko SPIGHT", "ko", "")]
    + ["kata-set-rule " + words for words in ("komi 5", "suicide maybe", "friendlyPassOk 2")],
)
def test_rules_that_minigo_cannot_play_are_refused_in_a_line(session, line):
    before = session.respond("kata-get-rules")
    assert re.fullmatch(r"\? unknown rules [^\n]+\n\n", session.respond(line))
    assert session.respond("kata-get-rules") == before


def test_white_gets_the_bonus_for_handicap_stones_in_the_count_alone(check):
    check("""
        > fixed_handicap 4  = C3 G7 C7 G3
        > komi 0.5
        > final_score       = B+80.5
        > kata-set-rule whiteHandicapBonus N
        > final_score       = B+76.5
        > kata-set-rule whiteHandicapBonus N-1
        > final_score       = B+77.5
        > get_komi          = 0.5
        > clear_board
        > final_score       = W+0.5
        """)


@pytest.mark.parametrize("komi", ("3.75", "0.25", "7.25", "-5.5", "6.3"))
def test_komi_is_any_number(session, komi):
    tell(session, "boardsize 5", f"komi {komi}", "play b C3")
    assert session.respond("get_komi") == f"= {komi}\n\n"
    assert session.respond("final_score") == f"= B+{25 - float(komi):g}\n\n"
    assert f"KM[{komi}]" in session.respond("printsgf")
    tell(session, "komi -0")
    assert session.respond("get_komi") == "= 0\n\n"


@pytest.mark.parametrize(
    "size", ("9 13", "26", "1", "-9", "", "1_3", "\uff19", "9.5", "9:9", "9" * 50)
)
def test_a_size_that_is_none_leaves_the_board_as_it_was(session, size):
    tell(session, "boardsize 7 7", "play b C3")
    assert session.respond(f"boardsize {size}") == "? unacceptable size\n\n"
    assert session.engine.board.size == 7 and session.respond("list_stones b") == "= C3\n\n"


def test_without_a_name_each_board_size_has_its_own_network():
    session = Session(PlayConfig())
    assert session.respond("kata-get-models") == '= [{"name": "9x9"}]\n\n'
    tell(session, "boardsize 13")
    assert session.respond("kata-get-models") == '= [{"name": "13x13"}]\n\n'


def test_parameters_by_katagos_names_and_questions(check, session):
    check("""
        > kata-list-params             = maxVisits maxTime numSearchThreads
        > kata-get-param maxTime       = none
        > kata-set-param maxVisits 50
        > kata-get-param maxVisits     = 50
        > kata-set-param maxTime 0.5
        > kata-set-param numSearchThreads 2
        > kata-set-param maxVisits none
        > kata-set-param numSearchThreads none  ? no numSearchThreads in 'numSearchThreads none'
        > kata-set-param maxVisits -4  ? visits = -4: Expected `int` >= 0
        > kata-set-param maxTime 0     ? time_s = 0.0: Expected `float` >= 0.01
        > kata-set-param maxTime soon  ? no maxTime in 'maxTime soon'
        > kata-set-param mood 3
        ? unknown parameter 'mood'; there are maxVisits, maxTime, numSearchThreads
        > kata-get-param
        ? unknown parameter ''; there are maxVisits, maxTime, numSearchThreads
        > kata-get-models              = [{"name": "no-such-network"}]
        > stop
        """)
    config = session.engine.config
    assert (config.visits, config.time_s, config.threads) == (None, 0.5, 2)
    assert float(session.respond("cputime")[2:]) > 0
    for line in session.respond("gogui-analyze_commands")[2:].strip().split("\n"):
        kind, label, command = line.split("/")
        assert kind and label and command.split()[0] in COMMANDS


def test_rules_by_kgs_names(check, session):
    check("""
        > kgs-rules new_zealand
        > kgs-rules Japanese
        > kgs-rules ing
        ? unknown rules 'ing'; there are tromp-taylor, chinese, chinese-ogs, aga, new-zealand, \
japanese, chinese-kgs, korean, bga, french
        > komi 0.5
        """)
    assert session.respond("kgs-rules {}").startswith("? unknown rules '{}'; there are ")
    assert session.engine.board.rules == Rules("simple", False, "territory", 0.5)
    tell(session, "kgs-rules chinese")
    assert session.engine.rules.ko == "positional"  # there; but simple by kata-set-rules


def test_set_position(check):
    check("""
        > boardsize 5
        > play b B2
        > set_position b C3 w D4 b A1
        > list_stones b                = C3 A1
        > list_stones w                = D4
        > undo                         ? cannot undo
        > play b B1
        > set_position b C3 w          ? '' is not a vertex of a 5x5 board
        > set_position red C3          ? no colour in 'red C3'
        > set_position b pass          ? move 25 is not a point of a 5x5 board
        > set_position b C3 w C3       ? there is a stone at C3 already
        > set_position b A2 b B1 w A1  ? the stone at A1 has no liberty
        > list_stones b                = C3 A1 B1
        > set_position
        > list_stones b
        """)


def test_final_score_under_tromp_taylor_counts_the_board(check):
    check("""
        > boardsize 5
        > final_score  = W+7
        > play b C3
        > final_score  = B+18
        > komi 25
        > final_score  = 0
        """)


def test_sgf_goes_out_and_comes_in(session, tmp_path):
    path = tmp_path / "a game.sgf"
    tell(session, "boardsize 5", "komi 3.5", "play b C3", "play w D4", "play w A1")
    stones = str(session.engine.board)
    text = session.respond("printsgf")
    assert session.respond("printsgf -") == text
    assert text.startswith("= (;FF[4]") and "\n\n" not in text[:-2] and "KM[3.5]" in text
    tell(session, f"printsgf {path}", "boardsize 9", "komi 7", f"loadsgf {path}")
    assert str(session.engine.board) == stones and session.engine.board.rules.komi == 3.5
    tell(session, f"loadsgf {path} 2", "list_stones w")
    assert session.respond("list_stones b") == "= C3\n\n"
    tell(session, "undo")
    assert session.respond("undo").startswith("?")


@pytest.mark.parametrize(
    "text, number, stones, to_play",
    [
        ("(;SZ[5]AB[cc][dd]AW[ee])", "", ["C3 D2", "E1"], 1),
        ("(;SZ[5]AB[cc][dd]PL[W])", "", ["C3 D2", ""], 2),
        ("(;SZ[5]AB[cc][dd];W[ee];B[aa])", "2", ["C3 D2", "E1"], 1),
        ("(;SZ[5]AB[cc][dd];W[ee];B[aa])", "1", ["C3 D2", ""], 2),
        ("(;SZ[5]AB[cc][dd];W[ee];B[aa])", "99", ["A5 C3 D2", "E1"], 2),
        ("(;SZ[5])", "", ["", ""], 1),
        ("(;SZ[5];B[];W[])", "", ["", ""], 1),
    ],
)
def test_loadsgf_takes_set_up_and_any_move_number(session, tmp_path, text, number, stones, to_play):
    path = tmp_path / "game.sgf"
    path.write_text(text)
    tell(session, f"loadsgf {path} {number}")
    assert session.engine.board.size == 5 and session.engine.board.to_play == to_play
    assert [session.respond(f"list_stones {color}")[2:-2] for color in "bw"] == stones


@pytest.mark.parametrize("first", ["play b pass\nplay b D4", "set_free_handicap A1 D4"])
def test_passes_and_set_up_stones_come_back_from_sgf(session, tmp_path, first):
    tell(session, "boardsize 5", *first.split("\n"), "play w C3")
    stones, path = str(session.engine.board), tmp_path / "game.sgf"
    tell(session, f"printsgf {path}", "clear_board", f"loadsgf {path}")
    assert str(session.engine.board) == stones and "D4" in session.respond("list_stones b")
    assert session.engine.board.to_play == BLACK


def test_where_the_disk_is_full_the_game_of_before_stays(session, tmp_path, monkeypatch):
    path, full = tmp_path / "a.sgf", OSError(28, "No space left on device")
    tell(session, f"printsgf {path}")
    before = path.read_text()
    monkeypatch.setattr("minigo.machine.os.fsync", Mock(side_effect=full))
    tell(session, "play b C3")
    assert session.respond(f"printsgf {path}") == f"? {path}: No space left on device\n\n"
    assert path.read_text() == before and list(tmp_path.iterdir()) == [path]


def test_a_broken_sgf_leaves_the_game_as_it_was(session, tmp_path):
    path = tmp_path / "broken.sgf"
    path.write_text("(;SZ[9];B[aa];W[jj])")
    session.respond("play b C3")
    reason = "point off the board"
    assert session.respond(f"loadsgf {path}") == f"? cannot load file '{path}': {reason}\n\n"
    assert session.respond(f"loadsgf {tmp_path}").startswith("? cannot load file")
    assert session.respond("loadsgf").startswith("? cannot load file")
    assert session.respond("printsgf /no/such/folder/file").startswith("? ")
    assert session.respond("list_stones b") == "= C3\n\n"


def test_a_command_that_needs_a_missing_network_is_refused(session):
    for line in ("genmove b", "kata-analyze b 10", "final_status_list dead"):
        answer = session.respond(line)
        assert answer.startswith("? ") and "no-such-network" in answer and answer.endswith("\n\n")
    tell(session, "list_stones b")


@pytest.mark.parametrize(
    "line, parsed",
    [("", ("", "", [])), ("  \t\r\x07", ("", "", [])), ("# a comment", ("", "", []))]
    + [("play b C3 # why not\r", ("", "play", ["b", "C3"])), ("12", ("12", "", []))]
    + [(b"12 name", ("12", "name", [])), (b"\xef\xbb\xbf1 name", ("1", "name", []))]
    + [("\x01na\x02me\t\x7f", ("", "name", [])), (b"\xff\xfe", ("", "\ufffd\ufffd", []))]
    + [("\u00b2 name", ("", "\u00b2", ["name"]))]
    + [("loadsgf \u592a\u3000\u90ce/a\xa0b", ("", "loadsgf", ["\u592a\u3000\u90ce/a\xa0b"]))],
)
def test_parse_line(line, parsed):
    assert parse_line(line) == parsed


def random_lines(rng: random.Random, num_lines: int) -> bytes:
    """Return lines of any bytes and of GTP's own words in any order, some of them very long."""
    words = [name for name in COMMANDS if name != "quit"]
    words += ["b", "w", "C3", "a19", "pass", "19", "-1", "1e999", "nan", "{", "none", "visits"]
    words += ["\u0663", "9" * 50, "\r", "\x07", "#", "7"]
    lines = []
    for number in range(num_lines):
        line = rng.randbytes(rng.randrange(40)).replace(b"\n", b"")
        if number % 2:
            line = " ".join(rng.choices(words, k=rng.randrange(1, 5))).encode()
        lines.append(line * 10_000 if number % 1000 == 0 else line)
    lines[num_lines // 2] = b"name" + b" " * 3_000_000
    return b"".join(line + rng.choice((b"\n", b"\r\n")) for line in lines)


def check_answers(output: str, data: bytes) -> None:
    """Check that `output` is one well-formed answer for each line of `data`, and nothing else."""
    lines = [line for line in data.split(b"\n") if any(parse_line(line))]
    answers = re.findall(r"[=?][0-9]*(?: [^\n]*)?\n(?:[^\n]+\n)*\n", output)
    assert "".join(answers) == output and output.isascii()
    assert len(answers) == len(lines)
    for answer, line in zip(answers, lines, strict=True):
        assert re.match(r"[=?]([0-9]*)", answer)[1] == parse_line(line)[0], (line[:99], answer)


def test_random_lines_are_all_answered_and_only_gtp_goes_to_stdout(tmp_path):
    data = random_lines(random.Random(1), 10_000) + b"name"  # half a line at the end
    (tmp_path / "broken").write_bytes(b"no network")
    command = [sys.executable, "-m", "minigo", "gtp", "broken"]
    done = subprocess.run(command, input=data, capture_output=True, timeout=100, cwd=tmp_path)
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr[-2000:]
    check_answers(done.stdout.decode("ascii"), data)
    assert done.stdout.endswith(b"\n\n= minigo\n\n")


def test_random_lines_with_a_network(player, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # printsgf may write there
    monkeypatch.setattr("minigo.play.engine.RESIGN_MOVES", 1)
    rng = random.Random(2)
    lines = [line for line in random_lines(rng, 600).split(b"\n") if len(line) < 1000][:500]
    moves = [b"genmove b", b"kata-analyze w 1", b"undo", b"kgs-genmove_cleanup w", b"final_score"]
    moves += [b"final_status_list seki", b"kata-set-param maxVisits 3", b"boardsize 5"]
    moves += [b"reg_genmove b", b"kgs-rules japanese", b"lz-genmove_analyze b 1", b"play w pass"]
    moves += [b"clear_board"]
    lines = [rng.choice(moves) if number % 3 == 0 else line for number, line in enumerate(lines)]
    lines = [line for line in lines if b"threads" not in line and b"boardsize 19" not in line]
    for line in lines:
        answer = player.respond(line)
        assert re.fullmatch(r"([=?][0-9]*( [^\n]*)?\n([^\n]+\n)*\n)?", answer), (line, answer)
    assert player.respond("boardsize 5") == "= \n\n" and player.respond("genmove b")[0] == "="


def test_the_clock():
    assert Clock().limit(1, 0, 9) == math.inf
    assert Clock(main_s=60).limit(1, 0, 9) == pytest.approx(60 / (0.3 * 81) - 0.2)
    byo = Clock(main_s=0, period_s=5, stones=1)
    assert 1 < byo.limit(1, 0, 9) < 5 - 0.2
    byo.left[1] = 10.0, 4
    assert byo.limit(1, 0, 9) == pytest.approx(0.9 * 2.5 - 0.2)
    clock = Clock(main_s=60)
    for num_moves in range(0, 400, 2):  # never loses on time, however long the game
        limit = clock.limit(1, num_moves, 9)
        assert limit <= max(0.05, clock.left.get(1, (60, 0))[0])
        clock.spend(1, limit)


def test_a_clients_clock(session):
    engine = session.engine
    tell(session, "time_settings 0 5 0")
    assert engine.clock.limit(1, 0, 9) == math.inf
    for line in ("time_settings 60 30 0", "time_settings 2147483647 0 0"):
        tell(session, "time_settings 1 0 0", line)
        assert engine.clock.limit(1, 0, 9) > 1e7
    tell(session, "time_settings 0 0 0")  # absolute time, and none of it
    assert engine.clock.limit(1, 0, 9) == 0.05
    tell(session, "time_settings 60 0 0")
    assert engine.clock.limit(1, 0, 9) > 1
    tell(session, "time_left b 8 4")
    assert engine.clock.limit(1, 0, 9) == pytest.approx(0.9 * 2 - 0.2)
    engine.clock.spend(2, 59)
    tell(session, "clear_board")  # a new game: all have their time again
    assert engine.clock.limit(1, 0, 9) == engine.clock.limit(2, 0, 9) > 1
    assert session.respond("time_settings 60 0").startswith("? no number of stones")


def test_time_systems(check, session):
    check("""
        > kgs-time_settings byoyomi 60 5 3
        > kgs-time_settings canadian 60 25 10
        > kgs-time_settings absolute 60
        > kgs-time_settings none
        > kgs-time_settings fischer 60 5  ? unknown time system 'fischer'
        > kgs-time_settings byoyomi 60  ? no seconds in '60'
        > time_settings nan 0 0         ? no seconds in 'nan 0 0'
        > time_left w 10                ? no number of stones in 'w 10'
        > time_left red 10 0            ? no colour in 'red 10 0'
        """)
    assert session.engine.clock.limit(1, 0, 9) == math.inf
    tell(session, "kgs-time_settings absolute 60")
    assert session.engine.clock.limit(1, 0, 9) == pytest.approx(60 / (0.3 * 81) - 0.2)
    tell(session, "kgs-time_settings byoyomi 0 1 5")
    limits = [session.engine.clock.limit(1, ply, 9) for ply in range(0, 80, 2)]
    assert all(0.3 < limit < 0.85 for limit in limits)  # 1 s a move, and never late
    tell(session, "time_left b 1 3")  # three periods, not three stones
    assert session.engine.clock.limit(1, 0, 9) == pytest.approx(0.9 - 0.2)
    tell(session, "time_settings 60 10 5", "time_left b 6 3")
    assert session.engine.clock.limit(1, 0, 9) == pytest.approx(0.9 * 2 - 0.2)


# The second has two dead stones: one on its own, one in an eye.
SEKI, DEAD_AND_ALIVE = side_by_side("""
    O X X . O O X   . X . X . . .
    O X X . O O X   X X X X X . .
    O O O O X X X   . O . . X X X
    . O . O X . X   . . . X O O O
    O O O O X X .   X X X X O . O
    O O O O X X X   O O O O O O O
    O O O O X . X   . O . O . . X""")


def test_a_seki_is_neither_dead_nor_territory(session):
    engine = session.engine
    engine.boards = [from_diagram(SEKI)]
    owner = np.array([0, 1, -1])[engine.board.stones().ravel()]
    engine.owner = lambda color: owner
    seki = session.respond("final_status_list seki")[2:].split("\n")
    assert seki[:2] == ["B7 C7 B6 C6", "E7 F7 E6 F6"] and seki[2:] == ["", ""]
    tell(session, "final_status_list dead")
    assert "B7" not in session.respond("final_status_list alive")
    tell(session, "kgs-rules japanese", "komi 0")
    assert session.respond("final_score") == "= B+1\n\n"  # three eyes against two


def test_a_game_against_itself_is_legal_and_ends(player):
    for ply in range(150):
        move = player.respond(f"genmove {'bw'[ply % 2]}")
        assert re.fullmatch(r"= ([A-E][1-5]|pass|resign)\n\n", move)
        if player.engine.board.is_over or "resign" in move:
            break
    assert player.respond("final_score")[:2] == "= "


def test_the_tree_is_kept_and_follows_undo(player):
    player.respond("genmove b")
    player.respond("genmove w")
    assert player.engine.search_at(1).forest.num_visits(0) > 0
    tell(player, "undo")
    assert player.engine.search_at(2).boards[0].hash == player.engine.board.hash
    tell(player, "play w A1", "play w A2")
    assert player.engine.search_at(1).boards[0].hash == player.engine.board.hash


@pytest.mark.parametrize("rules", ("tromp-taylor", "chinese", "japanese", "aga"))
@pytest.mark.parametrize("level", (0, 1, 9))
def test_it_never_passes_on_a_board_that_is_not_finished(network, rules, level, monkeypatch):
    monkeypatch.setattr("minigo.play.shipped.choose_network", lambda size, human: network)
    session = Session(PlayConfig(network, visits=16, level=level))
    tell(session, "boardsize 5", f"kata-set-rules {rules}", "play b pass")  # White wins the count
    assert re.fullmatch("= [A-E][1-5]\n\n", session.respond("genmove w"))
    for line in ("undo", "play w pass", "play b C3", "play w pass"):
        tell(session, line)
    move = session.respond("kata-genmove_analyze b 50").split("play ")[-1]  # Black wins it
    assert re.fullmatch("[A-E][1-5]\n\n", move)


def test_it_never_passes_while_a_region_is_disputed():
    session = Session(PlayConfig("9x9", visits=64))
    session.engine.boards = [from_diagram(DISPUTED)]
    tell(session, "play b pass")
    assert re.fullmatch("= [A-J][1-9]\n\n", session.respond("genmove w"))


DISPUTED = """
    . . O X . . . . .
    . O X . X O X . .
    . X . X . O X . .
    . . X X X O . . .
    X X X O O X X . .
    X O O O O X . X .
    O . . O O O X . .
    O . O O . X O X .
    . O . . . O . . .
"""  # more than a third of the points, and Black has passed: the search is for passing, too


@pytest.fixture
def settled(player) -> Session:
    """Return it in a position that is sure to be Black's, with a dead stone at A1."""
    tell(player, "kata-set-rules chinese")
    tell(player, *(f"play b {column}{row}" for column in "BD" for row in "12345"))
    tell(player, "play b A4", "play b E2", "play b E4", "play w A1")
    player.engine.owner = lambda color: np.ones(25)
    return player


def test_a_pass_wins_on_a_finished_board_where_every_stone_counts(settled):
    tell(settled, "kata-set-rules tromp-taylor", "komi 0.5", "play w pass")
    assert settled.respond("genmove b") == "= pass\n\n"
    tell(settled, "undo", "komi 22.5")  # only without White's dead stone
    assert re.fullmatch("= [A-E][1-5]\n\n", settled.respond("genmove b"))
    tell(settled, "undo", "komi 25.5")  # not even so
    assert settled.respond("genmove b") == "= pass\n\n"


def test_who_has_lost_a_finished_game_resigns_to_an_opponent_who_plays_on(settled):
    answers = []
    for vertex in ("pass", "A3", "C1", "C2", "C4"):
        tell(settled, f"play b {vertex}")
        answers.append(settled.respond("genmove w")[2:-2])
    assert answers == ["pass", "pass", "pass", "resign", "resign"]
    settled.engine.config = PlayConfig(settled.config.checkpoint, visits=4, resign=0)
    assert settled.respond("genmove w") == "= pass\n\n"


def test_a_lost_engine_resigns_instead_of_passing_on_and_on():
    session = Session(PlayConfig("9x9", visits=64))
    black, white = ["E5", "E3", "E7", "C5", "G3"], ["A1", "A9", "J1", "J9"]
    tell(session, *(f"play b {vertex}" for vertex in black))
    tell(session, *(f"play w {vertex}" for vertex in white))
    answers = []
    for vertex in ("B4", "G7", "C3", "C7", "F4", "F6", "D6", "E4"):
        if session.respond(f"play b {vertex}") == "= \n\n":  # unless White is there
            answers.append(session.respond("genmove w"))
    assert answers[-1] == "= resign\n\n" and "= pass\n\n" not in answers


def test_it_passes_where_nothing_is_left_to_gain(player):
    black = ["A5", "B4", "C5", "C4", "D4", "E4", "E5", "A4"]  # eyes at B5 and D5
    white = ["A3", "B3", "C3", "D3", "E3", "A2", "C2", "E2", "B1", "D1", "C1"]
    tell(player, *(f"play b {vertex}" for vertex in black))
    tell(player, *(f"play w {vertex}" for vertex in white))
    assert (player.engine.board.pass_alive() > 0).all()
    assert player.respond("genmove b") == player.respond("genmove w") == "= pass\n\n"


def test_where_dead_stones_come_off_it_passes_once_all_is_settled(settled):
    assert settled.respond("final_status_list dead") == "= A1\n\n"
    assert settled.respond("genmove b") == settled.respond("genmove w") == "= pass\n\n"


def test_where_the_network_never_learned_ownership_random_games_tell(player):
    player.engine.boards = [from_diagram(DEAD_AND_ALIVE)]  # it was trained on 5x5
    assert player.respond("final_status_list dead") == "= B5\nG1\n\n"
    owner = player.engine.owner(1)
    assert owner[1] == 1 and owner[15] > 0.7 and owner[48] == -1
    assert abs(player.engine.owner(2) - owner).max() < 0.3  # White to move


def test_a_cleanup_captures_dead_stones_before_it_passes(settled):
    moves = []
    while settled.respond("list_stones w") != "= \n\n":
        moves.append(settled.respond("kgs-genmove_cleanup b"))
        assert re.fullmatch(r"= [A-E][1-5]\n\n", moves[-1]) and len(moves) < 9, moves
    assert settled.respond("kgs-genmove_cleanup b") == "= pass\n\n"
    assert settled.respond("kgs-genmove_cleanup red").startswith("? no colour")


def follow(player: Session, shares: dict[int, float]) -> None:
    """Have people play these moves, as often as that."""
    own, logits = player.engine.network, np.full(26, -99.0)
    logits[[*shares]] = np.log([*shares.values()])
    people = SimpleNamespace(evaluate_boards=lambda boards: SimpleNamespace(logits=[logits]))
    player.engine.network = lambda is_human=False: (people, {}) if is_human else own()


def test_where_positions_go_on_so_does_the_tree(player):
    engine, first = player.engine, from_diagram(". . . . . " * 5)
    after = {move: first.copy() for move in (7, 12)}
    for move, board in after.items():
        board.play(move)
    engine.take([(0, "", first)], engine.rules)
    *_, search = engine.think(BLACK, math.inf)
    visits = search.forest.moves(0)["visits"].tolist()
    engine.take([(0, "", first.copy()), (1, "B", after[12])], engine.rules)
    assert engine.search_at(3 - BLACK).forest.num_visits(0) == visits[12] > 0
    engine.take([(0, "", first.copy()), (1, "B", after[7])], engine.rules)
    assert engine.board is after[7] and engine.search_at(3 - BLACK).forest.num_visits(0) == 0


def test_a_level_draws_its_moves_from_what_people_play(player, network, monkeypatch):
    monkeypatch.setattr("minigo.play.shipped.choose_network", lambda size, human: network)
    follow(player, {6: 0.6, 18: 0.4})  # B4 and D2
    for people in ({"level": 1}, {"rank": "5k"}):
        player.engine.config = PlayConfig(network, **people)
        moves = {player.respond("reg_genmove b")[2:4] for _ in range(40)}
        assert moves == {"B4", "D2"}
    player.engine.config = PlayConfig(network, level=9)  # thinks nine times, and D2 is better
    result = SimpleNamespace(moves={"visits": np.eye(26)[18]})
    moves = [player.engine._move_like_a_person(BLACK, list(range(26)), result) for _ in range(50)]
    assert moves.count(18) > 40
    del player.engine.network
    assert re.fullmatch(r"= [A-E][1-5]\n\n", player.respond("genmove b"))


def retake(player: Session) -> None:
    """Set up a ko that White may not retake, although Black has passed since he took."""
    tell(player, "kata-set-rules aga", "set_position b C4 b B3 b C2 w C3 w D4 w D2 w E3")
    tell(player, "play b D3", "play w pass", "play b pass")
    assert player.respond("play w C3").startswith("? illegal move")


def prefer(player: Session, moves: list[int]) -> None:
    """Have the network like these moves, the first one most, and think that all is even."""
    logits = np.full(26, -5.0, np.float32)
    logits[moves] = 8.0, 4.0

    def begin(positions: np.ndarray):
        even, priors = np.zeros(len(positions), np.float32), np.tile(logits, (len(positions), 1))
        return lambda: SimpleNamespace(logits=priors, value=even, score=even)

    network = SimpleNamespace(begin=begin)
    player.engine.network = lambda: (network, {})
    player.engine.owner = lambda color: np.zeros(25)


def test_where_the_best_move_is_a_superko_it_plays_the_next_best(player):
    retake(player)
    prefer(player, [12, 6])  # C3, where the ko is, and B4
    assert player.respond("reg_genmove w") == "= B4\n\n"
    assert player.engine.search_at(2).result(0).move == 12  # the search doesn't know the history
    prefer(player, [12, 25])  # and pass
    assert player.respond("genmove w") == "= pass\n\n"


def test_a_level_never_draws_a_superko(player, network):
    retake(player)
    prefer(player, [12, 6])
    follow(player, {12: 0.999, 24: 0.001})  # C3 and E1
    for level in (1, 9):
        player.engine.config = PlayConfig(network, level=level)
        assert player.respond("reg_genmove w") == "= E1\n\n"


def test_a_size_that_the_network_does_not_know_is_said_on_stderr(player, capsys):
    player.respond("genmove b")
    assert capsys.readouterr().err == ""
    for line in ("boardsize 4", "genmove b", "genmove w"):
        player.respond(line)
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and "trained on 5x5 alone: on 4x4 it guesses" in errors


def test_a_clock_loads_the_network_and_no_move_is_late(player):
    tell(player, "time_settings 0 1 1")
    assert player.engine.networks
    tell(player, "boardsize 6")
    for color in "bwbw":
        started = time.monotonic()
        assert player.respond(f"genmove {color}")[:2] == "= "
        assert time.monotonic() - started < 1


def test_settings_change_while_it_plays(player):
    for visits in (40, 4):
        tell(player, "clear_board", f"kata-set-param maxVisits {visits}")
        player.respond("reg_genmove b")
        assert visits <= player.engine.search_at(1).forest.num_visits(0) < visits + 8


@pytest.mark.parametrize(
    "limits, clock, leaves",
    [({}, "", 6), ({"visits": 200}, "", 6)]  # 200 is the default
    + [({"visits": 0}, "", 1), ({"visits": 64, "time_s": 5.0}, "", 2), ({"visits": 1000}, "", 8)]
    + [({"level": 9}, "", 4), ({"level": 9, "visits": 1000}, "time_settings 60 0 0", 4)]
    + [({"time_s": 5.0}, "", 8), ({}, "time_settings 60 0 0", 8)],
)
def test_the_leaves_follow_from_the_budget(player, limits, clock, leaves):
    player.engine.config = PlayConfig(player.config.checkpoint, **limits)
    assert player.respond(clock) in ("", "= \n\n")
    assert player.engine.search_at(1).config.leaves == leaves


def test_a_clock_that_comes_late_changes_the_leaves(player):
    player.engine.config = PlayConfig(player.config.checkpoint)
    assert player.engine.search_at(1).config.leaves == 6
    player.respond("time_settings 60 0 0")
    assert player.engine.search_at(1).config.leaves == 8
    player.respond("kgs-time_settings none")
    assert player.engine.search_at(1).config.leaves == 6


def test_thinking_ends_when_the_tree_is_full(player):
    player.engine.config = PlayConfig(player.config.checkpoint, visits=1 << 30)
    player.engine.search_at(1).forest.max_edges = 500
    for line in ("reg_genmove b", "kata-genmove_analyze b 1"):
        assert player.respond(line)[0] == "="
    assert player.engine._search.forest.num_visits(0) < 50


def test_the_winrate_is_that_of_the_colour_asked_about():
    session = Session(PlayConfig("9x9", visits=20))
    session.respond("fixed_handicap 4")
    wins = []
    for line in ("kata-analyze b 1", "kata-analyze w 1", "lz-analyze b 1", "lz-analyze w 1"):
        wins.append(float(re.search(r" winrate (\S+) .* order 0 ", session.respond(line))[1]))
    assert wins[0] > 0.7 and wins[1] < 0.3 and wins[2] > 7000 and wins[3] < 3000


def test_a_win_by_half_a_point_is_a_certain_win(player):
    tell(player, "komi 24.5", "play b C3", "play w pass")
    search = player.engine.search_at(BLACK)
    search.forest.reset(0, player.engine.board)  # analysed as it is, a second pass ends the game
    search.run(16)
    _, shown, avoided = gtp._parse_analysis(player.engine, ())
    line = gtp._format_infos(search, False, shown, avoided[BLACK].tolist())
    assert " winrate 1.000000 " in re.search("info move pass .*", line)[0]


@pytest.mark.parametrize("colors", ["bwbwb", "bbb"])
def test_it_resigns_when_a_colour_has_looked_lost_for_some_moves_of_its_own(player, colors):
    player.engine.config = PlayConfig(player.config.checkpoint, visits=4, resign=0.999)
    moves = [player.respond(f"genmove {color}") for color in colors]
    assert moves[-1] == "= resign\n\n" and "= resign\n\n" not in moves[:-1]
    assert player.engine.board.num_moves == len(colors) - 1
    tell(player, "clear_board", "set_free_handicap A1 E5")
    assert "= resign\n\n" not in [player.respond("genmove w") for _ in range(6)]
    assert "= resign\n\n" in [player.respond("genmove w") for _ in range(3)]


def test_final_status_list(settled):
    del settled.engine.owner  # the network's guess, but A1 is in pass-alive territory
    assert settled.respond("final_status_list dead") == "= A1\n\n"
    assert settled.respond("final_status_list alive").count("\n") == 3
    tell(settled, "final_status_list seki")
    assert settled.respond("final_score") == "= B+18\n\n"
    tell(settled, "kata-set-rules japanese")
    assert settled.respond("final_score") == "= B+6\n\n"  # 12 empty points, 1 dead stone, komi 7
    assert settled.respond("final_status_list ill").startswith("? invalid status")


KATA = (
    r"info move \S+ visits \d+ winrate [01]\.\d+ prior [01]\.\d+ scoreMean -?\d+\.\d+"
    r" scoreLead -?\d+\.\d+ order \d+ pv( [A-E][1-5]| pass)+"
)
OWNERSHIP = r" ownership( -?[01]\.\d{3}){25}"
LZ = r"info move \S+ visits \d+ winrate \d+ prior \d+ order \d+ pv( [A-E][1-5]| pass)+"


def test_analysis(player):
    answer = player.respond("4 kata-analyze b 10")
    assert re.fullmatch(rf"=4\n{KATA}( {KATA})*\n\n", answer)
    answer = player.respond("lz-analyze 10")
    assert re.fullmatch(rf"=\n{LZ}( {LZ})*\n\n", answer)
    assert " order 0 " in answer.split("info")[1]
    answer = player.respond("kata-analyze w interval 10 ownership true maxmoves 5")
    assert re.search(rf"{OWNERSHIP}\n\n$", answer)
    for line in ("kata-analyze b x", "lz-analyze b 1e99", "kata-analyze ownership"):
        assert player.respond(line).startswith("? ")


def analyze(player: Session, keys: str, color: str = "b") -> list[str]:
    """Return the moves of an analysis, the best first."""
    return re.findall(r"info move (\S+)", player.respond(f"kata-analyze {color} 10 {keys}"))


@pytest.mark.parametrize(
    "keys, allowed, avoided",
    [
        ("allow b A1,A2 1", "A1 A2", ""),
        ("allow B a1,pass, 100 allow w A2 3", "A1 pass", ""),
        ("avoid b C3,B3 1 avoid b D3,pass 100", "", "C3 B3 D3 pass"),
        ("avoid w C3 100", "", ""),
    ],
)
def test_an_analysis_without_some_moves(player, keys, allowed, avoided):
    everything = set(analyze(player, "minmoves 26"))
    moves = set(allowed.split()) or everything - set(avoided.split())
    for name in ("kata", "lz"):
        answer = player.respond(f"{name}-analyze b 10 {keys} minmoves 26")
        assert set(re.findall(r"info move (\S+)", answer)) == moves
        for _ in range(3):
            move = player.respond(f"{name}-genmove_analyze b 10 {keys}").split()[-1]
            assert move in moves
            tell(player, "undo")
    assert set(analyze(player, "minmoves 26")) == everything  # the tree is as ever
    assert not player.engine.avoided.any()


@pytest.mark.parametrize("depth, first", [(99, 99), (1, 1)])
def test_moves_are_avoided_until_a_depth(player, depth, first):
    """They are of Black's moves, at depths 0, 2, ..., and White's, at 1, 3, ..., before that."""
    keys = f"avoid b C3,D4,B2 {depth} allow w A1,E5,A5,pass {depth} minmoves 26"
    answer, deep = player.respond(f"kata-analyze b 100 {keys}"), 0
    for variation in re.findall(r"pv ((?:[A-E][1-5] ?|pass ?)+)", answer):
        for ply, move in enumerate(variation.split()):
            is_avoided = move not in "A1 E5 A5 pass" if ply % 2 else move in "C3 D4 B2"
            assert not is_avoided or ply >= first, variation
            deep += is_avoided
    assert (deep > 0) == (depth < 99)


@pytest.mark.parametrize(
    "keys",
    ["x 50", "red", "b 50 avoid", "b 50 avoid b", "b 50 avoid b C3", "b 50 avoid x C3 1"]
    + ["b 50 minmoves null", "b 50 interval []", "b 50 interval " + "[" * 5000]
    + ["b 50 avoid b C9 1", "b 50 avoid b C3 0", "b 50 avoid b C3 x", "b 50 allow b C3 9999999999"]
    + ["b allow b C3 1 allow b D3 1", "b allow b C3 1 avoid b D3 1", "b avoid b C3 1 allow b D3 1"]
    + ["b 50 movesOwnership true", "b 50 pvEdgeVisits true", "b 50 ownership maybe"]
    + ["b interval -1", "b 50 maxmoves 0", "b 50 minmoves -1", "b 50 minmoves 2.5"]
    + ["b 50 maxmoves", "b 50 ponder true"],
)
def test_what_an_analysis_cannot_do_is_refused(player, keys):
    for command in ("kata-analyze", "lz-genmove_analyze"):
        answer = player.respond(f"{command} {keys}")
        assert answer == f"? syntax error: '{keys[:60]}'\n\n"


def test_an_analysis_of_no_legal_move_is_refused(player):
    tell(player, "play w C3")
    answer = player.respond("kata-analyze b 10 allow b C3 1")
    assert answer == "? no legal move is allowed\n\n"
    assert analyze(player, "allow w B3 1")


def test_what_an_analysis_shows(player):
    answer = player.respond("kata-analyze b 10 minmoves 20 maxmoves 15 rootInfo true pvVisits true")
    info = KATA + r" pvVisits( \d+)+"
    root = r" rootInfo visits \d+ winrate [01]\.\d+ scoreLead -?\d+\.\d+"
    assert re.fullmatch(rf"=\n{info}( {info}){{14}}{root}\n\n", answer)
    for pv, visits in re.findall(r"pv (.+?) pvVisits((?: \d+)+)", answer):
        assert len(pv.split()) == len(visits.split())
    assert analyze(player, "maxmoves 1 minmoves 5") == analyze(player, "")[:1]
    assert len(analyze(player, "minmoves 26.0")) == 26


def test_analysis_with_a_move(player):
    answer = player.respond("kata-genmove_analyze b 10")
    assert re.fullmatch(rf"=\n({KATA}( {KATA})*\n)+play [A-E][1-5]\n\n", answer)
    assert player.engine.board.num_moves == 1
    answer = player.respond("lz-genmove_analyze w 10 ownership true")
    assert re.fullmatch(rf"=\n({LZ}( {LZ})*{OWNERSHIP}\n)+play ([A-E][1-5]|pass)\n\n", answer)
    player.engine.config = PlayConfig(player.config.checkpoint, visits=4, resign=0.999)
    player.engine._num_lost[BLACK] = 2
    assert player.respond("kata-genmove_analyze b").endswith("play resign\n\n")
    assert player.engine.board.num_moves == 2


class Client:
    """An engine that `serve` runs in a thread, as a client sees it through pipes."""

    def __init__(self, session: Session):
        read_end, self._write_end = os.pipe()
        self.pieces: list[str] = []
        stdin = open(read_end, "rb", buffering=0)  # noqa: SIM115 - closed with the process
        arguments = (session, stdin, self.pieces.append)
        self.thread = threading.Thread(target=serve, args=arguments, daemon=True)
        self.thread.start()

    def send(self, data: bytes) -> None:
        os.write(self._write_end, data)

    def wait_for(self, text: str, timeout_s: float = 20.0) -> str:
        """Wait until `text` has come, and return all that came up to then."""
        deadline = time.monotonic() + timeout_s
        while text not in "".join(self.pieces):
            assert time.monotonic() < deadline, self.pieces
            time.sleep(0.005)
        return "".join(self.pieces)


def test_any_line_interrupts_an_analysis(player):
    client = Client(player)
    client.send(b"kata-analyze b 1\n")
    client.wait_for("info move")
    time.sleep(0.1)
    client.send(b"7 protocol_version\r\n")
    output = client.wait_for("=7 2\n\n")
    assert output.startswith("=\ninfo move") and output.endswith("\n\n=7 2\n\n")
    assert output.count("\n\n") == 2 and output.count("info move") > 2
    client.send(b"lz-analyze 1\nstop\nquit\n")
    client.thread.join(20)
    assert not client.thread.is_alive() and "".join(client.pieces).endswith("\n\n= \n\n= \n\n")


def test_it_ponders_until_the_next_line(player):
    player.config = player.engine.config = PlayConfig(player.config.checkpoint, 16, ponder=True)
    client = Client(player)
    client.send(b"genmove b\n")
    client.wait_for("\n\n")
    time.sleep(0.3)
    client.send(b"undo\n5 name\n")
    client.wait_for("=5 minigo\n\n")
    assert player.engine._search.forest.num_visits(0) > 40
    assert player.engine._search.boards[0].to_play == 2


def test_an_error_while_it_ponders_is_said_once_and_the_session_goes_on(network, capsys):
    session = Session(PlayConfig(network, visits=4, ponder=True))
    session.respond("boardsize 5")
    calls, has_pondered = [], threading.Event()

    think = session.engine.think

    def ponder(color: int, interval_s: float, is_endless: bool = False):
        if not is_endless:
            return think(color, interval_s)
        calls.append(session.engine.board.num_moves)
        has_pondered.set()
        raise RuntimeError("CUDA error:\nout of memory")

    session.engine.think = ponder
    client = Client(session)
    client.send(b"genmove b\n")
    assert has_pondered.wait(20)
    for number in range(3):
        client.send(b"%d name\n" % number)
        client.wait_for(f"={number} minigo\n\n")
        time.sleep(0.02)
    assert calls == [1]
    has_pondered.clear()
    client.send(b"genmove w\n")  # the next move of its own: once more
    assert has_pondered.wait(20)
    client.send(b"quit\n")
    client.thread.join(20)
    assert not client.thread.is_alive() and calls == [1, 2]
    line = "minigo: cannot think ahead: CUDA error: out of memory\n"
    assert capsys.readouterr().err == 2 * line


def test_a_missing_network_does_not_end_a_session_that_ponders(capsys):
    session = Session(PlayConfig("no-such-network", ponder=True))
    client = Client(session)
    stones = "b A4 b B4 b C4 b D4 b E4 b B5 b D5 w A3 w B3 w C3 w D3 w E3 w B2 w D2 w A1 w C1 w E1"
    client.send(b"boardsize 5\nset_position %s\n" % stones.encode())
    client.send(b"play b pass\ngenmove w\n")  # finished for certain: no network is needed
    client.wait_for("= pass\n\n")
    time.sleep(0.5)
    client.send(b"name\nquit\n")
    client.wait_for("= minigo\n\n")
    assert re.fullmatch("minigo: .*no-such-network.*\n", capsys.readouterr().err)


def test_quit_cuts_thinking_short(player):
    player.engine.config = PlayConfig(player.config.checkpoint, time_s=60.0)
    client = Client(player)
    client.send(b"genmove b\n")
    time.sleep(0.3)
    client.send(b"quit\n")
    client.thread.join(4)
    assert not client.thread.is_alive()


def test_commands_of_a_file_have_all_their_time(player, monkeypatch):
    monkeypatch.setattr(gtp, "QUIT_GRACE_S", -1.0)  # what `quit` finds under way ends at once
    player.respond("boardsize 5")
    player.engine.config = PlayConfig(player.config.checkpoint, visits=300)
    serve(player, io.BytesIO(b"name\ngenmove b\nquit\n"), lambda piece: time.sleep(0.1))
    assert player.engine._search.forest.num_visits(0) > 100


def test_the_end_of_input_ends_the_session(session):
    client = Client(session)
    client.send(b"name\nversion")
    os.close(client._write_end)
    client.thread.join(5)
    assert not client.thread.is_alive()
    assert "".join(client.pieces).startswith("= minigo\n\n= ")


@pytest.mark.parametrize(
    "needless, lines, answers",
    [
        ("numpy torch tomllib", b"protocol_version\nknown_command play\n", ["= 2", "= true"]),
        (
            "torch",
            b"boardsize 9\nplay b C3\nundo\n\xff\x00\n",
            ["= ", "= ", "= ", "? unknown command '\\ufffd'"],
        ),
    ],
)
def test_no_answer_waits_for_a_library_that_it_does_not_need(tmp_path, needless, lines, answers):
    code = (
        "import sys; from minigo.cli import main; status = main(['gtp']);"
        "print(*set(sys.argv) & set(sys.modules), file=sys.stderr); sys.exit(status)"
    )
    command = [sys.executable, "-c", code, *needless.split()]
    data = b"name\n1 list_commands\nversion\n" + lines + b"quit\n"
    done = subprocess.run(command, input=data, capture_output=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == b"\n"
    first, second, _, *others = done.stdout.decode().split("\n\n")
    assert first == "= minigo" and second.startswith("=1 protocol_version\n")
    assert others == [*answers, "= ", ""]


def test_an_idle_program_imports_openvino_and_still_answers_and_quits(tmp_path):
    pytest.importorskip("openvino")
    code = (
        "import os, sys, minigo.play.gtp; from minigo.cli import main; exit = os._exit;"
        "os._exit = lambda status: exit(7 if 'openvino' in sys.modules else 8);"
        "minigo.play.gtp.IDLE_S = 0.05; main(['gtp'])"
    )
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, bufsize=0, cwd=tmp_path, **pipes) as program:
        program.stdin.write(b"name\n")
        program.stdin.flush()
        assert program.stdout.readline() == b"= minigo\n"
        time.sleep(1.5)
        output, errors = program.communicate(b"play b C3\nquit\n", timeout=60)
    assert (output, errors, program.returncode) == (b"\n= \n\n= \n\n", b"", 7)
