"""The rule book: one rule per test, by diagrams; then published counts and a slow referee."""

import itertools

import numpy as np
import pytest
from msgspec.structs import replace

import reference
from conftest import from_diagram, planes_of, side_by_side
from minigo._board import NUM_PLANES, PLANE_NAMES, Board, IllegalMove, random_playouts, unpack
from minigo.config import Rules
from minigo.coords import BLACK, EMPTY, WALL, WHITE, parse_vertex, symmetry_table
from reference import Referee, count_area, count_liberties, find_chain, is_possible, put_stone

KO_RULES = ("simple", "positional", "situational")
EVERY_RULES = [Rules(ko, suicide) for ko in KO_RULES for suicide in (False, True)]


def show(points) -> str:
    """Write an array of colours as a diagram."""
    return "\n".join(" ".join(".XO"[color] for color in row) for row in points)


def same(text: str, diagram: str) -> bool:
    return text.split() == diagram.split()


def check(board: Board) -> None:
    """Compute from the stones all that a board stores of its points and chains."""
    points, words, stride = board.points().ravel(), board.encode().tolist(), board.size + 1
    color, head, next_stone, neighbors = (
        points[name].tolist() for name in ("color", "chain", "next", "neighbors")
    )
    chains = {}  # (head, colour): stones and pseudo-liberties
    for point in np.flatnonzero(points["color"] != WALL).tolist():
        near = [point - stride, point - 1, point + 1, point + stride]
        assert neighbors[point] == sum([(1, 16, 256, 272)[color[p]] for p in near])
        if color[point] == EMPTY:
            assert head[point] == words[move_at(point, stride)] & 3 == 0
            continue
        assert words[move_at(point, stride)] & 3 == 1 + (color[point] != board.to_play)
        assert points["held"][point] >> color[point] & 1
        assert {head[p] for p in near if color[p] == color[point]} <= {head[point]}
        stones, liberties = chains.setdefault((head[point], color[point]), ([], []))
        stones.append(point)
        liberties += [p for p in near if color[p] == EMPTY]
    for (stone, chain_color), (stones, liberties) in chains.items():
        move, num_liberties, first, circle = move_at(stone, stride), len(set(liberties)), stone, []
        for _ in range(points["num_stones"][first]):
            circle.append(stone)
            stone = next_stone[stone]
        assert stone == first and sorted(circle) == stones
        sums = sum([(1 << 48) + (p << 28) + p * p for p in liberties])
        assert points["liberties"][first] == sums > 0
        assert board.liberties(move) == num_liberties
        plane = (5 if chain_color == board.to_play else 8) + min(num_liberties, 3)
        assert words[move] >> plane & 1  # where one liberty is told by the sums alone
    again = from_diagram(str(board))
    assert again.hash == board.hash and str(again) == str(board)


def move_at(point: int, stride: int) -> int:
    """Return the move of a bordered point."""
    return point - stride - point // stride


def play(board: Board, vertices: str) -> Board:
    """Play moves such as "C3 pass", the colours alternating; check the board after each."""
    for vertex in vertices.split():
        board.play(parse_vertex(vertex, board.size))
        check(board)
    return board


def can_play(board: Board, vertex: str, color: int = 0) -> bool:
    return board.is_legal(parse_vertex(vertex, board.size), color)


def refuses(board: Board, vertex: str, reason: str, color: int = 0) -> bool:
    """Is a move refused for that reason, and the board left as it was?"""
    move = parse_vertex(vertex, board.size)
    before = (str(board), board.to_play, board.num_moves, board.hash, board.ko)
    with pytest.raises(IllegalMove, match=reason):
        board.play(move, color)
    check(board)
    after = (str(board), board.to_play, board.num_moves, board.hash, board.ko)
    return before == after and not board.is_legal(move, color)


# Stones and captures


def test_an_empty_board():
    board = Board()
    assert (board.size, board.to_play, board.rules) == (9, BLACK, Rules())
    assert (board.num_moves, board.num_passes, board.last_move, board.ko) == (0, 0, -1, -1)
    assert board.prisoners == (0, 0) and not board.is_over
    assert (board.stones() == EMPTY).all() and board.legal_moves().all()
    assert board.score() == -7 and (board.area() == EMPTY).all()
    assert (board.pass_alive() == EMPTY).all()


def test_colours_alternate_and_passes_count_as_moves():
    board = play(Board(5), "C3 pass D4")
    assert same(str(board), ". . . . .  . . . X .  . . X . .  . . . . .  . . . . .")
    assert (board.to_play, board.num_moves, board.num_passes) == (WHITE, 3, 0)
    assert board.last_move == parse_vertex("D4", 5)


def test_an_occupied_point_is_illegal():
    board = play(Board(5), "C3")
    assert refuses(board, "C3", "White may not play C3: the point is taken")


