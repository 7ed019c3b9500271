"""GTP: transcripts of what is sent and what comes back, and input that nobody should send."""

import json
import os
import random
import re
import subprocess
import sys
import threading
import time

import pytest

from minigo.config import RULES, PlayConfig
from minigo.engine import Clock
from minigo.gtp import COMMANDS, Session, describe_commands, parse_line, serve


@pytest.fixture
def session() -> Session:
    """Return an engine whose network isn't there."""
    return Session(PlayConfig(checkpoint="no-such-network"))


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> str:
    """Return the path of a tiny network with random weights."""
    torch = pytest.importorskip("torch")
    from minigo.checkpoint import save_checkpoint
    from minigo.network import PolicyValueNet

    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("networks") / "tiny.pt"
    weights = PolicyValueNet("b1c8").state_dict()
    save_checkpoint(path, network="b1c8", weights=weights, info={"size": 5})
    return str(path)


@pytest.fixture
def player(network) -> Session:
    """Return an engine with a network, on 5x5."""
    session = Session(PlayConfig(network, visits=16))
    session.respond("boardsize 5")
    return session


def check(session: Session, transcript: str) -> None:
    """Play a transcript: lines with ">" are sent, those after them are the whole answer."""
    sent, expected = None, []
    for line in [line.strip() for line in transcript.strip().split("\n")] + ["> "]:
        if not line.startswith(">"):
            expected.append(line)
            continue
        if sent is not None:
            answer = [row.strip() for row in session.respond(sent).rstrip("\n").split("\n")]
            assert answer == expected, sent
        sent, expected = line[2:], []


def test_the_first_questions(session):
    check(
        session,
        """
        > protocol_version
        = 2
        > 17 name
        =17 minigo
        > known_command genmove
        = true
        > known_command dance
        = false
        > 3 dance
        ?3 unknown command 'dance'
        > get_komi
        = 7
        > komi 6.5
        =
        > get_komi
        = 6.5
        > komi 6.3
        ? komi 6.3 is not a whole or half number
        > komi much
        ? no komi in 'much'
        > boardsize 26
        ? board size 26 is not between 2 and 19
        > boardsize 1
        ? board size 1 is not between 2 and 19
        > boardsize
        ? no size in ''
        > quit
        =
        """,
    )
    assert session.has_quit
    assert session.respond("list_commands").split() == ["=", *COMMANDS]
    assert session.respond("version").startswith("= 0.")


def test_playing_and_taking_back(session):
    check(
        session,
        """
        > boardsize 5
        =
        > play b A1
        =
        > play W a2
        =
        > play w b1
        =
        > captures w
        = 1
        > captures black
        = 0
        > list_stones w
        = A2 B1
        > list_stones b
        =
        > play b b1
        ? illegal move: Black may not play B1: the point is taken
        > play b C9
        ? 'C9' is not a vertex of a 5x5 board
        > play b
        ? '' is not a vertex of a 5x5 board
        > play red C3
        ? no colour in 'red C3'
        > play b pass
        =
        > play w PASS
        =
        > play b C3
        =
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
        =
        > undo
        =
        > undo
        =
        > undo
        =
        > list_stones b
        = A1
        > undo
        =
        > undo
        =
        > undo
        ? cannot undo
        """,
    )


def test_handicap(session):
    check(
        session,
        """
        > fixed_handicap 3
        = C3 G7 C7
        > fixed_handicap 2
        ? board not empty
        > undo
        ? cannot undo
        > boardsize 19
        =
        > fixed_handicap 9
        = D4 Q16 D16 Q4 D10 Q10 K16 K4 K10
        > boardsize 13
        =
        > fixed_handicap 7
        = D4 K10 D10 K4 D7 K7 G7
        > boardsize 8
        =
        > fixed_handicap 5
        ? invalid number of stones 5
        > place_free_handicap 5
        = C3 F6 C6 F3
        > clear_board
        =
        > set_free_handicap A1
        ? bad vertex list 'A1'
        > set_free_handicap A1 A1
        ? there is a stone at A1 already
        > set_free_handicap A1 pass
        ? move 64 is not a point of a 8x8 board
        > set_free_handicap A1 B2
        =
        > list_stones b
        = B2 A1
        > play w C3
        =
        > play b C4
        =
        """,
    )


