"""The search tree with fake evaluators: bookkeeping, sign, rules, and a slow second opinion."""

import hashlib
import math

import numpy as np
import pytest

from conftest import check_forest, from_diagram, planes_of
from minigo._board import PLANE_NAMES, Board, IllegalMove
from minigo._tree import MAX_EDGES, Forest
from minigo.config import Rules, SearchConfig
from minigo.coords import BLACK, WHITE, parse_vertex
from reference import Referee
from test_board import SEND_TWO

WINNING = SearchConfig(score_utility=0.0)  # values are winning alone
KOMI = PLANE_NAMES.index("komi for the player to move, in tens of points")


# Fake evaluators: (B, C, N, N) planes -> logits (B, A), value (B,), score (B,)


def know_nothing(planes: np.ndarray):
    """Give every move the same prior, and every position value 0."""
    num_rows, _, size, _ = planes.shape
    logits = np.zeros((num_rows, size * size + 1), np.float32)
    return logits, np.zeros(num_rows, np.float32), np.zeros(num_rows, np.float32)


def guess(planes: np.ndarray):
    """Invent logits, value and score from what the planes hold: the same for the same planes."""
    logits, value, score = know_nothing(planes)
    for row, position in enumerate(planes):
        rng = np.random.default_rng(list(hashlib.sha256(position.tobytes()).digest()))
        logits[row] = rng.normal(size=logits.shape[1])
        value[row] = rng.uniform(-1, 1)
        score[row] = rng.normal(scale=10)
    return logits, value, score


def guess_value(planes: np.ndarray):
    """Invent the value alone, in 64ths: no rounding and no exp() can tell machines apart."""
    logits, value, score = know_nothing(planes)
    for row, position in enumerate(planes):
        value[row] = hashlib.sha256(position.tobytes()).digest()[0] % 128 / 64 - 1
    return logits, value, score


def know(values, likely: dict[int, float] | None = None):
    """Return an evaluator that knows `values(planes)` and the logits of the `likely` moves."""

    def evaluate(planes: np.ndarray):
        logits, value, score = know_nothing(planes)
        for move, logit in (likely or {}).items():
            logits[:, move] = logit
        value[:] = values(planes)
        return logits, value, score

    return evaluate


def stones_in(planes: np.ndarray) -> np.ndarray:
    """Return the stones (B, N*N): 1 is one of the player to move, -1 the opponent's."""
    own, other = (PLANE_NAMES.index(name) for name in ("own stones", "opponent's stones"))
    return (planes[:, own] - planes[:, other]).reshape(len(planes), -1)


def make_words(forest: Forest, leaves: int) -> np.ndarray:
    return np.empty((len(forest.boards) * leaves, forest.boards[0].size ** 2 + 1), dtype=np.int32)


def simulate(forest: Forest, simulations, evaluate=know_nothing, leaves: int = 1) -> int:
    """Search every tree; return the number of evaluations."""
    budget = np.zeros(len(forest.boards), dtype=np.int32)
    budget[:] = simulations
    words, num_evaluations = make_words(forest, leaves), 0
    while budget.any():
        num_rows = forest.select(budget, words)
        if num_rows:
            forest.expand(*evaluate(planes_of(words[:num_rows])))
        num_evaluations += num_rows
    check_forest(forest)
    return num_evaluations


def searched(board: Board, simulations: int, evaluate=know_nothing, config=WINNING) -> Forest:
    forest = Forest([board], config)
    simulate(forest, simulations, evaluate, config.leaves)
    return forest


def root_of(forest: Forest, tree: int = 0) -> tuple[int, float, float, float]:
    """Return visits, value, win and score of a root."""
    return forest.root(tree)[["visits", "value", "win", "score"]].item()


def columns(forest: Forest, *names: str) -> list[np.ndarray]:
    """Return statistics of the root moves of the first tree."""
    return [forest.moves(0)[name] for name in names]


def summary(forest: Forest, tree: int = 0) -> tuple:
    return root_of(forest, tree), forest.moves(tree).tobytes()


# Bookkeeping


@pytest.mark.parametrize("leaves", (1, 4, 16))
@pytest.mark.parametrize("size", (2, 5, 9))
def test_visits_of_a_node_are_one_and_those_of_its_moves(size, leaves):
    forest = Forest([Board(size)], SearchConfig(leaves=leaves))
    for simulations in [*range(1, 20), 200]:
        before = forest.num_visits(0)
        simulate(forest, simulations, guess, leaves)  # check_forest() looks at every node
        assert forest.num_visits(0) == before + simulations == 1 + forest.moves(0)["visits"].sum()