def test_a_chain_is_solidly_connected_and_knows_its_liberties():
    board = from_diagram("""
        X X . O .
        . X O . .
        . . X . .
        X . . O O
        X . . O .""")
    assert chain(board, 0) == chain(board, 6) == [0, 1, 6]
    assert board.liberties(0) == 3  # one of them next to two stones
    assert chain(board, 12) == [12] and board.liberties(12) == 3
    assert board.liberties(7) == 2
    assert chain(board, 18) == [18, 19, 23] and board.liberties(18) == 5
    check(board)


def chain(board: Board, move: int) -> list[int]:
    """Return the points that have the same head as a stone."""
    heads = board.points()["chain"][1:-1, 1:].ravel()
    return np.flatnonzero(heads == heads[move]).tolist()


def test_liberties_of_an_empty_point_are_refused():
    for move in (0, 25, -1, 26):
        with pytest.raises(ValueError, match=str(move)):
            Board(5).liberties(move)


def test_chains_without_liberties_are_captured():
    before, after = side_by_side("""
        . X O X .   . X . X .
        X O . O X   X . X . X
        X O O X .   X . . X .
        . X X . .   . X X . .
        . . . . .   . . . . .""")
    board = play(from_diagram(before), "C4")
    assert str(board) == after and board.prisoners == (0, 5) and board.ko == -1


@pytest.mark.parametrize("rules", EVERY_RULES)
def test_capture_comes_before_suicide(rules):
    before, after = side_by_side("""
        . O X . .   X . X . .
        O X . . .   . X . . .
        X . . . .   X . . . .
        . . . . .   . . . . .
        . . . . .   . . . . .""")
    board = play(from_diagram(before, rules=rules), "A5")
    assert str(board) == after  # no liberty of its own, but it takes two
    assert board.liberties(0) == 2


# Suicide

ONE_STONE, TWO_STONES = side_by_side("""
    . X . . .   . X . . .
    X . . . .   O X . . .
    . . . . .   X . . . .
    . . . . .   . . . . .
    . . . . .   . . . . .""")


@pytest.mark.parametrize("ko", KO_RULES)
@pytest.mark.parametrize("diagram", (ONE_STONE, TWO_STONES), ids=("one", "two"))
def test_suicide_forbidden(diagram, ko):
    board = from_diagram(diagram, WHITE, Rules(ko, suicide=False))
    assert refuses(board, "A5", "White may not play A5: suicide")


@pytest.mark.parametrize("ko", ("simple", "situational"))
def test_suicide_of_one_stone_passes_the_turn(ko):
    board = from_diagram(ONE_STONE, WHITE, Rules(ko, suicide=True))
    play(board, "A5")  # the position is old, that Black is to move in it is not
    assert same(str(board), ONE_STONE)
    assert (board.to_play, board.num_moves, board.num_passes) == (BLACK, 1, 0)
    assert board.prisoners == (0, 1) and board.ko == -1


def test_suicide_of_one_stone_repeats_the_position():
    board = from_diagram(ONE_STONE, WHITE, Rules("positional", suicide=True))
    assert refuses(board, "A5", "positional ko")
    board = from_diagram(ONE_STONE, BLACK, Rules("situational", suicide=True))
    assert refuses(play(board, "pass"), "A5", "situational ko")


@pytest.mark.parametrize("ko", KO_RULES)
def test_suicide_of_several_stones_takes_them_off(ko):
    board = from_diagram(TWO_STONES, WHITE, Rules(ko, suicide=True))
    play(board, "A5")
    assert same(str(board), TWO_STONES.replace("O", "."))
    assert board.prisoners == (0, 2) and board.ko == -1 and board.to_play == BLACK
    assert board.liberties(parse_vertex("A3", 5)) == 3


@pytest.mark.parametrize(("color", "num_liberties"), [(BLACK, 2), (WHITE, 1)])
def test_a_stone_without_liberties_of_its_own_lives_on_its_neighbours(color, num_liberties):
    diagram = """
        . O . . .
        X X O . .
        . . . . .
        . . . . .
        . . . . ."""
    board = play(from_diagram(diagram, color, Rules(suicide=False)), "A5")
    assert board.stones()[0, 0] == color and board.liberties(0) == num_liberties


# Ko

KO, TAKEN, RETAKEN = side_by_side("""
    . X O . .   . X O . .   . X O . .
    X O . O .   X . X O .   X O . O .
    . X O . .   . X O . .   . X O . .
    . . . . .   . . . . .   . . . . .
    . . . . .   . . . . .   . . . X O""")


@pytest.mark.parametrize("rules", EVERY_RULES)
def test_retaking_a_ko_at_once_is_illegal(rules):
    board = play(from_diagram(KO, rules=rules), "C4")
    assert str(board) == TAKEN and board.ko == parse_vertex("B4", 5)
    assert refuses(board, "B4", f"White may not play B4: {rules.ko} ko")


@pytest.mark.parametrize("rules", EVERY_RULES)
def test_retaking_a_ko_after_a_threat_is_legal(rules):
    board = play(from_diagram(KO, rules=rules), "C4 E1 D1 B4")
    assert str(board) == RETAKEN
    assert board.ko == parse_vertex("C4", 5) and not can_play(board, "C4")


