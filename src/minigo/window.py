"""Games -> positions with their targets, each rendered once -> batches in all symmetries.

The positions lie on the learner's device. There a batch is an index, a gather by the table of the
symmetries, and a shift of bits into planes (`network.planes_of`).
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from .coords import BLACK, NUM_SYMMETRIES, check_size, symmetry_table
from .record import GameRecord

UNKNOWN = 2  # ownership of each point of a game without one
RAREST = 50  # batches, of which one at least is of each board size


class Batch(NamedTuple):
    """Positions and what they teach, for the player to move; arrays or tensors, a row for each."""

    positions: torch.Tensor  # (B, A) int32, as of `Board.encode`; above its bits people's rank
    policy: torch.Tensor  # (B, A) float32, stored as float16; sums to 1
    reply: torch.Tensor  # (B,) int64, stored as int16: the opponent's next move; -1: unknown
    value: torch.Tensor  # (B,) float32 z in [-1, 1]; NaN: unknown
    score: torch.Tensor  # (B,) float32 points; NaN: unknown
    ownership: torch.Tensor  # (B, N * N) int8 +1 own, -1 the opponent's; UNKNOWN: unknown


def render(record: GameRecord, plies: Sequence[int] | None = None) -> Batch:
    """Return the positions of a game in which it is known what to do, in no symmetry, as arrays.

    A game with a search teaches at its `policy_plies`; one without, so without `policies`, teaches
    the move played at every ply. plies: ascending, some of them.
    """
    moves, num_moves = record.moves, record.size**2 + 1
    if record.policies is None:
        plies = np.arange(len(moves)) if plies is None else np.asarray(plies)
        policy = np.zeros((len(plies), num_moves), np.float16)
        policy[np.arange(len(plies)), moves[plies]] = 1
    else:
        plies = record.policy_plies.astype(int) if plies is None else np.asarray(plies)
        policy = record.policies[np.searchsorted(record.policy_plies, plies)]
    signs = np.where(plies % 2 == (record.to_play != BLACK), 1, -1).astype(np.int8)
    is_owned = record.ownership is not None
    owner = record.ownership if is_owned else np.full(num_moves - 1, UNKNOWN, np.int8)
    return Batch(
        record.board().play_all(moves, plies),
        policy,
        np.append(moves, np.int16(-1))[plies + 1],
        signs * np.float32(np.nan if record.result is None else record.result),
        signs * np.float32(np.nan if record.score is None else record.score),
        (signs if is_owned else np.abs(signs))[:, None] * owner,
    )


class Window:
    """The newest positions, of one or several board sizes, sampled uniformly.

    A batch is of one size, as often as its share of the weighted positions, but one in RAREST at
    least: its batch norms have statistics of their own, which must keep up with the weights.
    """

    render = staticmethod(render)  # imitation's tells ranks, too
    size_exponent = 0  # of N, a position's weight; imitation's -2: time is shared by positions

    def __init__(
        self, sizes: Iterable[int], rng: np.random.Generator, device: torch.device | str = "cpu"
    ) -> None:
        self.rng = rng
        self.rings = {check_size(size): Ring(size, device) for size in sizes}
        self._parts: deque[tuple[Ring, int]] = deque()  # how many of which came, the oldest first

    def __len__(self) -> int:
        """Count the positions in the window."""
        return sum(map(len, self.rings.values()))

    @property
    def num_positions(self) -> int:
        """Positions added so far: those in the window, and those that left it."""
        return sum(ring.end for ring in self.rings.values())

    def add(self, records: Iterable[GameRecord]) -> None:
        """Append games, the newest last. Raises ValueError for another board size."""
        rendered = {size: [] for size in self.rings}
        for record in records:
            if record.size not in rendered:
                raise ValueError(f"a {record.size}x{record.size} game among sizes {[*rendered]}")
            rendered[record.size].append(self.render(record))
        for size, parts in rendered.items():
            if parts:
                rows = Batch(*map(np.concatenate, zip(*parts, strict=True)))
                self.rings[size].append(rows)
                self._parts.append((self.rings[size], len(rows.value)))

    def trim(self, num_positions: int) -> None:
        """Keep so many of the newest positions, of whatever size."""
        while (surplus := len(self) - num_positions) > 0:
            ring, num_rows = self._parts.popleft()
            ring.first += min(surplus, num_rows)
            if num_rows > surplus:
                self._parts.appendleft((ring, num_rows - surplus))

    def sample(self, batch_size: int) -> Batch:
        """Draw a batch of random positions, each in a random symmetry."""
        if not len(self):
            raise ValueError("no position to sample from")
        ring = next(iter(self.rings.values()))
        if len(self.rings) > 1:
            found = [(size, ring) for size, ring in self.rings.items() if len(ring)]
            weights = np.array([len(ring) * size**self.size_exponent for size, ring in found])
            shares = np.maximum(weights / weights.sum(), 1 / RAREST)
            ring = found[self.rng.choice(len(found), p=shares / shares.sum())][1]
        positions = self.rng.integers(len(ring), size=batch_size)
        return ring.batch(positions, self.rng.integers(NUM_SYMMETRIES, size=batch_size))


class Ring:
    """The newest positions of one board size: number i, oldest first, is in row i % capacity."""

    def __init__(self, size: int, device: torch.device | str) -> None:
        self.device, self.first, self.end = device, 0, 0  # numbers of the oldest, after the newest
        table = torch.tensor(symmetry_table(size), dtype=torch.int64)
        self.sources = table.argsort(1).to(device)  # (8, A): which move comes where
        # Where each move goes, and an unknown one (-1, so the last).
        self.targets = torch.cat((table, torch.full((NUM_SYMMETRIES, 1), -1)), 1).to(device)
        self.rows: Batch | None = None

    def __len__(self) -> int:
        return self.end - self.first

    def append(self, rows: Batch) -> None:
        """Add the positions of `render`."""
        rows = [torch.from_numpy(np.ascontiguousarray(array)).to(self.device) for array in rows]
        if self.rows is None:
            self.rows = Batch(*(array[:0] for array in rows))
        num_rows, capacity = len(rows[0]), len(self.rows.value)
        if len(self) + num_rows > capacity:
            kept = torch.arange(self.first, self.end, device=self.device)
            capacity, old = max(2 * capacity, len(self) + num_rows), self.rows
            self.rows = Batch(*(x.new_empty((capacity, *x.shape[1:])) for x in old))
            for new, x in zip(self.rows, old, strict=True):
                new[kept % capacity] = x[kept % len(x)]
        places = torch.arange(self.end, self.end + num_rows, device=self.device) % capacity
        for ours, theirs in zip(self.rows, rows, strict=True):
            ours[places] = theirs
        self.end += num_rows

    def batch(self, positions: np.ndarray, symmetries: np.ndarray) -> Batch:
        """Return positions of the window, 0 <= position < len, each turned by its symmetry."""
        positions = torch.from_numpy(positions).to(self.device, non_blocking=True)
        symmetries = torch.from_numpy(symmetries).to(self.device, non_blocking=True)
        places = (self.first + positions) % len(self.rows.value)
        rows = Batch(*(array[places] for array in self.rows))
        sources = self.sources[symmetries]  # (B, A)
        return Batch(
            rows.positions.gather(1, sources),
            rows.policy.gather(1, sources).float(),
            self.targets[symmetries, rows.reply.long()],
            rows.value,
            rows.score,
            rows.ownership.gather(1, sources[:, :-1]),
        )
