"""A window of game records -> training batches, symmetries applied; no files, no torch."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

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


class Replay:
    """The most recent games of one size, sampled uniformly by position.

    The positions of a game are its `policy_plies`; of a game without any search, so without
    `values`, they are every ply, and the target is the move played. Boards and planes are made
    anew for every batch.
    """

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self.size = check_size(size)
        self.rng = rng
        self._table = symmetry_table(size).astype(np.int64)
        self._games: list[GameRecord] = []
        self._counts: list[int] = []  # positions of each game
        self._ends = np.zeros(0, np.int64)  # their cumulative sum
        self._num_dropped = 0

    def __len__(self) -> int:
        """Count the positions in the window."""
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def num_positions(self) -> int:
        """Positions added so far, those that left the window included."""
        return self._num_dropped + len(self)

    def add(self, records: Iterable[GameRecord]) -> None:
        """Append games, the newest last. Raises ValueError for another board size."""
        for record in records:
            if record.size != self.size:
                raise ValueError(f"a {record.size}x{record.size} game among size {self.size}")
            if count := _count_positions(record):
                self._games.append(record)
                self._counts.append(count)
        self._ends = np.cumsum(self._counts, dtype=np.int64)

    def trim(self, window_positions: int) -> None:
        """Drop the oldest games until at most so many positions are left; the last game stays."""
        excess = len(self) - window_positions
        if excess <= 0 or not self._games:
            return
        num_games = min(int(np.searchsorted(self._ends, excess)) + 1, len(self._games) - 1)
        self._num_dropped += sum(self._counts[:num_games])
        del self._games[:num_games], self._counts[:num_games]
        self._ends = np.cumsum(self._counts, dtype=np.int64)

    def sample(self, batch_size: int) -> Batch:
        """Draw positions uniformly with replacement, each in a random one of eight symmetries."""
        if not len(self):
            raise ValueError("no position to sample from")
        positions = self.rng.integers(len(self), size=batch_size)
        return self.batch(positions, self.rng.integers(NUM_SYMMETRIES, size=batch_size))

    def locate(self, positions: np.ndarray) -> Iterator[tuple[GameRecord, int]]:
        """Yield the game and the ply of each of the given positions."""
        games = np.searchsorted(self._ends, positions, side="right")
        places = positions - self._ends[games] + np.take(self._counts, games)
        for game, place in zip(games.tolist(), places.tolist(), strict=True):
            record = self._games[game]
            yield record, int(record.policy_plies[place]) if len(record.values) else place

    def batch(self, positions: np.ndarray, symmetries: np.ndarray) -> Batch:
        """Build the batch of given positions, 0 <= position < len(self), oldest game first.

        positions, symmetries: (B,) int; a symmetry is a row of `symmetry_table`.
        """
        num, size, num_moves = len(positions), self.size, self.size**2 + 1
        planes = np.empty((num, NUM_PLANES, size, size), np.float32)
        policy, reply = (np.zeros((num, num_moves), np.float32) for _ in range(2))
        ownership = np.zeros((num, num_moves), np.float32)  # at pass: 0
        known = np.zeros((4, num), np.float32)  # weights of reply, value, score, ownership
        value, score = np.zeros((2, num), np.float32)
        rows = zip(self.locate(positions), symmetries.tolist(), strict=True)
        for i, ((record, ply), symmetry) in enumerate(rows):
            if len(record.values):
                policy[i] = record.policies[np.searchsorted(record.policy_plies, ply)]
            else:
                policy[i, record.moves[ply]] = 1
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
        to = self._table[symmetries]  # (B, A): where each move goes
        policy, reply, ownership = (_move_columns(x, to) for x in (policy, reply, ownership))
        ownership = np.ascontiguousarray(ownership[:, :-1]).reshape(num, size, size)
        return Batch(
            planes, policy, reply, known[0], value, known[1], score, known[2], ownership, known[3]
        )


class MixedReplay:
    """Games of several sizes; each batch is of one, a size as often as its share of positions."""

    def __init__(self, sizes: Iterable[int], rng: np.random.Generator) -> None:
        self.rng = rng
        self.replays = {size: Replay(size, rng) for size in sizes}

    def __len__(self) -> int:
        """Count the positions in the window."""
        return sum(map(len, self.replays.values()))

    @property
    def num_positions(self) -> int:
        """Positions added so far, those that left the window included."""
        return sum(replay.num_positions for replay in self.replays.values())

    def add(self, records: list[GameRecord]) -> None:
        """Append games, the newest last. Raises ValueError for another board size."""
        for size in {record.size for record in records}:
            if size not in self.replays:
                raise ValueError(f"a {size}x{size} game among sizes {[*self.replays]}")
            self.replays[size].add(record for record in records if record.size == size)

    def trim(self, window_positions: int) -> None:
        """Drop the oldest games of each size until its share of so many positions is left."""
        total = len(self)
        for replay in self.replays.values():
            replay.trim(window_positions * len(replay) // max(total, 1))

    def sample(self, batch_size: int) -> Batch:
        """Draw a size, and positions of it as `Replay.sample` does."""
        position = int(self.rng.integers(max(len(self), 1)))
        for replay in self.replays.values():
            position -= len(replay)
            if position < 0:
                break
        replay.rng = self.rng
        return replay.sample(batch_size)


def _count_positions(record: GameRecord) -> int:
    return len(record.policy_plies if len(record.values) else record.moves)


def _move_columns(values: np.ndarray, to: np.ndarray) -> np.ndarray:
    moved = np.empty_like(values)
    np.put_along_axis(moved, to, values, axis=1)
    return moved