@pytest.mark.parametrize("rules", EVERY_RULES)
def test_a_ko_can_be_filled(rules):
    board = play(from_diagram(KO, rules=rules), "C4 E1 B4")
    assert board.ko == -1 and board.liberties(parse_vertex("B4", 5)) == 3


def test_a_pass_lifts_a_simple_ko_but_no_superko():
    for rules in EVERY_RULES:
        board = play(from_diagram(KO, rules=rules), "C4 pass pass")
        assert board.is_over and board.ko == -1
        assert can_play(board, "B4") == (rules.ko == "simple")


SEND_TWO = """
    . . . . .
    . . . . .
    X X O O .
    X X O O .
    . O . O ."""


def test_sending_two_returning_one():
    for rules in EVERY_RULES:
        board = play(from_diagram(SEND_TWO, WHITE, rules), "A1 C1")
        assert same(str(board).splitlines()[-1], ". . X O .")
        assert board.ko == -1  # where two are taken is none
        if rules.ko == "positional":
            assert refuses(board, "B1", "positional ko")
        else:  # the position comes back, but with Black to move
            play(board, "B1")
            assert same(str(board), SEND_TWO)


def test_superko_through_a_pass():
    board = from_diagram(SEND_TWO, WHITE, Rules("situational"))
    play(board, "A1 C1 B1 pass")  # a pass may repeat a situation
    assert same(str(board), SEND_TWO) and board.to_play == WHITE
    assert refuses(board, "A1", "situational ko")
    board = from_diagram(SEND_TWO, WHITE, Rules("simple"))
    play(board, "A1 C1 B1 pass A1 C1 B1 pass A1")  # so it goes on forever


def test_a_pass_makes_a_situation():
    board = from_diagram(SEND_TWO, BLACK, Rules("situational"))
    play(board, "pass A1 C1")
    assert refuses(board, "B1", "situational ko")  # Black was to move there before he passed


TRIPLE_KO = """
    . X O . . . .
    X O . O . . .
    . X O . . . .
    X . X O . . .
    . X O . . . .
    X O . O . . .
    . X O . . . ."""


def test_triple_ko():
    for rules in EVERY_RULES:
        board = from_diagram(TRIPLE_KO, rules=rules)
        play(board, "C6 B4 C2 B6 C4")
        if rules.ko == "simple":
            play(board, "B2 C6 B4 C2 B6 C4 B2")
            assert same(str(board), TRIPLE_KO) and board.num_moves == 12
        else:
            assert refuses(board, "B2", f"White may not play B2: {rules.ko} ko")
            play(board, "G7 G1 B2")  # after a move elsewhere the position is another


def test_superko_remembers_thousands_of_moves():
    board = play(from_diagram(KO), "C4")
    for _ in range(5000):
        board.play(25)
    assert board.num_moves == 5001 and board.num_passes == 5000
    assert refuses(board, "B4", "positional ko")
    assert not board.copy().is_legal(parse_vertex("B4", 5))


def test_rules_can_change_and_the_history_stays():
    board = play(from_diagram(SEND_TWO, WHITE, Rules("simple")), "A1 C1")
    assert can_play(board, "B1")
    board.rules = Rules("positional")
    assert refuses(board, "B1", "positional ko")
    board.rules = Rules("situational")
    check(board)
    assert can_play(board, "B1")  # White was to move in that position
    board = play(from_diagram(KO, rules=Rules("simple")), "C4 pass pass")
    board.rules = Rules("situational")
    assert refuses(board, "B4", "situational ko")
    board = play(from_diagram(SEND_TWO, BLACK, Rules("situational")), "pass A1 C1")
    board.rules = Rules("positional")
    assert refuses(board, "B1", "positional ko")


# Captures and life in shapes


@pytest.mark.parametrize("rules", EVERY_RULES)
def test_snapback(rules):
    before, taken, after = side_by_side("""
        . . . . .   . . . . .   . . . . .
        . . . . .   . . . . .   . . . . .
        . O O O .   . O O O .   . O O O .
        O X X X O   O X X X O   O . . . O
        O X . . O   O X . X O   O . O . O""")
    board = play(from_diagram(before, WHITE, rules), "C1 D1")
    assert str(board) == taken and board.liberties(23) == 1
    assert board.ko == -1  # one stone was taken, but more will be taken back
    play(board, "C1")
    assert str(board) == after and board.prisoners == (5, 1)


SEKI = """
    X X X X X
    X X X X X
    . X X O .
    O O O O O
    O O O O O"""


def test_whoever_moves_first_in_a_seki_loses_it():
    for color in (BLACK, WHITE):
        board = play(from_diagram(SEKI, color), "A3 E3")
        alive = 3 - color
        assert board.liberties(parse_vertex("E3", 5)) > 0
        assert (board.stones() != color).all() and board.area().ravel().tolist() == [alive] * 25


@pytest.mark.parametrize("suicide", (False, True))
def test_shared_liberties_of_a_seki_are_nobodys_and_nothing_is_pass_alive(suicide):
    board = from_diagram(SEKI, rules=Rules(suicide=suicide, komi=0.5))
    assert same(show(board.area()), SEKI) and board.score() == 0.5
    assert (board.pass_alive() == EMPTY).all()