@pytest.mark.parametrize("leaves", (1, 4, 16))
def test_no_virtual_loss_is_left_behind(leaves):
    forest = searched(Board(5), 300, guess, SearchConfig(leaves=leaves))
    num_visits, value, win, score = root_of(forest)
    visits, values, wins, scores = columns(forest, "visits", "value", "win", "score")
    _, (raw_win,), (raw_score,) = guess(root_planes(Board(5)))
    raw = 0.9 * raw_win + 0.1 * 2 / math.pi * math.atan(raw_score / 5)
    assert value * num_visits == pytest.approx(raw + np.nansum(visits * values), abs=1e-3)
    assert win * num_visits == pytest.approx(raw_win + np.nansum(visits * wins), abs=1e-3)
    assert score * num_visits == pytest.approx(raw_score + np.nansum(visits * scores), abs=1e-2)
    for statistic in (values, wins, scores):
        assert (np.isnan(statistic) == (visits == 0)).all()
    assert (abs(values[visits > 0]) <= 1).all()


def root_planes(board: Board) -> np.ndarray:
    return planes_of(board.encode()[None])


def test_budgets_are_counted_down_and_trees_without_one_rest():
    forest = Forest([Board(5) for _ in range(3)], SearchConfig(leaves=2))
    budget, words = np.array([0, 1, 7], dtype=np.int32), make_words(forest, 2)
    assert forest.select(budget, words) == 2  # one leaf a tree: there is only the root yet
    assert budget.tolist() == [0, 0, 6]
    forest.expand(*know_nothing(planes_of(words[:2])))
    assert forest.select(budget, words) == 2 and budget.tolist() == [0, 0, 4]
    forest.expand(*know_nothing(planes_of(words[:2])))
    assert [forest.num_visits(tree) for tree in range(3)] == [0, 1, 3]


def test_a_full_tree_is_searched_no_more_and_the_others_go_on():
    forest, alone = (Forest([Board(5)] * num_trees, WINNING) for num_trees in (2, 1))
    assert forest.max_edges == MAX_EDGES
    forest.max_edges = 500
    simulate(forest, [10_000, 15], guess)
    num_visits = forest.num_visits(0)
    assert 500 / 26 <= num_visits < 50 and forest.num_visits(1) == 15
    simulate(alone, num_visits, guess)
    assert summary(forest) == summary(alone)  # up to there it is the same search
    simulate(forest, [10_000, 10], guess)
    assert summary(forest) == summary(alone) and forest.num_visits(1) > 15
    while forest.num_visits(0) >= num_visits:  # what a move cuts off makes room
        forest.advance(0, forest.best_move(0))
    simulate(forest, [1, 0], guess)
    assert forest.num_visits(0) > 0


def test_little_room_limit_the_leaves():
    forest = Forest([Board(5) for _ in range(3)], SearchConfig(leaves=4))
    budget, words = np.full(3, 20, dtype=np.int32), make_words(forest, 4)[:2]
    while budget.any():
        num_rows = forest.select(budget, words)
        assert num_rows <= 2
        forest.expand(*guess(planes_of(words[:num_rows])))
    check_forest(forest)
    assert [forest.num_visits(tree) for tree in range(3)] == [20, 20, 20]


def test_leaves_of_one_batch_are_different_positions():
    batches = []

    def guess_and_remember(planes):
        batches.append([position.tobytes() for position in planes])
        return guess(planes)

    searched(Board(5), 201, guess_and_remember, SearchConfig(leaves=8))
    assert all(len(set(batch)) == len(batch) for batch in batches)
    assert max(map(len, batches)) == 8


def test_trees_of_a_forest_do_not_touch_each_other():
    boards = [Board(5), Board(5, Rules(komi=0.5)), from_diagram(SEND_TWO, WHITE)]
    together = Forest(boards, SearchConfig())
    simulate(together, np.array([50, 80, 20]), guess)
    for tree, simulations in enumerate((50, 80, 20)):
        alone = searched(boards[tree], simulations, guess, SearchConfig())
        assert summary(alone) == summary(together, tree)


