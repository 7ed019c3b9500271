"""A window of game records -> training batches, symmetries applied; no files, no torch."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ._board import NUM_PLANES
from .coords import NUM_SYMMETRIES, check_size, sign_of, symmetry_table
from .record import GameRecord


@dataclass(frozen=True)
class Batch:
    """Training positions; every target is for the player to move, its weight 0 where unknown."""

    planes: np.ndarray  # (B, C, N, N) float32
    policy: np.ndarray  # (B, A) float32, sums to 1
    reply: np.ndarray  # (B, A) float32, 1 at the opponent's next move
    reply_weight: np.ndarray  # (B,) float32, 0 or 1, as all weights
    value: np.ndarray  # (B,) float32 z in [-1, 1]
    value_weight: np.ndarray
    score: np.ndarray  # (B,) float32 points
    score_weight: np.ndarray
    ownership: np.ndarray  # (B, N, N) float32 +1 own, -1 the opponent's
    ownership_weight: np.ndarray


class Replay:
    """The most recent games, of one or several board sizes, sampled uniformly by position.

    The positions of a game are its `policy_plies`; of one without a search, so without `policies`,
    they are every ply, and the target is the move played. Boards and planes are made anew for
    every batch, which is of one size, a size as often as its share of the positions.
    """

    def __init__(self, sizes: Iterable[int], rng: np.random.Generator) -> None:
        self.rng, self.sizes = rng, [check_size(size) for size in sizes]
        self._games: dict[int, list[GameRecord]] = {size: [] for size in self.sizes}
        # Of each game of a size, the number of positions in those before it; at the end, in all.
        self._starts = {size: [0] for size in self.sizes}
        self._num_dropped = 0

    def __len__(self) -> int:
        """Count the positions in the window."""
        return sum(map(self.count, self.sizes))

    def count(self, size: int) -> int:
        """Count the positions in the window of one size."""
        return self._starts[size][-1]

    @property
    def num_positions(self) -> int:
        """Positions added so far, those that left the window included."""
        return self._num_dropped + len(self)

    def add(self, records: Iterable[GameRecord]) -> None:
        """Append games, the newest last. Raises ValueError for another board size."""
        for record in records:
            if record.size not in self._games:
                raise ValueError(f"a {record.size}x{record.size} game among sizes {self.sizes}")
            if count := len(record.moves if record.policies is None else record.policy_plies):
                self._games[record.size].append(record)
                self._starts[record.size].append(self.count(record.size) + count)

    def trim(self, window_positions: int) -> None:
        """Drop the oldest games of each size until its share of so many positions is left.

        The last game of each stays.
        """
        total = len(self)
        for size, starts in self._starts.items():
            excess = starts[-1] - window_positions * starts[-1] // max(total, 1)
            if excess > 0:
                num_games = min(bisect_left(starts, excess), len(self._games[size]) - 1)
                del self._games[size][:num_games]
                self._starts[size] = [start - starts[num_games] for start in starts[num_games:]]
                self._num_dropped += starts[num_games]

    def sample(self, batch_size: int) -> Batch:
        """Draw positions of one size with replacement, each in a random one of eight symmetries."""
        if not len(self):
            raise ValueError("no position to sample from")
        ends = np.cumsum([self.count(size) for size in self.sizes])
        size = self.sizes[np.searchsorted(ends, self.rng.integers(ends[-1]), side="right")]
        positions = self.rng.integers(self.count(size), size=batch_size)
        return self.batch(size, positions, self.rng.integers(NUM_SYMMETRIES, size=batch_size))

    def locate(self, size: int, positions: np.ndarray) -> Iterator[tuple[GameRecord, int]]:
        """Yield the game and the ply of each of the given positions of a size."""
        games, starts = self._games[size], self._starts[size]
        for position in positions.tolist():
            number = bisect_right(starts, position) - 1
            record, place = games[number], position - starts[number]
            yield record, place if record.policies is None else int(record.policy_plies[place])

    def batch(self, size: int, positions: np.ndarray, symmetries: np.ndarray) -> Batch:
        """Build the batch of given positions of a size, 0 <= position < count(size), oldest first.

        positions, symmetries: (B,) int; a symmetry is a row of `symmetry_table`.
        """
        num, table = len(positions), symmetry_table(size)
        planes = np.empty((num, NUM_PLANES, size, size), np.float32)
        policy, reply = np.zeros((2, num, size**2 + 1), np.float32)
        ownership = np.zeros((num, size**2), np.float32)
        value, score = np.zeros((2, num), np.float32)
        known = np.zeros((4, num), np.float32)  # weights of reply, value, score, ownership
        for i, (record, ply) in enumerate(self.locate(size, positions)):
            to = table[symmetries[i]]  # (A,): where each move goes
            if record.policies is None:
                policy[i, to[record.moves[ply]]] = 1
            else:
                policy[i, to] = record.policies[np.searchsorted(record.policy_plies, ply)]
            board = record.board(ply)
            board.write_planes(planes[i], symmetries[i])
            sign = sign_of(board.to_play)
            if ply + 1 < len(record.moves):
                reply[i, to[record.moves[ply + 1]]], known[0, i] = 1, 1
            if record.result is not None:
                value[i], known[1, i] = sign * record.result, 1
            if record.score is not None:
                score[i], known[2, i] = sign * record.score, 1
            if record.ownership is not None:
                ownership[i, to[:-1]], known[3, i] = sign * record.ownership, 1
        ownership = ownership.reshape(num, size, size)
        return Batch(
            planes, policy, reply, known[0], value, known[1], score, known[2], ownership, known[3]
        )