def test_bent_four_in_the_corner_is_played_out():
    before, after = side_by_side("""
        X X X . O X .   . X X . . X .
        . O O O O X .   X . . . . X .
        O O X X X X .   . . X X X X .
        X X X . . . .   X X X . . . .
        . . . . . . .   . . . . . . .
        . . . . . . .   . . . . . . .
        . . . . . . .   . . . . . . .""")
    board = from_diagram(before, rules=Rules("simple"))
    area = board.area()
    assert area[0, 3] == area[1, 0] == EMPTY and area[0, 4] == WHITE  # as it lies, not as dead
    assert (board.pass_alive() == EMPTY).all()
    play(board, "A6 D7")  # four stones in a bend, taken
    assert same(str(board).splitlines()[0], ". . . O O X .") and board.prisoners == (4, 0)
    play(board, "B7 A7 A6")  # and the ko, which Black takes first
    assert same(str(board).splitlines()[0], ". X . O O X .")
    assert refuses(board, "A7", "simple ko")
    play(board, "pass C7")
    assert str(board) == after and board.score() == 42


# The end and the count


def test_two_passes_end_the_game():
    board = play(Board(5), "pass")
    assert board.num_passes == 1 and not board.is_over
    play(board, "C3 pass")
    assert board.num_passes == 1 and not board.is_over
    play(board, "pass")
    assert board.num_passes == 2 and board.is_over and board.num_moves == 4
    play(board, "D3")  # a client may go on
    assert board.num_passes == 0 and not board.is_over


AREA, OWNED = side_by_side("""
    . X O . .   X X O O O
    X X O O O   X X O O O
    . X . X O   . X . X O
    . X X X X   . X X X X
    . . O . .   . . O . .""")


def test_area_is_stones_and_the_empty_points_that_reach_one_colour():
    assert show(from_diagram(AREA).area()) == OWNED


@pytest.mark.parametrize("komi", (-3, 0, 0.5, 7, 7.5, 375.5))
def test_komi_is_whites_and_can_change(komi):
    assert play(Board(5, Rules(komi=komi)), "A1").score() == 25 - komi
    board = from_diagram(AREA)
    board.rules = replace(board.rules, komi=komi)
    assert board.rules.komi == komi and board.score() == 10 - 8 - komi


# Pass-alive: the points of chains that live though their colour always passes, and their territory

PASS_ALIVE = {
    "two eyes": """
        . X . X O   X X X X .
        X X X X O   X X X X .
        O O O O .   . . . . .
        O . O O O   . . . . .
        . . . . .   . . . . .""",
    "a false eye is no eye": """
        . X . X O   . . . . .
        X X X O O   . . . . .
        O O O O .   . . . . .
        . . . . .   . . . . .
        . . . . .   . . . . .""",
    "two chains share two eyes": """
        . X X O .   X X X . .
        X . X O .   X X X . .
        X X O O .   X X . . .
        O O O . .   . . . . .
        . . . . .   . . . . .""",
    "dead stones in territory belong to its owner": """
        . X . X .   X X X X X
        X X X X X   X X X X X
        X . O . X   X X X X X
        X X X X X   X X X X X
        . . . O .   X X X X X""",
    "where the opponent could live is nobody's yet": """
        . X . X .   X X X X X
        X X X X X   X X X X X
        . . . . .   . . . . .
        . . . . .   . . . . .
        . . O . .   . . . . .""",
    "both colours": """
        . X . X O .   X X X X O O
        X X X X O O   X X X X O O
        . X O O O .   X X O O O O
        X X X O O O   X X X O O O
        . X O O . O   X X O O O O
        X X O . O .   X X O O O O""",
}


@pytest.mark.parametrize("suicide", (False, True))
@pytest.mark.parametrize("name", PASS_ALIVE)
def test_pass_alive(name, suicide):
    before, alive = side_by_side(PASS_ALIVE[name])
    assert show(from_diagram(before, rules=Rules(suicide=suicide)).pass_alive()) == alive


def test_suicide_can_empty_an_eye_and_so_kill():
    # White fills a corner, is off the board by that, and comes back with an eye in the corner.
    before, after = side_by_side("""
        O . X X   . O . .
        O X X X   O . . .
        X X X O   . . . O
        X X . O   . . O O""")
    board = from_diagram(before, WHITE, Rules("simple", suicide=False))
    assert (board.pass_alive() == BLACK).all()
    board.rules = Rules("simple", suicide=True)
    assert (board.pass_alive() == EMPTY).all()
    play(board, "B4 pass B4 pass A3 pass C1")
    assert str(board) == after and board.prisoners == (10, 3)


# Set-up, out-of-turn play, copies


def test_set_up_starts_the_history():
    board = play(from_diagram(KO), "C4")
    board.place([parse_vertex("E1", 5)])
    assert (board.num_moves, board.num_passes, board.last_move, board.ko) == (0, 0, -1, -1)
    play(board, "B4")  # takes back what was taken before the set-up
    assert refuses(board, "C4", "positional ko")