def test_boards_are_copied_and_given_back():
    board = Board(5, Rules(komi=0.5))
    board.play(12)
    forest = Forest([board], SearchConfig())
    board.play(13)
    copy = forest.boards[0].copy()
    assert (copy.num_moves, copy.rules.komi, copy.to_play) == (1, 0.5, WHITE)
    copy.play(3)
    assert forest.boards[0].num_moves == 1
    forest.reset(0, copy)
    assert str(forest.boards[0]) == str(copy) and root_of(forest) == (0, 0.0, 0.0, 0.0)


def test_what_is_no_forest_or_no_tree_is_refused():
    for boards in ([], [Board(5), Board(9)]):
        with pytest.raises(ValueError):
            Forest(boards, SearchConfig())
    forest = Forest([Board(5)], SearchConfig())
    with pytest.raises(ValueError):
        forest.reset(0, Board(9))
    for tree in (-1, 1):
        with pytest.raises(IndexError, match=str(tree)):
            forest.moves(tree)["visits"]


def test_arrays_of_the_wrong_shape_are_refused():
    forest = Forest([Board(5)], SearchConfig())
    budget, words = np.full(1, 3, dtype=np.int32), make_words(forest, 1)
    for bad in (np.full(2, 3, dtype=np.int32), budget.astype(np.int64)):
        with pytest.raises(ValueError):
            forest.select(bad, words)
    for bad in (words[:0], words[:, 1:].copy(), words.astype(np.int64)):
        with pytest.raises(ValueError):
            forest.select(budget, bad)
    assert forest.select(budget, words) == 1
    logits, value, score = know_nothing(planes_of(words))
    for bad in (
        (logits[:, 1:].copy(), value, score),
        (np.zeros((2, 26), dtype=np.float32), value, score),
        (logits, value[:0], score),
        (logits, value, np.zeros(2, dtype=np.float32)),
    ):
        with pytest.raises(ValueError):
            forest.expand(*bad)
    forest.expand(logits, value, score)  # the leaf still waits for a good answer
    check_forest(forest)
    assert forest.num_visits(0) == 1


def test_select_and_expand_take_turns():
    forest = Forest([Board(5)], SearchConfig())
    budget, words = np.full(1, 3, dtype=np.int32), make_words(forest, 1)
    forest.select(budget, words)
    for call in (
        lambda: forest.select(budget, words),
        lambda: forest.moves(0)["visits"],
        lambda: forest.advance(0, 0),
        lambda: forest.reset(0, Board(5)),
    ):
        with pytest.raises(RuntimeError):
            call()


@pytest.mark.parametrize("where", (0, 1, 2))
@pytest.mark.parametrize("number", (math.nan, math.inf, -math.inf))
def test_an_answer_that_is_no_number_is_refused_and_forgotten(where, number):
    forest = searched(Board(5), 20, guess)
    budget, words = np.full(1, 1, dtype=np.int32), make_words(forest, 1)
    forest.select(budget, words)
    answer = guess(planes_of(words))
    answer[where].ravel()[:] = number
    with pytest.raises(ValueError, match="NaN"):
        forest.expand(*answer)
    check_forest(forest)
    simulate(forest, 20, guess)
    assert forest.num_visits(0) == 40


# Sign and rules


def white_wins(planes: np.ndarray):
    """Say that White wins by 10 points, whoever is to move; komi's sign tells who that is."""
    logits, value, score = know_nothing(planes)
    value[:] = np.sign(planes[:, KOMI, 0, 0])
    return logits, value, 10 * value


@pytest.mark.parametrize("color", (BLACK, WHITE))
def test_values_are_for_the_player_to_move(color):
    sign = 1 if color == WHITE else -1
    forest = searched(Board(9, to_play=color), 60, white_wins)
    num_visits, value, win, score = root_of(forest)
    assert (num_visits, value, win, score) == (60, sign, sign, 10 * sign)
    visits, values, scores = columns(forest, "visits", "value", "score")
    assert (values[visits > 0] == sign).all() and (scores[visits > 0] == 10 * sign).all()


@pytest.mark.parametrize("color", (BLACK, WHITE))
def test_a_good_move_is_found_by_either_colour(color):
    forest = searched(Board(5, to_play=color), 200, know(lambda planes: stones_in(planes)[:, 7]))
    move = forest.moves(0)[7]
    assert forest.best_move(0) == 7 and move["value"] > 0.9 and move["visits"] > 100


