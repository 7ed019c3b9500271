"""The search over a fake evaluator: exploration at the root, targets, and the choice of a move."""

import math
import time
from dataclasses import dataclass
from unittest.mock import Mock

import numpy as np
import pytest

from conftest import check_forest, from_diagram
from minigo._board import Board
from minigo.config import Rules, SearchConfig
from minigo.search import Search, choose_move, considered_visits, root_noise

pytest.importorskip("torch")
from minigo.evaluator import Evaluation  # noqa: E402


@dataclass
class FakeEvaluator:
    """Prefers no move; likes positions with more own stones."""

    num_rows: int = 0

    def begin(self, positions):
        num, num_moves = positions.shape
        self.num_rows += num
        words = positions[:, :-1]
        balance = ((words & 1) - (words >> 1 & 1)).sum(1) / math.sqrt(num_moves - 1)
        logits = np.zeros((num, num_moves), np.float32)
        answer = logits, np.tanh(balance).astype(np.float32), balance.astype(np.float32)
        return lambda: Evaluation(*answer)


def make_search(num_boards=1, seed=0, size=5, **config):
    boards = [Board(size, Rules(komi=0.5)) for _ in range(num_boards)]
    return Search(FakeEvaluator(), SearchConfig(**config), boards, np.random.default_rng(seed))


@pytest.mark.parametrize("leaves", [1, 8])
def test_every_tree_gets_its_own_number_of_simulations(leaves):
    search = make_search(3, leaves=leaves)
    search.run(np.array([1, 200, 0]))
    assert [search.forest.num_visits(tree) for tree in range(3)] == [1, 200, 0]
    check_forest(search.forest)  # no virtual loss is left


def test_search_stops_at_its_deadline_and_when_told():
    search = make_search()
    search.run(10**6, deadline=time.monotonic() + 0.05)
    assert 0 < search.forest.num_visits(0) < 10**6
    num_rows = search.evaluator.num_rows
    search.run(10**6, stop=lambda: True)
    assert search.evaluator.num_rows == num_rows + 1  # finished games on the way need none


def test_there_is_a_move_however_late_it_is():
    search = make_search()
    search.run(100, deadline=time.monotonic() - 1)
    result = search.result(0)
    assert result.root["visits"] == 1 and result.moves["prior"][result.move] > 0


def test_search_takes_the_capture():
    board = from_diagram("""
        . X O . .
        . X O X .
        . . X . .
        . . . . .
        . . . . .""")
    search = Search(FakeEvaluator(), SearchConfig(), [board], np.random.default_rng(0))
    search.run(1)
    value = search.result(0).root["value"]  # the evaluator's own
    search.run(200)
    result = search.result(0)
    assert result.move == 3 and result.root["value"] > value


def explore(search):
    """Do a search of `config.simulations` as self-play does: a Gumbel root is evaluated first."""
    if search.config.root == "gumbel":
        search.run(1)
    search.explore(0, search.config.simulations)
    search.run(search.config.simulations)


@pytest.mark.parametrize("root", ["puct", "gumbel"])
def test_exploration_differs_by_seed_and_repeats_with_it(root):
    def visits(seed):
        search = make_search(seed=seed, root=root, simulations=32)
        explore(search)
        check_forest(search.forest)
        return search.result(0).moves["visits"].tolist()

    assert visits(1) == visits(1) != visits(2)


def test_gumbel_gives_the_first_phase_to_as_many_moves_as_it_considers():
    search = make_search(root="gumbel", simulations=8, num_considered=8)
    explore(search)
    visits = search.result(0).moves["visits"]
    assert visits.sum() == 8 and search.evaluator.num_rows == 9  # and one for the root itself
    search = make_search(root="gumbel", simulations=16, num_considered=4)
    explore(search)
    visits = search.result(0).moves["visits"]
    assert sorted(visits[visits > 0]) == [2, 2, 6, 6] and visits[search.result(0).move] == 6


def test_gumbel_target_prefers_what_turned_out_better():
    search = make_search(root="gumbel", simulations=64)
    explore(search)
    result, policy = search.result(0), search.policy_target(0)
    assert policy.sum() == pytest.approx(1, abs=1e-5)
    best = np.nanargmax(result.moves["value"])
    assert policy[best] > result.moves["prior"][best]


def test_considered_visits_halve():
    assert considered_visits(4, 8).tolist() == [0, 0, 0, 0, 1, 1, 2, 2]
    assert considered_visits(1, 3).tolist() == [0, 1, 2]
    assert considered_visits(16, 0).tolist() == []
    assert len(considered_visits(16, 50)) == 50


def test_root_noise_is_a_distribution_over_the_legal_moves():
    legal = np.array([True, False, True, True])
    noise = root_noise(legal, np.random.default_rng(0))
    assert noise.sum() == pytest.approx(1) and noise[1] == 0 and (noise[legal] > 0).all()


def test_choose_move_follows_temperature():
    rng = np.random.default_rng(0)
    visits = np.array([1, 0, 3])
    moves = [choose_move(visits, 1.0, rng) for _ in range(2000)]
    assert moves.count(1) == 0 and 0.7 < moves.count(2) / 2000 < 0.8
    sharper = [choose_move(visits, 0.25, rng) for _ in range(2000)]
    assert sharper.count(2) > moves.count(2)


@pytest.mark.parametrize("root", ["puct", "gumbel"])
@pytest.mark.parametrize("leaves", [1, 8])
@pytest.mark.parametrize("num_before", [0, 1, 40])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ValueError])
def test_an_error_in_the_evaluator_leaves_the_trees_as_they_were(error, num_before, leaves, root):
    def fail(positions):
        if error is not ValueError:
            raise error
        answer = FakeEvaluator().begin(positions)()
        answer.value[-1] = np.nan  # which `expand` refuses; the other rows are good
        return lambda: answer

    search, undisturbed = (make_search(2, root=root, leaves=leaves) for _ in range(2))
    for each in (search, undisturbed):
        each.run(num_before)
        if num_before:
            each.explore(0, 40)
    before, search.evaluator.begin = facts(search), fail
    with pytest.raises(error):
        search.run(8)
    assert facts(search) == before
    del search.evaluator.begin  # the class has a good one
    for each in (search, undisturbed):
        each.run(40)
        check_forest(each.forest)
    assert facts(search) == facts(undisturbed)
    search.forest.reset(0, Board(5))


def facts(search) -> list[str]:
    return [repr(search.result(tree)) for tree in range(len(search.boards))]


def test_an_answer_that_nobody_waited_for_is_forgotten(monkeypatch):
    search, over = make_search(), Board(5)
    over.play_all([25, 25])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(search, "end", Mock(side_effect=KeyboardInterrupt))
        search.run(4)
    search.forest.reset(0, over)  # a finished game has nothing to evaluate
    search.run(4)
    assert search.forest.num_visits(0) == 4