def test_any_iterable_sets_up_stones():
    board = Board(3)
    board.place(iter([0, 1]), {7: "any", 8: "two"}.keys())
    assert same(str(board), "X X . . . . . O O")


@pytest.mark.parametrize(
    ("black", "white", "reason"),
    [([0], [], "a stone at A3 already"), ([4, 4], [], "a stone at B2 already")]
    + [([9], [], "move 9 "), ([-1], [], "move -1 "), ([], [100], "move 100 ")]
    + [([], iter([1, 3]), "A3 has no liberty")]  # the older stone
    + [(iter([8]), np.array([5, 7]), "C1 has no liberty")],
)
def test_a_bad_set_up_is_refused(black, white, reason):
    board = play(Board(3), "A3")
    with pytest.raises(ValueError, match=reason):
        board.place(black, white)
    assert same(str(board), "X . . . . . . . .") and board.num_moves == 1
    check(board)


@pytest.mark.parametrize("rules", EVERY_RULES)
def test_out_of_turn_play(rules):
    board = Board(5, rules)
    for vertex, color in (("C3", WHITE), ("D4", WHITE), ("B2", BLACK), ("A1", BLACK)):
        board.play(parse_vertex(vertex, 5), color)
        check(board)
        assert board.to_play == 3 - color
    assert same(str(board), ". . . . .  . . . O .  . . O . .  . X . . .  X . . . .")
    assert board.num_moves == 4


def test_a_ko_binds_the_player_who_lost_the_stone_only():
    board = play(from_diagram(KO, rules=Rules("simple")), "C4")
    assert not can_play(board, "B4") and not can_play(board, "B4", WHITE)
    assert can_play(board, "B4", BLACK)
    board.play(parse_vertex("B4", 5), BLACK)
    check(board)
    assert board.to_play == WHITE and board.ko == -1


@pytest.mark.parametrize("rules", EVERY_RULES)
def test_the_player_to_move_can_be_changed(rules):
    board = play(from_diagram(KO, rules=rules), "C4")
    board.to_play = BLACK
    check(board)
    assert board.to_play == BLACK and board.ko == -1 and board.num_moves == 1
    assert str(play(board.copy(), "E1")).split()[-1] == "X"
    board.to_play = WHITE  # superko remembers the set-up position
    assert board.ko == -1 and can_play(board, "B4") == (rules.ko == "simple")


def test_the_side_that_begins_a_set_up_position_is_the_one_assigned():
    board = from_diagram(SEND_TWO, BLACK, Rules("situational"))
    board.to_play = WHITE
    play(board, "A1 C1 B1")  # Black has not been to move in that position


def test_a_copy_goes_its_own_way_with_the_same_history():
    board = play(from_diagram(KO, rules=Rules("positional", komi=0.5)), "C4")
    other = board.copy()
    assert str(other) == str(board) and other.hash == board.hash and other.rules == board.rules
    assert (other.num_moves, other.last_move, other.ko) == (1, 7, 6)
    assert refuses(other, "B4", "positional ko")
    play(other, "E1 D1 B4")
    assert board.num_moves == 1 and refuses(board, "B4", "positional ko")
    del board
    assert refuses(other, "C4", "positional ko")


def test_hash_is_of_the_stones_alone():
    boards = [play(Board(9), order) for order in ("C3 D4 E5", "E5 D4 C3", "C3 pass E5 D4")]
    assert boards[0].hash == boards[1].hash == boards[2].hash != Board(9).hash
    assert play(Board(9), "D4 C3 pass E5").hash != boards[0].hash
    assert len({play(Board(9), vertex).hash for vertex in ("A1", "A2", "B1", "J9")}) == 4


@pytest.mark.parametrize("move", (-1, -2, 26, 10**6))
def test_a_move_off_the_board_is_illegal(move):
    board = Board(5)
    with pytest.raises(IllegalMove, match=str(move)):
        board.play(move)
    assert not board.is_legal(move) and board.num_moves == 0
    assert issubclass(IllegalMove, ValueError)


def test_play_all_is_play_many_times():
    board = Board(5)
    board.play_all(np.array([12, 25, 7], dtype=np.int16))
    board.play_all([])
    board.play_all([3])
    assert board.num_moves == 4 and str(board) == str(play(Board(5), "C3 pass C4 D5"))
    with pytest.raises(IllegalMove, match="E5"):
        board.play_all([4, 4])
    assert board.num_moves == 5  # up to the first bad one
    for move in (-1, 26):
        with pytest.raises(IllegalMove, match=str(move)):
            board.play_all([move])
    check(board)


def test_colours_to_play_are_black_and_white():
    for color in (-1, 0, 3):
        with pytest.raises(ValueError, match=str(color)):
            Board(5, to_play=color)
        with pytest.raises(ValueError, match=str(color)):
            Board(5).to_play = color
    with pytest.raises(ValueError, match="3"):
        Board(5).play(0, 3)


@pytest.mark.parametrize("size", (-1, 0, 1, 20, 26))
def test_sizes_are_2_to_19(size):
    with pytest.raises(ValueError, match=f"size {size} "):
        Board(size)


