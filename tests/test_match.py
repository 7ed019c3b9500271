"""Matches: results, colours, programs that misbehave, and the arithmetic of Elo."""

import shutil
import sys
import time

import numpy as np
import pytest

from minigo._board import Board
from minigo.config import RULES, Rules
from minigo.evaluator import Evaluation, Evaluator, load_evaluator
from minigo.play import match as arena
from minigo.play.match import MatchConfig, find_gnugo, match, parse_player
from minigo.play.program import GtpProgram, ProgramError
from minigo.play.shipped import Turned
from minigo.sgf import load_games

# A GTP program that plays its arguments, one for each genmove, then passes. "die", "silent" and
# "chatter" do so instead of answering, "A1-die" after it; words before genmove's moves:
# --cleanup=A1,B2 are the moves of kgs-genmove_cleanup, --score=B+1 is its count, --refuse=C3 a move
# it doesn't take. A handicap's stones are its count.
PROGRAM = r"""
import sys, time
options = dict(a[2:].split("=") for a in sys.argv[1:] if a.startswith("--"))
script = [a for a in sys.argv[1:] if not a.startswith("--")]
names = "list_commands boardsize clear_board komi play genmove quit".split()
names += ["kgs-genmove_cleanup"] * ("cleanup" in options) + ["final_score"] * ("score" in options)
print("a banner", flush=True)
print("starting", file=sys.stderr, flush=True)
for line in sys.stdin:
    command, *words = line.split()
    mark, text = "=", ""
    if command == "list_commands":
        text = "\n".join(names)
    elif command == "clear_board":
        moves, cleanup = list(script), list(filter(None, options.get("cleanup", "").split(",")))
    elif command == "final_score":
        text = options["score"]
    elif command == "fixed_handicap":
        options["score"] = f"B+{words[0]}"
    elif command == "play" and words[1] == options.get("refuse"):
        mark, text = "?", "illegal move"
    elif command in ("genmove", "kgs-genmove_cleanup"):
        source = moves if command == "genmove" else cleanup
        text, _, leaves = (source.pop(0) if source else "PASS").partition("-")
    if text == "die":
        print("no more", file=sys.stderr)
        sys.exit(3)
    if text == "silent":
        time.sleep(60)
    print(mark + " " + text + "\r\n\r", flush=True)
    if command == "quit":
        break
    if command == "genmove" and leaves:
        print("no more", file=sys.stderr)
        sys.exit(3)
"""