def test_rules(session):
    rules = json.loads(session.respond("kata-get-rules")[2:])
    assert (rules["ko"], rules["score"], rules["suicide"]) == ("POSITIONAL", "AREA", True)
    session.respond("komi 6.5")
    assert session.respond("kata-set-rules japanese") == "= \n\n"
    assert (
        session.engine.board.rules.scoring == "territory" and session.engine.board.rules.komi == 6.5
    )
    assert session.respond('kata-set-rules {"ko": "SITUATIONAL", "score":"AREA"}') == "= \n\n"
    assert (
        session.engine.board.rules.ko == "situational"
        and session.engine.board.rules.scoring == "area"
    )
    for text in ("", "ing", "{", "[]", '{"ko": 7}', '{"ko": "SOME"}', "[" * 5000):
        assert session.respond(f"kata-set-rules {text}").startswith("? unknown rules")


def test_final_score_under_tromp_taylor_counts_the_board(session):
    check(
        session,
        """
        > boardsize 5
        =
        > final_score
        = W+7
        > play b C3
        =
        > final_score
        = B+18
        > komi 25
        =
        > final_score
        = 0
        """,
    )


def test_sgf_goes_out_and_comes_in(session, tmp_path):
    path = tmp_path / "a game.sgf"
    for line in ("boardsize 5", "komi 3.5", "play b C3", "play w D4", "play w A1"):
        session.respond(line)
    stones = str(session.engine.board)
    text = session.respond("printsgf")
    assert text.startswith("= (;FF[4]") and "\n\n" not in text[:-2] and "KM[3.5]" in text
    assert session.respond(f"printsgf {path}") == "= \n\n"
    session.respond("boardsize 9")
    session.respond("komi 7")
    assert session.respond(f"loadsgf {path}") == "= \n\n"
    assert str(session.engine.board) == stones and session.engine.board.rules.komi == 3.5
    assert session.respond(f"loadsgf {path} 2") == "= \n\n"
    assert session.respond("list_stones b") == "= C3\n\n"
    assert session.respond("list_stones w") == "= \n\n"
    assert session.respond("undo") == "= \n\n" and session.respond("undo").startswith("?")


def test_a_broken_sgf_leaves_the_game_as_it_was(session, tmp_path):
    path = tmp_path / "broken.sgf"
    path.write_bytes(b"(;SZ[9];B[aa];W[aa])")
    session.respond("play b C3")
    assert session.respond(f"loadsgf {path}") == f"? cannot load file '{path}': illegal move\n\n"
    assert session.respond(f"loadsgf {tmp_path}").startswith("? cannot load file")
    assert session.respond("loadsgf").startswith("? cannot load file")
    assert session.respond("printsgf /no/such/folder/file").startswith("? ")
    assert session.respond("list_stones b") == "= C3\n\n"


def test_set_up_stones_survive_printsgf(session, tmp_path):
    session.respond("set_free_handicap A1 B2")
    session.respond("play w C3")
    session.respond(f"printsgf {tmp_path}/game.sgf")
    stones = str(session.engine.board)
    session.respond("clear_board")
    session.respond(f"loadsgf {tmp_path}/game.sgf")
    assert str(session.engine.board) == stones and session.engine.board.to_play == 1


def test_a_command_that_needs_a_missing_network_is_refused(session):
    for line in ("genmove b", "kata-analyze b 10", "kata-raw-nn", "final_status_list dead"):
        answer = session.respond(line)
        assert answer.startswith("? ") and "no-such-network" in answer and answer.endswith("\n\n")
    assert session.respond("list_stones b") == "= \n\n"


@pytest.mark.parametrize(
    "line, parsed",
    [
        ("", None),
        ("  \t\r", None),
        ("# a comment", None),
        ("play b C3 # why not\r", ("", "play", ["b", "C3"])),
        (b"12 name", ("12", "name", [])),
        ("12", ("12", "", [])),
        ("\x01na\x02me\t\x7f", ("", "name", [])),
        (b"\xff\xfe", ("", "\ufffd\ufffd", [])),
        ("\u00b2 name", ("", "\u00b2", ["name"])),
    ],
)
def test_parse_line(line, parsed):
    assert parse_line(line) == parsed