# The network's input


def choose_random_move(board: Board, rng) -> int:
    """Draw legal moves, own eyes included, but take a capture if one is among a few."""
    moves = np.flatnonzero(board.legal_moves()).tolist()
    for _ in range(rng.choice((1, 8))):
        move = moves[int(rng.random() * len(moves))]
        after = board.copy()
        after.play(move)
        if after.prisoners[board.to_play % 2] > board.prisoners[board.to_play % 2]:
            break
    return move


def expected_planes(referee: Referee, earlier: list[bytes], moves: list[int], komi: float):
    """Build each plane by name from the referee; `earlier` positions and `moves`: newest first."""
    size, own = referee.size, referee.to_play
    area, other = size * size, 3 - own
    all_stones = np.frombuffer(referee.stones, np.uint8)
    liberties = np.minimum(count_liberties(referee.stones, size), 3)

    def where(test):
        return np.array([test(point) for point in range(area)], dtype=np.float32)

    planes = {}
    past = (referee.stones, ""), (earlier[0], " one move ago"), (earlier[1], " two moves ago")
    for stones, ago in past:
        planes["own stones" + ago] = where(lambda p, s=stones: s[p] == own)
        planes["opponent's stones" + ago] = where(lambda p, s=stones: s[p] == other)
    for name, color in (("own", own), ("opponent's", other)):
        for count, words in ((1, "1 liberty"), (2, "2 liberties"), (3, "3 or more liberties")):
            planes[f"{name} chains with {words}"] = (all_stones == color) & (liberties == count)
    planes["points that the ko rule forbids"] = where(lambda p: referee.judge(p) == "ko")
    names = ("last move", "move before the last", "third last move", "fourth last move")
    for name, move in itertools.zip_longest(names, moves[:4], fillvalue=-1):
        planes[name] = where(lambda p, move=move: p == move)
    planes["last move was a pass"] = np.full(area, float(moves[:1] == [area]))
    own_komi = komi if own == WHITE else -komi
    planes["komi for the player to move, in tens of points"] = np.full(area, own_komi / 10)
    planes["ones"] = np.ones(area)
    return {name: plane.reshape(size, size) for name, plane in planes.items()}


@pytest.mark.parametrize("rules", [replace(rules, komi=6.5) for rules in EVERY_RULES])
@pytest.mark.parametrize("diagram", (". . .\n" * 3, TRIPLE_KO), ids=("3x3", "triple-ko"))
def test_every_plane_is_what_the_referee_sees(diagram, rules, rng):
    num_ko_points = 0
    for _ in range(8):
        board = from_diagram(diagram, rules=rules)
        size, moves = board.size, []
        referee = Referee(size, rules.ko, rules.suicide, board.stones())
        earlier = [referee.stones] * 2
        for _ in range(40):
            (planes,) = planes_of(board.encode()[None])
            expected = expected_planes(referee, earlier, moves, rules.komi)
            assert set(expected) == set(PLANE_NAMES) and len(PLANE_NAMES) == NUM_PLANES
            for plane, name in zip(planes, PLANE_NAMES, strict=True):
                assert np.array_equal(plane, expected[name].astype(np.float32)), f"{name}\n{board}"
            num_ko_points += int(expected["points that the ko rule forbids"].sum())
            moves.insert(0, choose_random_move(board, rng))
            earlier.insert(0, referee.stones)
            board.play(moves[0])
            referee.play(moves[0])
    assert num_ko_points > 20 or size == 3


@pytest.mark.parametrize("size", (2, 9, 19))
def test_a_symmetry_turns_the_words_like_a_policy(size, rng):
    board, moves = Board(size), []
    for _ in range(size * size):
        moves.append(choose_random_move(board, rng))
        board.play(moves[-1])
    for to in symmetry_table(size):
        turned = Board(size)
        turned.play_all(to[moves])
        assert np.array_equal(turned.encode(), board.encode()[np.argsort(to)])


def test_a_game_is_encoded_while_it_is_played(rng):
    board, moves, words = Board(5), [], []
    for _ in range(30):
        words.append(board.encode())
        moves.append(choose_random_move(board, rng))
        board.play(moves[-1])
    plies = [0, 3, 4, 29]
    again = Board(5)
    assert np.array_equal(again.play_all(moves, plies), np.array(words)[plies])
    assert again.hash == board.hash and Board(5).play_all(moves).shape == (0, 26)
    with pytest.raises(ValueError, match="ply 30 of 30 moves"):
        Board(5).play_all(moves, [2, 30])


def test_words_and_planes_of_the_wrong_shape_or_kind_are_refused():
    words, planes = np.zeros((1, 26), np.int32), np.zeros((1, NUM_PLANES, 5, 5), np.float32)
    unpack(words, planes)
    for bad in (words[:, 1:].copy(), words.astype(np.int64), np.zeros((2, 26), np.int32)):
        with pytest.raises(ValueError):
            unpack(bad, planes)
    for bad in (planes[:, 1:].copy(), planes.astype(np.float64), planes[:, :, ::-1]):
        with pytest.raises(ValueError):
            unpack(words, bad)


