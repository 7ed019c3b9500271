"""One process that owns the GPU: players leave positions in shared memory and wait for answers.

So no player loads CUDA, few games make large batches, and two batches are under way at once: while
the device works on one, the answers of another are handed out and the next one is gathered.
"""

from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from .checkpoint import cycle_path, load_checkpoint, load_network, newest_cycle
from .config import Recipe
from .evaluator import Evaluation, Evaluator, make_evaluator

MAX_SLOTS = 16  # in one batch
LANES = 2  # batches under way
HALVES = 2  # of a player's games: the trees of one grow while the other's leaves are evaluated


class Slots:
    """Room in shared memory for batches of positions and their answers; a child may inherit it.

    A slot belongs to one player of one board size. Semaphores tell the server that some slot is
    full, and a player that his is answered.
    """

    def __init__(self, num_players: int, sizes: Sequence[int], rows: int) -> None:
        """Make HALVES slots of each board size for each player, for so many positions each."""
        context, num_slots = get_context("spawn"), num_players * HALVES * len(sizes)
        self.sizes, self.rows = [*sizes] * HALVES * num_players, rows  # board size of each slot
        self.num_players, self.width = num_players, max(sizes) ** 2 + 1
        self._positions = context.RawArray("i", num_slots * rows * self.width)
        self._answers = context.RawArray("H", num_slots * rows * (self.width + 2))
        self.counts = context.RawArray("i", num_slots)  # positions that wait in each; 0: none do
        self.full = context.Semaphore(0)
        self.answered = [context.Semaphore(0) for _ in range(num_slots)]

    def evaluators(self, player: int, size: int) -> list["RemoteEvaluator"]:
        """Return a player's evaluators for a board size, one for each half of his games."""
        num_slots = len(self.sizes) // self.num_players
        mine = range(player * num_slots, (player + 1) * num_slots)
        return [RemoteEvaluator(self, slot) for slot in mine if self.sizes[slot] == size]

    def positions(self, slot: int) -> np.ndarray:
        """Return a slot's positions: (rows, A) int32."""
        array = np.frombuffer(self._positions, np.int32).reshape(-1, self.rows, self.width)
        return array[slot, :, : self.sizes[slot] ** 2 + 1]

    def answers(self, slot: int) -> np.ndarray:
        """Return a slot's answers: (rows, A + 2) float16, logits, value and score."""
        array = np.frombuffer(self._answers, np.float16).reshape(-1, self.rows, self.width + 2)
        return array[slot, :, : self.sizes[slot] ** 2 + 3]

    def collect(self, wait: bool) -> dict[int, int]:
        """Take the slots that are full, and return how many positions each has; wait for one."""
        while self.full.acquire(wait):
            wait = False
        full = {slot: count for slot, count in enumerate(self.counts) if count}
        for slot in full:
            self.counts[slot] = 0
        return full

    def answer(self, slot: int, evaluation: Evaluation, first: int, count: int) -> None:
        """Hand out the rows of an evaluation that are a slot's."""
        rows, answers = slice(first, first + count), self.answers(slot)[:count]
        answers[:, :-2] = evaluation.logits[rows]
        answers[:, -2], answers[:, -1] = evaluation.value[rows], evaluation.score[rows]
        self.answered[slot].release()


class RemoteEvaluator:
    """A player's evaluator: the server, through a slot of his own; without ownership."""

    def __init__(self, slots: Slots, slot: int) -> None:
        self.slots, self.slot = slots, slot

    def begin(self, positions: np.ndarray) -> Callable[[], Evaluation]:
        """Begin to evaluate; see `Evaluator.begin`."""
        self.slots.positions(self.slot)[: len(positions)] = positions
        self.slots.counts[self.slot] = len(positions)
        self.slots.full.release()

        def end() -> Evaluation:
            self.slots.answered[self.slot].acquire()
            answers = self.slots.answers(self.slot)[: len(positions)].astype(np.float32)
            return Evaluation(answers[:, :-2], answers[:, -2].copy(), answers[:, -1].copy())

        return end


def serve(slots: Slots, recipe: Recipe, networks: Path) -> None:
    """Evaluate what is in the slots for ever, with the newest network of a run's folder."""
    lanes: dict[tuple[int, int], tuple[Evaluator, int]] = {}  # with the cycle of its network
    waiting: dict[int, int] = {}  # slots and how many positions they have, the oldest first
    flying: deque[tuple[dict[int, int], Callable[[], Evaluation]]] = deque()
    cycle, num_batches = -1, 0
    while True:
        waiting |= slots.collect(wait=not (waiting or flying))
        if waiting and len(flying) < LANES:
            if (newest := newest_cycle(networks, cycle)) > cycle:
                cycle, net = newest, load_network(load_checkpoint(cycle_path(networks, newest)))
            size = slots.sizes[next(iter(waiting))]
            chosen = [slot for slot in waiting if slots.sizes[slot] == size][:MAX_SLOTS]
            # A power of two: where `rows` is one, too, the program has no row for nothing.
            chosen = chosen[: 1 << len(chosen).bit_length() - 1]
            taken = {slot: waiting.pop(slot) for slot in chosen}
            num_batches += 1
            lane = size, num_batches % LANES
            if lane not in lanes:
                most = MAX_SLOTS * slots.rows
                lanes[lane] = make_evaluator(net, size, recipe.device, max_batch=most), cycle
            elif lanes[lane][1] < cycle:
                lanes[lane][0].load(net)
                lanes[lane] = lanes[lane][0], cycle
            rows = [slots.positions(slot)[:count] for slot, count in taken.items()]
            flying.append((taken, lanes[lane][0].begin(np.concatenate(rows))))
        elif flying:
            taken, answer = flying.popleft()
            evaluation, first = answer(), 0
            for slot, count in taken.items():
                slots.answer(slot, evaluation, first, count)
                first += count
