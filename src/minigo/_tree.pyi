"""Search trees: select, expand and backup, many trees in one call and without the GIL.

They evaluate nothing: `search.py` does, between select and expand.
"""

import numpy as np

from ._board import Board
from .config import SearchConfig

STATISTICS: np.dtype  # visits int32; prior, value, win, score float32
MAX_EDGES: int  # 0.24 GB, and until the next move as much for what a move has cut off
C_PUCT: float
C_PUCT_LOG: float
C_PUCT_BASE: float
FPU_REDUCTION: float
FORCED_PLAYOUTS: float
C_VISIT: float
C_SCALE: float

class Forest:
    """Trees that are searched together: one per position, all of one board size.

    A tree stops growing at `max_edges`: MAX_EDGES, whatever the others hold, so that it is searched
    as it would be alone. Visits that are asked for bound the memory of many trees long before; who
    searches them by time alone gives each its share.
    """

    max_edges: int  # of each tree; a batch may go beyond by its leaves
    boards: list[Board]  # at the roots, for reading: moves are played by `advance`

    def __init__(self, boards: list[Board], config: SearchConfig) -> None:
        """Start a tree at each board; the boards are copied."""

    def __len__(self) -> int: ...
    def reset(self, tree: int, board: Board) -> None:
        """Throw a tree away and start it again at a copy of `board`."""

    def advance(self, tree: int, move: int) -> None:
        """Play `move` at the root and keep what the tree knows about it. Raises IllegalMove."""

    def select(self, budget: np.ndarray, planes: np.ndarray) -> int:
        """Go down from the roots to leaves that need an evaluation, and write their planes.

        budget: (T,) int32, simulations still to do for each tree; each one started is taken off,
        also those that end in a finished game and need no evaluation; none is left to a tree of
        `max_edges`. planes: (B, C, N, N) float32; returns how many rows were written, at most
        `config.leaves` a tree.
        """

    def expand(self, logits: np.ndarray, value: np.ndarray, score: np.ndarray) -> None:
        """Give the leaves of the last `select` their evaluations and back them up.

        logits: (B, A); value: (B,) in [-1, 1] and score: (B,) points, both for the player to
        move at the leaf. All float32, rows in the order of `planes`. Discards the leaves and
        raises ValueError where one holds NaN or infinity, but for a logit of -inf: no prior.
        """

    def discard(self) -> None:
        """Take back the leaves that wait for `expand`, as if they had not been selected."""

    def moves(self, tree: int) -> np.ndarray:
        """Return (A,) STATISTICS of the root's moves, all for the player to move there.

        visits: N(s, a). prior: the network's policy over the legal moves, without noise. value:
        Q(s, a), a utility, which holds the share `score_utility` of points. win: the mean result,
        +1 = he wins. score: points. The last three are NaN where there is no visit.
        """

    def root(self, tree: int) -> np.void:
        """Return one of STATISTICS: visits and means of the root, zeros where it has no visit."""

    def num_visits(self, tree: int) -> int:
        """Return the visits of the root, its own evaluation included."""

    def best_move(self, tree: int) -> int:
        """Return the root move of the largest logit + sigma(Q), if it has 1/8 of the most visits.

        sigma is that of a Gumbel root (Danihelka et al. 2022, section 5), which trusts values more
        than visits do: some 50 Elo at 64 simulations (selfplay/LOG.md). With Gumbel numbers
        theirs count, too, among the most visited; without any visit the largest prior.
        Pass where there are no moves.
        """

    def principal_variation(self, tree: int, move: int, max_length: int) -> list[int]:
        """Return `move` and the most visited moves after it."""

    def noise(self, tree: int, noise: np.ndarray, frac: float) -> None:
        """Mix (A,) noise into the root's prior until the next move."""

    def gumbel(self, tree: int, gumbels: np.ndarray, schedule: np.ndarray) -> None:
        """Choose root moves by (A,) Gumbel noise and a schedule of visit counts.

        schedule: (n,) int32: simulation i goes to the best move that has schedule[i] visits
        (sequential halving, as a table). The root starts again from its own evaluation, which it
        must have: ValueError.
        """

    def improved_policy(self, tree: int) -> np.ndarray:
        """Return (A,) float32 softmax(logits + sigma(completed Q)) (Danihelka et al., eq. 11)."""

    def memory_bytes(self) -> tuple[int, int]:
        """Return (bytes of nodes and edges in use, nodes in use) over all trees."""

    def check(self) -> None:
        """Recompute the visit identities; AssertionError in a debug build where one is wrong."""