# Published counts (Tromp and Farneback, "Combinatorics of Go"; STYLE.md, Tests)


@pytest.mark.parametrize(("size", "num_legal"), [(1, 1), (2, 57), (3, 12675)])
def test_legal_colourings(size, num_legal):
    colourings = [bytes(c) for c in itertools.product((EMPTY, BLACK, WHITE), repeat=size * size)]
    assert sum(is_possible(stones, size) for stones in colourings) == num_legal
    if size > 1:  # no Board is smaller
        assert sum(set_up(stones, size) is not None for stones in colourings) == num_legal


def set_up(stones: bytes, size: int) -> Board | None:
    """Place stones; None, and the board refuses them, where the referee says that they can't be."""
    board = Board(size)
    moves = [[p for p in range(size**2) if stones[p] == color] for color in (BLACK, WHITE)]
    if not is_possible(stones, size):
        with pytest.raises(ValueError, match="no liberty"):
            board.place(*moves)
        return None
    board.place(*moves)
    assert board.stones().tobytes() == stones
    return board


def count_sequences(game: Board | Referee, length: int, num_passes: int = 0) -> list[int]:
    """Count the legal sequences of 1, 2, ... `length` moves; two passes stop one."""
    if num_passes == 2:
        return [0] * length
    pass_move = game.size * game.size
    legal = [move for move in range(pass_move + 1) if game.is_legal(move)]
    counts = np.zeros(length, dtype=int)
    counts[0] = len(legal)
    for move in legal if length > 1 else ():
        after = game.copy()
        after.play(move)
        is_pass = move == pass_move
        counts[1:] += count_sequences(after, length - 1, num_passes + 1 if is_pass else 0)
    return counts.tolist()


SEQUENCES = {2: [5, 21, 68, 156, 316, 604], 3: [10, 91, 738, 5281, 33384], 5: [26, 651, 15650]}


@pytest.mark.parametrize(
    "rules", [*(Rules(ko, suicide=False) for ko in KO_RULES), Rules("positional", suicide=True)]
)
@pytest.mark.parametrize("size", SEQUENCES)
def test_legal_sequences(size, rules):
    board = Board(size, rules)
    assert count_sequences(board, len(SEQUENCES[size])) == SEQUENCES[size]


@pytest.mark.parametrize(("size", "length"), [(2, 6), (3, 4), (5, 2)])
def test_the_referee_counts_the_same(size, length):
    assert count_sequences(Referee(size, suicide=False), length) == SEQUENCES[size][:length]


# Random games against the referee


def agree(board: Board, referee: Referee, is_full: bool) -> dict[int, str]:
    """Compare a board with the referee; return his verdicts on all moves or the illegal."""
    if is_full and board.num_moves % 3 == 0:  # what is wrong stays so
        check(board)
    assert board.stones().tobytes() == referee.stones, str(board)
    assert board.to_play == referee.to_play and list(board.prisoners) == referee.prisoners
    liberties = count_liberties(referee.stones, board.size)
    for point, color in enumerate(referee.stones):
        assert color == EMPTY or board.liberties(point) == liberties[point], f"{board}\n{point}"
    area = count_area(referee.stones, board.size)
    assert board.area().tobytes() == area, str(board)
    assert board.score() == area.count(BLACK) - area.count(WHITE) - board.rules.komi
    legal = board.legal_moves().tolist()
    moves = [move for move, is_legal in enumerate(legal) if is_full or not is_legal]
    verdicts = {move: referee.judge(move) for move in moves}
    for move, verdict in verdicts.items():
        assert legal[move] == (verdict == "legal"), f"{board}\n{move} is {verdict}"
    if is_full and referee.ko == "simple":
        assert [board.ko] == ([p for p, v in verdicts.items() if v == "ko"] or [-1])
    return verdicts


def count_superko(board: Board, referee: Referee, verdicts: dict[int, str]) -> int:
    """Count moves that superko forbids, but neither simple ko nor for being suicide."""
    forbidden = [move for move, verdict in verdicts.items() if verdict == "ko" and move != board.ko]
    after = [put_stone(referee.stones, move, referee.to_play, board.size) for move in forbidden]
    return sum(own == 0 for _, _, own in after)


def agree_at_leisure(board: Board, referee: Referee) -> None:
    """Compare what takes the referee long: chains, pass-alive points, moves of either colour."""
    assert board.pass_alive().tobytes() == referee.pass_alive(), str(board)
    for point in range(board.size**2):
        if referee.stones[point] != EMPTY:
            points = find_chain(referee.stones, point, board.size)[0]
            assert chain(board, point) == sorted(points)
        for color in colors_that_may_play(board):
            assert board.is_legal(point, color) == referee.is_legal(point, color)


def colors_that_may_play(board: Board) -> tuple[int, ...]:
    """Leave out-of-turn play out where the ko rule asks whose turn it was."""
    colors = (board.to_play, 3 - board.to_play)
    return colors[:1] if board.rules.ko == "situational" else colors


