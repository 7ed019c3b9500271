"""A window of game records -> training batches, symmetries applied; no files, no torch."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ._board import NUM_PLANES
from .coords import BLACK, NUM_SYMMETRIES, check_size, symmetry_table
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


class _Games:
    """Games of one size, the oldest first, and how many positions each has."""

    def __init__(self) -> None:
        self.records: list[GameRecord] = []
        self.counts: list[int] = []
        self.ends = np.zeros(0, np.int64)  # the cumulative sum of `counts`

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def drop(self, num_games: int) -> None:
        del self.records[:num_games], self.counts[:num_games]
        self.ends = np.cumsum(self.counts, dtype=np.int64)


class Replay:
    """The most recent games, of one or several board sizes, sampled uniformly by position.

    The positions of a game are its `policy_plies`; of one without a search, so without `policies`,
    they are every ply, and the target is the move played. Boards and planes are made anew for
    every batch, which is of one size, a size as often as its share of the positions.
    """

    def __init__(self, sizes: Iterable[int], rng: np.random.Generator) -> None:
        self.rng, self.sizes = rng, [check_size(size) for size in sizes]
        self._games = {size: _Games() for size in self.sizes}
        self._num_dropped = 0

    def __len__(self) -> int:
        """Count the positions in the window."""
        return sum(map(len, self._games.values()))

    def count(self, size: int) -> int:
        """Count the positions in the window of one size."""
        return len(self._games[size])

    @property
    def num_positions(self) -> int:
        """Positions added so far, those that left the window included."""
        return self._num_dropped + len(self)

    def add(self, records: Iterable[GameRecord]) -> None:
        """Append games, the newest last. Raises ValueError for another board size."""
        for record in records:
            if record.size not in self._games:
                raise ValueError(f"a {record.size}x{record.size} game among sizes {self.sizes}")
            if count := _count_positions(record):
                self._games[record.size].records.append(record)
                self._games[record.size].counts.append(count)
        for games in self._games.values():
            games.drop(0)

    def trim(self, window_positions: int) -> None:
        """Drop the oldest games of each size until its share of so many positions is left.

        The last game of each stays.
        """
        total = len(self)
        for games in self._games.values():
            excess = len(games) - window_positions * len(games) // max(total, 1)
            if excess > 0:
                num_games = int(np.searchsorted(games.ends, excess)) + 1
                num_games = min(num_games, len(games.records) - 1)
                self._num_dropped += sum(games.counts[:num_games])
                games.drop(num_games)

    def sample(self, batch_size: int) -> Batch:
        """Draw positions of one size with replacement, each in a random one of eight symmetries."""
        if not len(self):
            raise ValueError("no position to sample from")
        position = int(self.rng.integers(len(self)))
        for size in self.sizes:
            position -= self.count(size)
            if position < 0:
                break
        positions = self.rng.integers(self.count(size), size=batch_size)
        return self.batch(size, positions, self.rng.integers(NUM_SYMMETRIES, size=batch_size))

    def locate(self, size: int, positions: np.ndarray) -> Iterator[tuple[GameRecord, int]]:
        """Yield the game and the ply of each of the given positions of a size."""
        games = self._games[size]
        numbers = np.searchsorted(games.ends, positions, side="right")
        places = positions - games.ends[numbers] + np.take(games.counts, numbers)
        for number, place in zip(numbers.tolist(), places.tolist(), strict=True):
            record = games.records[number]
            yield record, place if record.policies is None else int(record.policy_plies[place])

    def batch(self, size: int, positions: np.ndarray, symmetries: np.ndarray) -> Batch:
        """Build the batch of given positions of a size, 0 <= position < count(size), oldest first.

        positions, symmetries: (B,) int; a symmetry is a row of `symmetry_table`.
        """
        num, num_moves = len(positions), size**2 + 1
        planes = np.empty((num, NUM_PLANES, size, size), np.float32)
        policy, reply = (np.zeros((num, num_moves), np.float32) for _ in range(2))
        ownership = np.zeros((num, num_moves), np.float32)  # at pass: 0
        known = np.zeros((4, num), np.float32)  # weights of reply, value, score, ownership
        value, score = np.zeros((2, num), np.float32)
        rows = zip(self.locate(size, positions), symmetries.tolist(), strict=True)
        for i, ((record, ply), symmetry) in enumerate(rows):
            if record.policies is None:
                policy[i, record.moves[ply]] = 1
            else:
                policy[i] = record.policies[np.searchsorted(record.policy_plies, ply)]
            record.board(ply).write_planes(planes[i], symmetry)
            sign = 1 if (record.to_play == BLACK) == (ply % 2 == 0) else -1
            if ply + 1 < len(record.moves):
                reply[i, record.moves[ply + 1]], known[0, i] = 1, 1
            if record.result is not None:
                value[i], known[1, i] = sign * record.result, 1
            if record.score is not None:
                score[i], known[2, i] = sign * record.score, 1
            if record.ownership is not None:
                ownership[i, :-1], known[3, i] = record.ownership, 1
                ownership[i] *= sign
        to = _table(size)[symmetries]  # (B, A): where each move goes
        policy, reply, ownership = (_move_columns(x, to) for x in (policy, reply, ownership))
        ownership = np.ascontiguousarray(ownership[:, :-1]).reshape(num, size, size)
        return Batch(
            planes, policy, reply, known[0], value, known[1], score, known[2], ownership, known[3]
        )


@lru_cache
def _table(size: int) -> np.ndarray:
    return symmetry_table(size).astype(np.int64)


def _count_positions(record: GameRecord) -> int:
    return len(record.moves if record.policies is None else record.policy_plies)


def _move_columns(values: np.ndarray, to: np.ndarray) -> np.ndarray:
    moved = np.empty_like(values)
    np.put_along_axis(moved, to, values, axis=1)
    return moved