def test_leaves_under_way_dont_speak_for_moves_never_tried():
    def black_loses(planes):
        return np.where(np.count_nonzero(stones_in(planes), axis=1) % 2, 0.5, -0.5)

    forest = searched(Board(5), 64, know(black_loses, {12: 4}), SearchConfig(leaves=8))
    assert (forest.moves(0)["visits"] > 0).sum() < 8  # one leaf at a time: only move 12


@pytest.mark.parametrize("komi", (-1.5, 8.5, 9, 9.5))
@pytest.mark.parametrize("color", (BLACK, WHITE))
def test_a_finished_game_is_scored_by_the_rules(color, komi):
    board = Board(3, Rules(komi=komi))
    board.play(4, BLACK)
    board.to_play = 3 - color
    board.play(9)
    pass_move, score = 9, (9 - komi) * (1 if color == BLACK else -1)
    forest = Forest([board], WINNING)
    assert simulate(forest, 400) < 400  # no evaluation where the game is over
    assert forest.moves(0)[["value", "score"]][pass_move].item() == (np.sign(score), score)
    forest.advance(0, pass_move)
    assert root_of(forest)[1:] == (-np.sign(score),) * 2 + (-score,)


@pytest.mark.parametrize("color", (BLACK, WHITE))
def test_a_pass_that_would_lose_the_count_is_seen_through(color):
    """The network thinks that a pass wins, and that nobody would answer it with another."""

    def like_passing(planes):
        logits, value, score = know_nothing(planes)
        last_was_pass = planes[:, PLANE_NAMES.index("last move was a pass"), 0, 0] > 0
        logits[:, 9] = np.where(last_was_pass, -20, 6)
        value[:] = np.where(last_was_pass, -0.9, 0)
        return logits, value, score

    komi = 0.5 if color == BLACK else -0.5  # empty, the board is the other's
    board = Board(3, Rules(komi=komi), color)
    forest = searched(board, 64, like_passing)
    move = forest.moves(0)[9]
    assert forest.best_move(0) != 9 and move["visits"] < 8 and move["prior"] > 0.95
    board.play(4)
    board.play(9)  # now it is the other way round: passing wins at once, whatever the network says
    assert searched(board, 64, like_passing).best_move(0) == 9


@pytest.mark.parametrize("simulations", (4, 8, 16, 64))
def test_who_is_lost_plays_on_where_a_pass_would_end_it(simulations):
    def like_passing(planes):
        logits, value, score = white_wins(planes)
        logits[:, 81] = 6
        return logits, value, score

    board = Board(9, Rules(komi=0.5))  # Black's pass, and White's, would count White's komi
    forest = searched(board, simulations, like_passing)
    assert forest.moves(0)["visits"][81] > 0 and forest.best_move(0) != 81


def test_a_search_of_a_finished_game_needs_no_evaluation():
    board = Board(3, Rules(komi=0.5))
    board.play_all([4, 9, 9])
    forest = Forest([board], SearchConfig(leaves=4, score_utility=0.0))
    assert simulate(forest, 12, leaves=4) == 0
    assert root_of(forest) == (12, -1, -1, -8.5) and not forest.moves(0)["visits"].any()
    assert forest.best_move(0) == 9
    forest.advance(0, 0)  # a client may go on
    assert forest.num_visits(0) == 0
    simulate(forest, 5)
    assert forest.num_visits(0) == 5


# The chains in the middle have two liberties each, all others two eyes. Who moves first takes one.
RACE = """
    . O O X X .
    O O O X X X
    O . O X . X
    O O O X X X
    O . X O . X
    O . X O . X"""


@pytest.mark.parametrize(("color", "good"), [(BLACK, ("E2", "E1")), (WHITE, ("B2", "B1"))])
@pytest.mark.parametrize("leaves", (1, 8))
def test_a_capturing_race_is_won_by_search_alone(color, good, leaves):
    board = from_diagram(RACE, color, Rules(komi=0.5, suicide=False))
    forest = searched(board, 60_000, config=SearchConfig(score_utility=0.0, leaves=leaves))
    best = forest.best_move(0)
    assert best in [parse_vertex(vertex, 6) for vertex in good]
    assert forest.moves(0)["value"][best] > 0.3 and forest.moves(0)["value"][36] < 0.1  # 36: pass


KO = """
    . X O .
    X O . O
    . X O .
    . . . ."""