def play_random_game(size: int, rules: Rules, rng, full_every: int, slow_every: int) -> None:
    """Play one game and compare after every move."""
    board, referee = Board(size, rules), Referee(size, rules.ko, rules.suicide)
    for turn in range(2 * size * size):
        agree(board, referee, is_full=turn % full_every == 0)
        if turn % slow_every == slow_every - 1:
            agree_at_leisure(board, referee)
        color = colors_that_may_play(board)[-1 if rng.random() < 0.03 else 0]
        move = choose_random_move(board, rng)
        if referee.is_legal(move, color):
            board.play(move, color)
            referee.play(move, color)
        assert color != board.to_play or board.num_moves == turn, f"{board}\nforbids {move}"
        if board.is_over:
            break
    agree_at_leisure(board, referee)
    check(from_diagram(str(board)))


# size: games under each of the six rules, a full comparison every so many moves, the slow ones
RANDOM_GAMES = {2: (30, 1, 4), 3: (30, 1, 10), 4: (30, 1, 20), 5: (246, 1, 40), 6: (40, 2, 50)}
RANDOM_GAMES |= {7: (30, 4, 70), 8: (10, 8, 90), 9: (8, 10, 120), 13: (3, 30, 250)}
RANDOM_GAMES |= {16: (1, 50, 400), 19: (1, 60, 400)}


@pytest.mark.parametrize("rules", EVERY_RULES, ids=lambda rules: f"{rules.ko}-{rules.suicide}")
@pytest.mark.parametrize("size", RANDOM_GAMES)
def test_random_games_agree_with_the_referee(size, rules, rng):
    num_games, full_every, slow_every = RANDOM_GAMES[size]
    for _ in range(num_games):
        play_random_game(size, rules, rng, full_every, slow_every)


@pytest.mark.parametrize("rules", EVERY_RULES, ids=lambda rules: f"{rules.ko}-{rules.suicide}")
@pytest.mark.parametrize(
    ("diagram", "vertices"),
    [(TRIPLE_KO, "B6 C6 B4 C4 B2 C2 G1 pass"), (SEND_TWO, "A1 B1 C1 pass")],
    ids=("triple-ko", "sending-two"),
)
def test_random_ko_fights_agree_with_the_referee(diagram, vertices, rules, rng):
    num_superko = 0
    for game in range(60):
        board = from_diagram(diagram, 1 + game % 2, rules)
        referee = Referee(board.size, rules.ko, rules.suicide, board.stones(), board.to_play)
        moves = [parse_vertex(vertex, board.size) for vertex in vertices.split()]
        for _ in range(25):
            num_superko += count_superko(board, referee, agree(board, referee, is_full=True))
            move = rng.choice([move for move in moves if board.is_legal(move)])
            board.play(move)
            referee.play(move)
    assert num_superko >= 15 if rules.ko != "simple" else num_superko == 0


def test_random_set_ups_agree_with_the_referee(rng):
    for size in (2, 3, 4, 7, 13):
        for _ in range(40):
            stones = bytes(rng.choice(3, size * size, p=rng.dirichlet((1, 1, 1))).tolist())
            if board := set_up(stones, size):
                agree(board, Referee(size, stones=stones), is_full=True)
                agree_at_leisure(board, Referee(size, stones=stones))


@pytest.mark.parametrize("suicide", (False, True))
def test_pass_alive_is_what_no_moves_of_the_opponent_can_capture(suicide, rng):
    num_alive = 0
    for _ in range(400):
        stones = bytes(rng.choice(3, 16, p=(0.3, 0.6, 0.1)).tolist())
        if board := set_up(stones, 4):
            board.rules = Rules(suicide=suicide)
            alive = np.flatnonzero((board.pass_alive() & board.stones()).ravel() == BLACK).tolist()
            assert set(alive) == reference.find_uncapturable(stones, 4, BLACK, suicide), str(board)
            num_alive += len(alive) > 0
    assert num_alive > 50


@pytest.mark.parametrize("ko", KO_RULES)
@pytest.mark.parametrize("size", (2, 5, 9, 19))
def test_random_playouts_end_and_are_fair(size, ko):
    board = Board(size, Rules(ko=ko))
    num_moves, owned = random_playouts(board, 4000, 1)
    again, other = (random_playouts(board, 4000, seed) for seed in (1, 2))
    assert again[0] == num_moves and (again[1] == owned).all() and (other[1] != owned).any()
    assert size * size / 2 < num_moves / 4000 <= 3 * size * size
    assert abs(owned.sum()) < 8  # the first move is worth a little
    assert board.num_moves == 0


def test_random_playouts_tell_dead_stones_from_living_ones():
    board = from_diagram("""
        . X . X . O .
        X X X X X O O
        . O . . X O .
        . . . X X O O
        X X X X O O .
        O O O O O . O
        . O . O . O O""")
    _, owned = random_playouts(board, 200, 1)
    assert owned[2, 1] > 0.9  # the white stone in Black's territory
    assert (owned[:2, :4] == 1).all() and (owned[5:] == -1).all()