def test_random_lines_are_all_answered(session):
    random_ = random.Random(1)
    names = [name for name in COMMANDS if name not in ("printsgf", "quit")]
    words = [
        *names,
        "b",
        "w",
        "C3",
        "a19",
        "pass",
        "19",
        "-1",
        "1e999",
        "nan",
        "{",
        "\u0663",
        "9" * 50,
    ]
    for number in range(10_000):
        if number % 2:
            line = random_.randbytes(random_.randrange(40)).replace(b"\n", b"")
        else:
            line = " ".join(random_.choices(words, k=random_.randrange(1, 5))).encode()
        if number % 1000 == 0:
            line = line * 10_000
        answer = session.respond(line)
        if parse_line(line) is None:
            assert answer == ""
            continue
        assert re.fullmatch(r"[=?][0-9]*( [^\n]*)?\n([^\n]+\n)*\n", answer), (line[:99], answer)
        assert answer.isascii()
    assert session.respond("name") == "= minigo\n\n"


def test_the_clock():
    assert Clock().limit(1, 0, 9) is None
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
    session = Session()
    assert (
        session.respond("time_settings 0 5 0") == "= \n\n"
        and session.engine.clock.limit(1, 0, 9) is None
    )
    assert (
        session.respond("time_settings 60 0 0") == "= \n\n"
        and session.engine.clock.limit(1, 0, 9) > 1
    )
    assert session.respond("time_left b 8 4") == "= \n\n"
    assert session.engine.clock.limit(1, 0, 9) == pytest.approx(0.9 * 2 - 0.2)
    assert session.respond("time_settings 60 0").startswith("? no number of stones")