@pytest.fixture
def program(tmp_path):
    """Return a function that makes a player of PROGRAM with its arguments."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return lambda words: f"gtp:{sys.executable} -I -S {path} {words}"


@pytest.fixture
def evaluator(network):
    return load_evaluator(network, 5, device="cpu", max_batch=4)


def play(a: str, b: str, num_games: int, size: int = 5, visits: int = 4, **options) -> dict:
    players = [parse_player(text, visits) for text in (a, b)]
    return match(*players, num_games, MatchConfig(size=size, **options))


def played_moves(folder, number: int = 1) -> list[int]:
    return next(load_games([folder / f"{number:04d}.sgf"], strict=True)).moves.tolist()


def test_colours_alternate_and_the_area_decides(program, tmp_path):
    result = play(program("C3"), program(""), 4, sgf=tmp_path / "games")
    assert (result["games"], result["wins"], result["losses"], result["draws"]) == (4, 4, 0, 0)
    assert result["black"] == result["white"] == {"games": 2, "wins": 2, "losses": 0, "draws": 0}
    assert played_moves(tmp_path / "games", 1) == [12, 25, 25]  # A is Black: C3, pass, pass
    assert played_moves(tmp_path / "games", 2) == [25, 12, 25, 25]  # A is White
    text = (tmp_path / "games" / "0001.sgf").read_text()
    assert "RE[B+18]" in text and "RU[Chinese]" in text and "KM[7]" in text
    assert result["distinct"] == 2 and result["disagreements"] == 0 and result["forfeits"] == []


def test_a_handicap_is_bs_who_is_black_in_every_game(program, tmp_path):
    score = "--score=0"  # until it hears of the stones
    result = play(program(score), program(score), 2, size=9, handicap=5, sgf=tmp_path)
    assert result["handicap"] == 5 and result["white"]["games"] == result["losses"] == 2
    assert result["other_counts"] == [f"game {i}: B+5, B+5; taken +74" for i in (1, 2)]
    text = (tmp_path / "0002.sgf").read_text()
    assert "HA[5]" in text and "AB[cc][gc][ee][cg][gg]" in text and ";W[];B[]C" in text


@pytest.mark.parametrize("stones", [1, 5])
def test_a_handicap_without_room_starts_no_match(program, stones):
    with pytest.raises(ValueError, match=f"invalid number of stones {stones}"):
        play(program(""), program(""), 1, size=7, handicap=stones)


def test_an_equal_count_is_a_draw(program):
    result = play(program(""), program(""), 2, rules=Rules(komi=0))
    assert result["draws"] == 2 and result["score"] == 0.5 and result["elo"] == 0


def test_a_pass_before_cleanup_ends_no_game(program, tmp_path):
    result = play(program("C3 --cleanup=D3,D4"), program("A1"), 1, sgf=tmp_path)
    # C3 A1 pass pass: Black's was no promise. Its cleanup takes two moves, and then it is over.
    assert played_moves(tmp_path)[:4] == [12, 20, 25, 25]
    last = (tmp_path / "0001.sgf").read_text().replace("\n", "")
    assert last.endswith(";B[];W[];B[dc];W[];B[db];W[];B[])")
    assert result["losses"] == 1  # four stones, no territory, komi 7


def test_a_count_that_names_another_winner_is_reported(program):
    result = play(program("C3 --score=B+1"), program("--score=W+3.5"), 1)
    assert result["wins"] == 1 and result["disagreements"] == 1
    assert result["other_counts"] == ["game 1: B+1, W+3.5; taken +18"]


def test_under_territory_scoring_the_programs_count_where_they_agree(program):
    japanese = RULES["japanese"]
    result = play(program("C3 --score=W+3"), program("--score=W+3.0"), 1, rules=japanese)
    assert result["losses"] == 1 and result["disagreements"] == 0 and result["other_counts"] == []
    result = play(program("C3 --score=W+3"), program("--score=B+1"), 1, rules=japanese)
    assert result["wins"] == 1 and result["disagreements"] == 1  # the area is Black's
    assert result["other_counts"] == ["game 1: W+3, B+1; taken +18"]


def test_nobody_cleans_up_under_territory_scoring(program, tmp_path):
    players = program("C3 --cleanup=D3,D4"), program("A1")
    play(*players, 1, rules=RULES["japanese"], sgf=tmp_path)
    assert played_moves(tmp_path) == [12, 20, 25, 25]


def test_resigning_loses(program, tmp_path):
    result = play(program("resign"), program("C3"), 1, sgf=tmp_path)
    assert result["losses"] == 1 and result["resigned"] == 1 and result["forfeits"] == []
    assert "RE[W+R]" in (tmp_path / "0001.sgf").read_text()


@pytest.mark.parametrize(
    "words, reason",
    [
        ("C3 C3", "played the illegal move B C3"),
        ("Z9", "answered genmove with 'Z9'"),
        ("A1 die", "died at 'genmove B', exit status 3: no more"),
        ("A1-die", "died at 'play W D4', exit status 3: no more"),
        ("--refuse=D4 A1", "refused 'play W D4': illegal move"),
    ],
)
def test_a_program_that_errs_loses_and_the_match_goes_on(program, tmp_path, capfd, words, reason):
    result = play(program(words), program("D4 B2"), 2, games_at_once=1, sgf=tmp_path)
    assert result["losses"] == 2 and len(result["forfeits"]) == 2
    assert reason in result["forfeits"][0] and "\n" not in result["forfeits"][0]
    assert f"game 1: {parse_player(program('')).name}" in capfd.readouterr().err
    assert "RE[W+F]" in (tmp_path / "0001.sgf").read_text()


def test_a_silent_program_is_killed(program, monkeypatch):
    engine = GtpProgram(program("silent")[4:], timeout_s=0.3)
    engine.ask("clear_board")
    with pytest.raises(ProgramError, match="gave no answer to 'genmove B' in 0.3 s"):
        engine.ask("genmove B")
    monkeypatch.setattr("minigo.play.program.CLOSE_TIMEOUT_S", 0.1)
    engine.close()
    assert engine._process.returncode == -9


def test_a_program_that_died_meanwhile_is_found_dead_when_its_answer_is_due(program):
    engine = GtpProgram(program("A1-die")[4:])
    engine.ask("clear_board")
    engine.ask("genmove B")
    engine._process.wait(10)
    engine.send("genmove B")
    with pytest.raises(ProgramError, match="died at 'genmove B', exit status 3: no more"):
        engine.receive()
    engine.close()


@pytest.mark.parametrize("command", ["/no/such/program", "false", "python3 -c 1/0"])
def test_a_program_that_does_not_start_stops_the_match(program, command):
    with pytest.raises(ValueError, match=command.split()[0]) as error:
        play(f"gtp:{command}", program(""), 2)
    assert "\n" not in str(error.value)


def test_the_move_cap_counts_the_board_as_it_is(program, monkeypatch):
    monkeypatch.setattr(arena, "MAX_MOVES_PER_POINT", 0.1)
    result = play(program("C3 C4 C5"), program("A1 A2 A3"), 1)
    assert result["capped"] == 1 and result["mean_moves"] == 3 and result["games"] == 1


def test_networks_play_in_lockstep_and_games_differ(network, tmp_path, monkeypatch):
    batches, begin = [], Evaluator.begin

    def count(self, positions):
        batches.append(len(positions))
        return begin(self, positions)

    monkeypatch.setattr(Evaluator, "begin", count)
    result = play(network, f"{network}@0", 8, sgf=tmp_path)
    assert result["wins"] + result["losses"] + result["draws"] == result["games"] == 8
    assert result["black"]["games"] == result["white"]["games"] == 4
    assert result["forfeits"] == []
    assert max(batches) == 4 and result["distinct"] > 1  # half of the games wait for each player
    records = list(load_games([tmp_path], strict=True))
    assert len(records) == 8 and all(record.result is not None for record in records)
    with pytest.raises(ValueError, match="there are games in it already"):
        play(network, f"{network}@0", 2, sgf=tmp_path)


def test_the_same_seed_plays_the_same_match(network):
    first, second, other = (play(network, network, 4, seed=seed) for seed in (7, 7, 8))
    assert first == second and first["mean_moves"] != other["mean_moves"]


def test_a_network_meets_a_program(network, program):
    result = play(network, program(""), 3)  # it passes: no vertex is sure to stay free
    assert result["games"] == 3 and result["forfeits"] == []


@pytest.mark.parametrize("visits", (0, 4))
def test_a_network_passes_where_two_passes_were_no_end(network, evaluator, visits, monkeypatch):
    monkeypatch.setattr(arena, "OPENING_MOVES_PER_SIZE", 0)
    boards, rng = [Board(5)], np.random.default_rng(1)
    side = arena.NetworkSide(parse_player(network, visits), boards, evaluator, rng)
    game = arena.Game(0, 0, ("A", "B"), Board(5), 0)
    side.start(game)
    for is_firm in (True, False):  # then it is Black's turn, who is behind by komi
        game.play(25, is_firm)
        side.observe(game)
    assert game.board.is_over and game.result is None
    side.move([game])
    assert game.moves == [25, 25, 25] and game.result == -1


class Content:
    """Sees a game that is won, whoever is to move, and wants to pass."""

    def begin(self, positions):
        logits, values = np.zeros(positions.shape, np.float32), np.ones(len(positions), np.float32)
        logits[:, -1] = 5
        return lambda: Evaluation(logits, values, values)


@pytest.mark.parametrize("dead", ([42], []))
def test_a_search_does_not_pass_before_dead_stones_that_count_are_captured(network, dead):
    board = Board(7)
    board.place([*range(2, 49, 7), *range(4, 49, 7), *range(6, 42, 7)], dead)  # columns C, E and G
    game = arena.Game(0, 0, ("A", "B"), board, 0)
    side = arena.NetworkSide(parse_player(network), [board], Content(), np.random.default_rng(1))
    side.start(game)
    side.search.run(16)  # a search that hasn't been told
    side.move([game])
    assert (game.moves == [49]) == (not dead)


def test_time_per_move_instead_of_visits(network):
    players = [parse_player(network, time_s=0.01), parse_player(f"{network}@1")]
    result = match(*players, 2, MatchConfig(size=5))
    assert result["games"] == 2 and all(0 < longest < 60 for longest in result["longest_move_s"])


def test_trees_of_a_timed_player_share_the_memory(network, evaluator, monkeypatch):
    monkeypatch.setattr(arena, "MAX_EDGES", 4000)
    player, rng = parse_player(network, time_s=60), np.random.default_rng(1)
    side = arena.NetworkSide(player, [Board(5)] * 2, evaluator, rng)
    games = [arena.Game(slot, slot, ("A", "B"), Board(5), 0) for slot in (0, 1)]
    started = time.monotonic()
    side.search.run(1 << 20, deadline=time.monotonic() + 60)
    for tree in (0, 1):
        assert 2000 / 26 <= side.search.forest.num_visits(tree) < 200
    side.move(games)  # a full tree has its move
    assert [len(game.moves) for game in games] == [1, 1] and time.monotonic() < started + 30


@pytest.mark.skipif(find_gnugo() is None, reason="needs gnugo")
def test_gnu_go_plays_games_out(network, tmp_path):
    result = play(network, find_gnugo(level=1), 2, size=7, sgf=tmp_path)
    assert result["games"] == 2 and result["forfeits"] == [] and result["disagreements"] == 0
    for record in load_games([tmp_path], strict=True):
        board = record.board(len(record.moves))
        assert board.is_over and board.score() == record.score


def test_find_gnugo_tells_where_it_is_missing(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *args, **kwargs: None)
    assert find_gnugo() is None


@pytest.mark.parametrize(
    "text, checkpoint, visits, without, name",
    [("9x9", "9x9", 64, "", ""), ("9x9@64", "9x9", 64, "", ""), ("9x9@0", "9x9", 0, "", "")]
    + [("runs/a.safetensors@16", "runs/a.safetensors", 16, "", "")]
    + [("a@b.safetensors", "a@b.safetensors", 64, "", "")]
    + [("9x9@64:no-value", "9x9", 64, "value", ""), ("9x9@64:no-policy", "9x9", 64, "policy", "")]
    + [("gtp:/a/gnugo --level 5 --mode gtp", "", 0, "", "gnugo-5")]
    + [("gtp:gnugo --level=10", "", 0, "", "gnugo-10")],
)
def test_parse_player(text, checkpoint, visits, without, name):
    player = parse_player(text)
    assert (player.checkpoint, player.visits, player.without) == (checkpoint, visits, without)
    assert player.name == (name or text)
    assert player.command == ("" if checkpoint else text[4:])


def test_a_network_can_be_without_a_head(network, evaluator):
    positions = np.random.default_rng(1).integers(1 << 18, size=(2, 26), dtype=np.int32)
    whole = evaluator.evaluate(positions)
    no_policy = arena.Blinded(evaluator, "policy").begin(positions)()
    no_value = arena.Blinded(evaluator, "value").begin(positions)()
    assert not no_policy.logits.any() and (no_policy.value == whole.value).all()
    assert not no_value.value.any() and not no_value.score.any()
    assert (no_value.logits == whole.logits).all() and whole.logits.any() and whole.value.any()
    assert play(f"{network}:no-value", f"{network}@4:no-policy", 2)["games"] == 2


@pytest.mark.parametrize("text", ["", "gtp:", "gtp:'", "gtp:   "])
def test_parse_player_refuses(text):
    with pytest.raises(ValueError, match="player"):
        parse_player(text)


class Echo:
    """Answers with what it is shown."""

    def __init__(self):
        self.shown = set()

    def begin(self, positions):
        self.shown.add(positions.tobytes())
        zeros = np.zeros(len(positions), np.float32)
        return lambda: Evaluation(positions.astype(np.float32), zeros, zeros)


def test_a_network_is_shown_a_position_in_all_symmetries_and_its_moves_are_turned_back():
    board, echo = Board(5), Echo()
    board.play(1)
    positions = np.stack([board.encode()] * 2)
    turned = Turned(echo, 5, np.random.default_rng(1))
    for _ in range(60):
        assert (turned.begin(positions)().logits == positions.astype(np.float32)).all()
    assert len(echo.shown) == 8