@pytest.mark.parametrize("ko", ("simple", "positional", "situational"))
@pytest.mark.parametrize(
    ("diagram", "color"), [(KO, BLACK), (SEND_TWO, WHITE)], ids=("ko", "sending-two")
)
def test_the_ko_rule_holds_inside_the_tree(diagram, color, ko, rng):
    """Walk down random branches: at every node exactly the legal moves have a prior."""
    rules, num_ko = Rules(ko), 0
    for _ in range(30):
        board = from_diagram(diagram, color, rules)
        referee = Referee(board.size, ko, rules.suicide, board.stones(), color)
        forest = Forest([board], SearchConfig())
        simulate(forest, 1500 if ko == "positional" else 300)
        while forest.num_visits(0) and not forest.boards[0].is_over:
            verdicts = referee.verdicts()
            assert [p > 0 for p in forest.moves(0)["prior"]] == [v == "legal" for v in verdicts]
            num_ko += verdicts.count("ko")
            move = int(rng.choice(hot_moves(forest, board)))
            forest.advance(0, move)
            referee.play(move)
    assert num_ko > 5 or (diagram == SEND_TWO and ko != "positional")


def hot_moves(forest: Forest, board: Board) -> np.ndarray:
    """Return the visited moves, only those in the ko where there are any."""
    hot = [parse_vertex(vertex, board.size) for vertex in ("A1", "B1", "C1", "B3", "C3")]
    visited = np.flatnonzero(forest.moves(0)["visits"])
    if len(visited) == 0:
        return np.flatnonzero(forest.moves(0)["prior"])
    return np.intersect1d(visited, hot) if np.isin(visited, hot).any() else visited


# Tree reuse


@pytest.mark.parametrize("leaves", (1, 4))
def test_the_tree_of_the_move_played_is_kept(leaves):
    forest = searched(Board(5), 500, guess, SearchConfig(leaves=leaves))
    for _ in range(6):
        move = forest.best_move(0)
        visits, _, value, win, score = forest.moves(0)[move]
        line = forest.principal_variation(0, move, 10)
        forest.advance(0, move)
        check_forest(forest)
        assert forest.num_visits(0) == visits == 1 + forest.moves(0)["visits"].sum()
        assert root_of(forest)[1:] == pytest.approx((-value, -win, -score))
        if len(line) > 1:
            assert forest.principal_variation(0, line[1][0], 9) == line[1:]
        simulate(forest, 500 - visits, guess, leaves)
        assert forest.num_visits(0) == 500


def test_a_reused_tree_goes_on_like_one_that_was_never_cut():
    """Search on below a move that keeps getting all visits: cutting changes nothing."""
    board, move = Board(5), 12
    cut = searched(board, 100, insist(move), WINNING)
    visits = cut.moves(0)["visits"][move]
    cut.advance(0, move)
    board.play(move)
    fresh = searched(board, visits, insist(move), WINNING)
    assert summary(cut) == summary(fresh)
    for forest in (cut, fresh):
        simulate(forest, 50, insist(move))
    assert summary(cut) == summary(fresh)


def insist(move: int):
    def evaluate(planes):
        logits, value, score = guess(planes)
        is_root = planes[:, :6].reshape(len(planes), -1).sum(axis=1) == 0
        logits[is_root] = -1000
        logits[is_root, move] = 1000
        value[is_root] = 0
        return logits, value, score

    return evaluate


def test_a_move_not_searched_begins_a_new_tree():
    forest = searched(Board(9), 10)
    move = int(np.flatnonzero(forest.moves(0)["visits"] == 0)[0])
    forest.advance(0, move)
    assert root_of(forest) == (0, 0.0, 0.0, 0.0) and forest.boards[0].last_move == move
    assert not forest.moves(0)["prior"].any() and not forest.moves(0)["visits"].any()


def test_an_illegal_move_leaves_the_tree_as_it_was():
    board = Board(5)
    board.play(12)
    forest = searched(board, 50, guess)
    before = summary(forest)
    for move in (12, -1, 26):
        with pytest.raises(IllegalMove):
            forest.advance(0, move)
    assert summary(forest) == before and forest.boards[0].num_moves == 1


def test_memory_is_given_back_when_a_branch_is_played():
    forest = Forest([Board(9)], SearchConfig())
    assert [len(array) for array in forest.arrays(0)] == [1, 0]
    simulate(forest, 300, guess)
    nodes, edges = forest.arrays(0)
    assert len(nodes) == 300 and edges.nbytes > 300 * 80 * 8
    forest.advance(0, forest.best_move(0))
    assert len(forest.arrays(0)[0]) == forest.num_visits(0) < 300
    forest.reset(0, Board(9))
    assert len(forest.arrays(0)[0]) == 1