@pytest.mark.parametrize("options", [{"visits": -1}, {"time_s": 0.0}, {"resign": 1.5}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=str(*options.values())):
        PlayConfig(**options)


def test_every_command_has_its_line_of_help():
    lines = describe_commands().split("\n")
    assert len(lines) == len(COMMANDS) and all(len(line.split()) > 1 for line in lines)


# ---- with a network ----


def test_a_game_against_itself_is_legal_and_ends(player):
    for ply in range(150):
        move = player.respond(f"genmove {'bw'[ply % 2]}")
        assert re.fullmatch(r"= ([A-E][1-5]|pass|resign)\n\n", move)
        if player.engine.board.is_over or "resign" in move:
            break
    assert player.respond("final_score")[:2] == "= "


def test_reg_genmove_leaves_the_board_alone(player):
    move = player.respond("reg_genmove b")
    assert re.fullmatch(r"= ([A-E][1-5]|pass)\n\n", move)
    assert player.respond("list_stones b") == "= \n\n"


def test_the_tree_is_kept_and_follows_undo(player):
    player.respond("genmove b")
    player.respond("genmove w")
    assert player.engine.search_at(1).result(0).num_visits > 0
    player.respond("undo")
    assert player.engine.search_at(2).boards[0].hash == player.engine.board.hash
    player.respond("play w A1")
    player.respond("play w A2")
    assert player.engine.search_at(1).boards[0].hash == player.engine.board.hash


def test_it_passes_after_a_pass_that_loses(player):
    for line in ("komi 0.5", "play b C3", "play w pass"):
        player.respond(line)
    assert player.respond("genmove b") == "= pass\n\n"
    assert re.fullmatch(r"= [A-E][1-5]\n\n|= pass\n\n", player.respond("genmove w"))  # it's over


def test_it_passes_where_nothing_is_left_to_gain(player):
    black = ["A5", "B4", "C5", "C4", "D4", "E4", "E5", "A4"]  # eyes at B5 and D5
    white = ["A3", "B3", "C3", "D3", "E3", "A2", "C2", "E2", "B1", "D1", "C1"]
    for color, vertices in (("b", black), ("w", white)):
        for vertex in vertices:
            assert player.respond(f"play {color} {vertex}") == "= \n\n"
    assert (player.engine.board.pass_alive() > 0).all()
    assert player.respond("genmove b") == player.respond("genmove w") == "= pass\n\n"


def test_it_resigns_when_it_has_looked_lost_for_some_moves(player, monkeypatch):
    player.engine.config = PlayConfig(player.config.checkpoint, visits=4, resign=0.999)
    moves = [player.respond("genmove b") for _ in range(3)]
    assert moves[-1] == "= resign\n\n" and "= resign\n\n" not in moves[:2]
    assert len(player.engine.moves) == 2


def test_final_status_list(player):
    player.respond("kata-set-rules chinese")
    for column in "BD":
        for row in "12345":
            player.respond(f"play b {column}{row}")
    for vertex in ("A4", "E2", "E4"):
        player.respond(f"play b {vertex}")
    player.respond("play w A1")
    assert player.respond("final_status_list dead") == "= A1\n\n"  # in pass-alive territory
    assert player.respond("final_status_list alive").count("\n") == 3
    assert player.respond("final_status_list seki") == "= \n\n"
    assert player.respond("final_score") == "= B+18\n\n"
    player.respond("kata-set-rules japanese")
    assert player.respond("final_score") == "= B+6\n\n"  # 12 empty points, 1 dead stone, komi 7
    assert player.respond("final_status_list ill").startswith("? invalid status")


def test_raw_network_output(player):
    lines = player.respond("kata-raw-nn 0").strip().split("\n")
    assert lines[0] == "= symmetry 0" and len(lines) == 6 + 5 + 2 + 5
    at = lines.index("policy")
    policy = [float(p) for row in lines[at + 1 : at + 6] for p in row.split()]
    assert lines[at + 6].startswith("policyPass 0.")
    assert sum(policy) + float(lines[at + 6].split()[1]) == pytest.approx(1, abs=1e-4)
    assert lines[at + 7] == "whiteOwnership"


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
    assert re.search(r" ownership( -?[01]\.\d{3}){25}\n\n$", answer)
    for line in ("kata-analyze b x", "lz-analyze b 1e99", "kata-analyze ownership"):
        assert player.respond(line).startswith("? ")


def test_analysis_with_a_move(player):
    answer = player.respond("kata-genmove_analyze b 10")
    assert re.fullmatch(rf"=\n({KATA}( {KATA})*\n)+play [A-E][1-5]\n\n", answer)
    assert len(player.engine.moves) == 1
    answer = player.respond("lz-genmove_analyze w 10 ownership true")
    assert re.fullmatch(rf"=\n({LZ}( {LZ})*{OWNERSHIP}\n)+play ([A-E][1-5]|pass)\n\n", answer)
    player.engine.config = PlayConfig(player.config.checkpoint, visits=4, resign=0.999)
    player.engine._num_lost = 2
    assert player.respond("kata-genmove_analyze b").endswith("play resign\n\n")
    assert len(player.engine.moves) == 2


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


def test_quit_cuts_thinking_short(player):
    player.engine.config = PlayConfig(player.config.checkpoint, time_s=60.0)
    client = Client(player)
    client.send(b"genmove b\n")
    time.sleep(0.3)
    client.send(b"quit\n")
    client.thread.join(4)
    assert not client.thread.is_alive()


def test_the_end_of_input_ends_the_session(session):
    client = Client(session)
    client.send(b"name\nversion")
    os.close(client._write_end)
    client.thread.join(5)
    assert not client.thread.is_alive()
    assert "".join(client.pieces).startswith("= minigo\n\n= ")


def test_the_program_answers_without_torch_and_only_gtp_goes_to_stdout(tmp_path):
    code = (
        "import sys; from minigo.cli import main; status = main(['gtp', 'nowhere']);"
        "assert 'torch' not in sys.modules; sys.exit(status)"
    )
    lines = b"name\n1 list_commands\nboardsize 9\nplay b C3\nundo\n\xff\x00\nquit\n"
    done = subprocess.run(
        [sys.executable, "-c", code], input=lines, capture_output=True, timeout=60, cwd=tmp_path
    )
    assert done.returncode == 0 and done.stderr == b""
    answers = done.stdout.decode().split("\n\n")
    assert answers[0] == "= minigo" and answers[1].startswith("=1 protocol_version\n")
    assert answers[2:] == ["= ", "= ", "= ", "? unknown command '\\ufffd'", "= ", ""]


def test_the_presets_are_those_of_the_rules(session):
    for name in RULES:
        assert session.respond(f"kata-set-rules {name}") == "= \n\n"
