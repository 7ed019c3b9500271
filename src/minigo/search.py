"""A search of one or many positions: simulations, root exploration, tree reuse, choice of a move.

The trees are compiled (`_tree`); here their leaves meet the evaluator, once per batch.
"""

import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from ._board import Board
from ._tree import Forest
from .config import SearchConfig
from .evaluator import Evaluation, Evaluator

ALL_VISITS = 1 << 30  # more than a tree has room for


class SearchResult(NamedTuple):
    """What a search found at one root, all for the player to move (`Forest.moves`, `.root`)."""

    move: int  # the one to play without any randomness
    moves: np.ndarray  # (A,) with the fields visits, prior, value, win, score
    root: np.void  # the same of the root: 1 + the sum of the visits, and means over them


class Search:
    """Trees at several positions of one size, advanced together: their leaves are one batch."""

    def __init__(
        self, evaluator: Evaluator, config: SearchConfig, boards: Sequence[Board], rng: Generator
    ) -> None:
        self.evaluator, self.config, self.rng = evaluator, config, rng
        self.forest = Forest(boards, config)
        self.boards = self.forest.boards  # at the roots, for reading
        self._positions = np.empty((len(boards) * config.leaves, boards[0].size ** 2 + 1), np.int32)
        self._answer: Callable[[], Evaluation] | None = None  # of the batch that was begun

    def run(
        self,
        simulations: int | np.ndarray,
        *,
        deadline: float | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> None:
        """Add simulations to every tree, the same number or (T,) one number each.

        Stops early at `deadline` (of time.monotonic) or when `stop()` is true, but after a batch at
        least. After an error or Ctrl-C the trees are as if the last batch had not been begun.
        """
        budget = np.full(len(self.boards), simulations, dtype=np.int32)
        try:
            while budget.any():
                self.begin(budget)
                self.end()
                if (deadline and time.monotonic() >= deadline) or (stop and stop()):
                    return
        except BaseException:
            self.forest.discard()
            self._answer = None
            raise

    def begin(self, budget: np.ndarray) -> None:
        """Begin to evaluate one batch: `config.leaves` of each tree as long as its budget lasts.

        budget: (T,) int32, simulations still to do for each tree; those begun are taken off. No
        tree can be looked at before `end`.
        """
        num_rows = self.forest.select(budget, self._positions)
        if num_rows:
            self._answer = self.evaluator.begin(self._positions[:num_rows])

    def end(self) -> None:
        """Wait for the batch that was begun, if any, and give its leaves their evaluations."""
        answer, self._answer = self._answer, None
        if answer:
            leaves = answer()
            self.forest.expand(leaves.logits, leaves.value, leaves.score)

    def explore(self, tree: int, simulations: int) -> None:
        """Give a root noise or Gumbel numbers, as `config.root` says, for its next simulations.

        A Gumbel root must have its evaluation: ValueError.
        """
        legal = self.boards[tree].legal_moves()
        if self.config.root == "gumbel":
            gumbels = self.rng.gumbel(size=len(legal)).astype(np.float32)
            considered = min(self.config.num_considered, int(legal.sum()))
            self.forest.gumbel(tree, gumbels, considered_visits(considered, simulations))
        else:
            self.forest.noise(tree, root_noise(legal, self.rng))

    def result(self, tree: int) -> SearchResult:
        """Return what the search knows about a root."""
        forest = self.forest
        return SearchResult(forest.best_move(tree), forest.moves(tree), forest.root(tree))

    def policy_target(self, tree: int) -> np.ndarray:
        """Return (A,) float32: what a root's search would teach the network."""
        moves = self.forest.moves(tree)
        visits = moves["visits"]
        if not visits.any():
            return moves["prior"]
        if self.config.root == "gumbel":
            return self.forest.improved_policy(tree)
        return (visits / visits.sum()).astype(np.float32)


def choose_move(visits: np.ndarray, temperature: float, rng: Generator) -> int:
    """Sample a move in proportion to visits ** (1 / temperature).

    visits: (A,) root visit counts or any weights, at least one positive; temperature > 0 (Silver et
    al. 2017, Methods, "Play").
    """
    ends = np.cumsum((visits / visits.max()) ** (1 / temperature), dtype=np.float64)
    return int(np.searchsorted(ends, rng.random() * ends[-1], side="right"))


def root_noise(legal: np.ndarray, rng: Generator) -> np.ndarray:
    """Draw (A,) Dirichlet noise over the legal moves: alpha is 10.83 in all (KataGo, section 3)."""
    noise, num_legal = np.zeros(len(legal), np.float32), int(legal.sum())
    noise[legal] = rng.dirichlet([10.83 / num_legal] * num_legal)
    return noise


@functools.lru_cache(maxsize=4096)
def considered_visits(num_considered: int, simulations: int) -> np.ndarray:
    """Return (simulations,) int32: how many visits the root move has that each simulation goes to.

    Sequential halving as a table: the moves still considered, at first `num_considered`, get the
    same number of simulations in each of log2(num_considered) phases; then the better half stays,
    at least two (Danihelka et al. 2022, Algorithm 2).
    """
    num_left, num_phases = num_considered, max(1, math.ceil(math.log2(max(2, num_considered))))
    visits, table = [0] * num_considered, []
    while len(table) < simulations:
        for _ in range(max(1, simulations // (num_phases * num_left))):
            table += visits[:num_left]
            visits = [count + 1 for count in visits[:num_left]]
        num_left = min(num_left, max(2, num_left // 2))
    return np.array(table[:simulations], dtype=np.int32)