# Priors, noise, Gumbel


def test_priors_are_a_softmax_over_the_legal_moves():
    board = from_diagram(KO, BLACK)
    board.play(parse_vertex("C3", 4))
    forest = searched(board, 1, guess)
    logits = guess(root_planes(board))[0][0]
    legal = board.legal_moves()
    weights = np.where(legal, np.exp(logits), 0)
    prior = forest.moves(0)["prior"]
    assert np.allclose(prior, weights / weights.sum(), atol=1e-6)
    assert (prior[~legal] == 0).all() and prior.sum() == pytest.approx(1)
    assert np.allclose(forest.improved_policy(0), prior, atol=1e-6)  # as long as there is no visit


@pytest.mark.parametrize("shift", (-300, 300))
def test_huge_logits_are_no_harm(shift):
    def far_off(planes):
        logits, value, score = guess(planes)
        return 50 * logits + shift, value, score

    prior = searched(Board(5), 100, far_off).moves(0)["prior"]
    assert prior.sum() == pytest.approx(1) and np.isfinite(prior).all()


def test_noise_changes_the_search_but_not_the_priors():
    forest = searched(Board(5), 1)
    forest.noise(0, np.eye(26, dtype=np.float32)[7])
    assert forest.moves(0)["prior"][7] == pytest.approx(1 / 26)
    simulate(forest, 100)
    visits, priors = columns(forest, "visits", "prior")
    assert visits.argmax() == 7 and visits[7] > 20 and np.sort(visits)[-2] < 8
    assert priors[7] == pytest.approx(1 / 26)


def test_noise_is_of_one_root_only():
    board, noise = Board(5), np.eye(26, dtype=np.float32)[7]
    plain, noised = (searched(board, 1, guess) for _ in range(2))
    noised.noise(0, noise)
    for forest in (plain, noised):
        simulate(forest, 60, guess)
    assert summary(plain) != summary(noised)
    visits = noised.moves(0)["visits"][7]
    assert visits > plain.moves(0)["visits"][7]
    noised.advance(0, 7)
    board.play(7)
    assert summary(noised) == summary(searched(board, visits, guess))
    simulate(noised, 60, guess)
    assert summary(noised) == summary(searched(board, visits + 60, guess))


@pytest.mark.parametrize("shape", (0, 25, 27))
def test_noise_and_gumbels_are_one_number_a_move(shape):
    forest = searched(Board(5), 1)
    with pytest.raises(ValueError):
        forest.noise(0, np.zeros(shape, dtype=np.float32))
    with pytest.raises(ValueError):
        forest.gumbel(0, np.zeros(shape, dtype=np.float32), np.zeros(4, dtype=np.int32))


# Sequential halving of 16 simulations from 4 moves: 2 rounds of 4, then 4 of 2.
SCHEDULE = np.array([0] * 4 + [1] * 4 + [2, 2, 3, 3, 4, 4, 5, 5], dtype=np.int32)


def test_gumbel_numbers_choose_the_moves_considered():
    forest = searched(Board(5), 1)
    gumbels = np.zeros(26, dtype=np.float32)
    gumbels[[3, 8, 13, 25]] = (40, 30, 20, 10)  # the rest 0: priors are equal, values too
    forest.gumbel(0, gumbels, SCHEDULE)
    simulate(forest, len(SCHEDULE))
    visits = forest.moves(0)["visits"]
    assert sorted(np.flatnonzero(visits)) == [3, 8, 13, 25]
    assert sorted(visits[visits > 0]) == [2, 2, 6, 6] and visits[3] == visits[8] == 6
    assert forest.best_move(0) == 3


def test_gumbel_search_follows_the_values():
    # Who has 13 wins, unless he has 3, which loses.
    like_the_third = know(lambda planes: stones_in(planes)[:, [13, 3]] @ (0.5, -0.5))
    forest = searched(Board(5), 1, like_the_third)
    gumbels = np.zeros(26, dtype=np.float32)
    gumbels[[3, 8, 13, 25]] = (4, 3, 2, 1)
    forest.gumbel(0, gumbels, SCHEDULE)
    simulate(forest, len(SCHEDULE), like_the_third)
    assert forest.best_move(0) == 13
    assert forest.moves(0)["visits"][[13, 3]].tolist() == [6, 2]


def test_a_gumbel_root_starts_from_its_own_evaluation():
    forest = Forest([Board(5)], SearchConfig())
    gumbels = np.zeros(26, dtype=np.float32)
    with pytest.raises(ValueError):
        forest.gumbel(0, gumbels, SCHEDULE)
    simulate(forest, 50, guess)
    forest.gumbel(0, gumbels, SCHEDULE)
    check_forest(forest)
    assert root_of(forest) == pytest.approx(root_of(searched(Board(5), 1, guess, SearchConfig())))
    assert not forest.moves(0)["visits"].any()


def test_improved_policy_is_that_of_the_paper():
    board = Board(3)
    forest = searched(board, 1, guess)
    forest.gumbel(0, np.random.default_rng(1).gumbel(size=10).astype(np.float32), SCHEDULE)
    simulate(forest, len(SCHEDULE), guess)
    visits, values, priors = columns(forest, "visits", "value", "prior")
    visited, (raw_value,) = visits > 0, guess(root_planes(board))[1]
    mean = (priors * np.nan_to_num(values))[visited].sum() / priors[visited].sum()
    mixed = (raw_value + visits.sum() * mean) / (1 + visits.sum())  # eq. 33
    completed = np.where(visited, np.nan_to_num(values), mixed)  # eq. 10
    sigma = (50 + visits.max()) * (1 + completed) / 2  # eq. 8, with q in [0, 1]
    logits = np.log(priors) + sigma
    policy = np.exp(logits - logits.max())
    assert np.allclose(forest.improved_policy(0), policy / policy.sum(), atol=1e-5)


# Which move, which line


def test_the_best_move_without_visits_is_the_likeliest():
    forest = Forest([Board(5)], SearchConfig())
    assert 0 <= forest.best_move(0) <= 25
    simulate(forest, 1, guess)
    assert forest.best_move(0) == forest.moves(0)["prior"].argmax()


def test_the_best_move_is_the_better_one_of_those_searched_enough():
    # Likes 13, where 3 and 8 are better for whoever has them.
    better = know(lambda planes: stones_in(planes)[:, [3, 8]] @ (0.3, 0.4), {3: 2, 8: -8, 13: 5})
    forest = searched(Board(5), 64, better)
    visits, values = columns(forest, "visits", "value")
    assert visits.argmax() == 13 and visits[3] >= visits[13] / 8 and values[3] > values[13]
    assert forest.best_move(0) == 3
    trusted = np.where(8 * visits >= visits.max(), forest.improved_policy(0), 0)
    assert trusted.argmax() == 3


def test_avoided_moves_stay_out_until_their_depth_and_the_next_root():
    forest, until = Forest([Board(5)], SearchConfig()), np.zeros((3, 26), np.int32)
    until[BLACK, :20], until[WHITE] = 1, 2  # White has nothing left but a pass at depth 1
    forest.avoid(0, until)
    simulate(forest, 300, guess)
    check_forest(forest)
    visits = forest.moves(0)["visits"]
    assert not visits[:20].any() and visits[20:].any() and forest.best_move(0) >= 20
    forest.advance(0, int(visits[:25].argmax()))
    kept = forest.moves(0)["visits"]
    assert kept[25] == kept.sum() > 0
    simulate(forest, 300, guess)
    assert (forest.moves(0)["visits"] > 0).sum() > 5
    with pytest.raises(ValueError):
        forest.avoid(0, until[:2].copy())
    with pytest.raises(ValueError):
        forest.avoid(0, until[:, :25].copy())


def test_a_principal_variation_can_be_played():
    board = Board(5)
    forest = searched(board, 800, guess)
    for move in np.flatnonzero(forest.moves(0)["visits"]).tolist():
        line, visits = zip(*forest.principal_variation(0, move, 6), strict=True)
        assert line[0] == move and visits[0] == forest.moves(0)["visits"][move]
        assert 1 <= len(line) <= 6 and visits == tuple(sorted(visits, reverse=True))
        board.copy().play_all(line)
    best = forest.best_move(0)
    (first, _), (second, visits) = forest.principal_variation(0, best, 2)
    assert forest.principal_variation(0, best, 1)[0][0] == best == first
    forest.advance(0, first)
    assert forest.moves(0)["visits"].max() == visits == forest.moves(0)["visits"][second]


# The same again


def test_the_same_input_gives_the_same_tree(rng):
    noise = rng.dirichlet(np.full(26, 0.4)).astype(np.float32)

    def run():
        forest = Forest([Board(5), Board(5, Rules(komi=2))], SearchConfig(leaves=3))
        simulate(forest, 1, guess, 3)
        forest.noise(0, noise)
        simulate(forest, 150, guess, 3)
        forest.advance(0, forest.best_move(0))
        simulate(forest, 50, guess, 3)
        return summary(forest, 0), summary(forest, 1)

    assert run() == run()


SIGNATURE = "699308aa2a5e0067"


def test_search_signature():
    """A hash of fixed searches: a refactor leaves it as it is, a change of the search renews it."""
    digest = hashlib.sha256()
    for leaves in (1, 4):
        config = SearchConfig(leaves=leaves)
        forest = Forest([Board(5), from_diagram(SEND_TWO, WHITE)], config)
        for _ in range(3):
            simulate(forest, 200, guess_value, leaves)
            for tree in (0, 1):
                digest.update(forest.moves(tree)["visits"].tobytes())
                forest.advance(tree, forest.best_move(tree))
    assert digest.hexdigest()[:16] == SIGNATURE


C_PUCT, C_PUCT_LOG, C_PUCT_BASE, FPU_REDUCTION = 1.1, 0.45, 500, 0.2  # those of _tree.pyx


class SlowNode:
    """A node of the second opinion: a search tree of dictionaries, one simulation at a time."""

    def __init__(self, board: Board, config: SearchConfig, evaluate):
        self.board, self.config, self.evaluate = board, config, evaluate
        self.visits, self.value_sum, self.children, self.prior = 0, 0.0, {}, None

    def utility(self, value: float, score: float) -> float:
        share = self.config.score_utility
        return (1 - share) * value + share * 2 / math.pi * math.atan(score / self.board.size)

    def first_visit(self) -> float:
        if self.board.is_over:
            score = self.board.score() * (1 if self.board.to_play == BLACK else -1)
            return self.utility(float(np.sign(score)), score)
        logits, value, score = self.evaluate(root_planes(self.board))
        weights = np.where(self.board.legal_moves(), np.exp(logits[0] - logits[0].max()), 0)
        self.prior = weights / weights.sum()
        return self.utility(float(value[0]), float(score[0]))

    def puct(self, move: int) -> float:
        child = self.children.get(move)
        c = C_PUCT + C_PUCT_LOG * math.log((self.visits + C_PUCT_BASE) / C_PUCT_BASE)
        u = c * self.prior[move] * math.sqrt(self.visits - 1 + 0.01)
        if child:
            return -child.value_sum / child.visits + u / (1 + child.visits)
        visited_prior = sum(self.prior[other] for other in self.children)
        fpu = self.value_sum / self.visits - FPU_REDUCTION * math.sqrt(visited_prior)
        return fpu + u

    def simulate(self) -> float:
        """Do one simulation from here and return its value for the player to move."""
        if self.prior is None:
            value = self.first_visit()
        else:
            legal, last = np.flatnonzero(self.board.legal_moves()), self.board.size**2
            move = max(legal.tolist(), key=self.puct)
            if self.board.num_passes and last not in self.children:
                move = last
            if move not in self.children:
                board = self.board.copy()
                board.play(move)
                self.children[move] = SlowNode(board, self.config, self.evaluate)
            value = -self.children[move].simulate()
            answer = self.children[last].children.get(last) if last in self.children else None
            if answer and answer.board.is_over and answer.value_sum < 0:
                self.prior[last] = 0  # a pass that a pass refutes
        self.visits, self.value_sum = self.visits + 1, self.value_sum + value
        return value


@pytest.mark.parametrize("share", (0.0, 0.1))
@pytest.mark.parametrize("size", (2, 3, 5))
def test_the_search_is_that_of_a_slow_one(size, share):
    config = SearchConfig(score_utility=share)
    slow = SlowNode(Board(size), config, guess)
    for _ in range(300):
        slow.simulate()
    forest = searched(Board(size), 300, guess, config)
    for move, visits in enumerate(forest.moves(0)["visits"]):
        assert visits == (slow.children[move].visits if move in slow.children else 0)
    assert root_of(forest)[1] == pytest.approx(slow.value_sum / slow.visits)
