"""The processes that play: each with the newest network of a folder, into files of another.

They are told nothing and asked nothing: the folders are all that they share with the learner.
"""

import contextlib
import functools
import itertools
import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import torch
from tqdm import tqdm

from .checkpoint import Checkpoint, cycle_path, load_checkpoint, load_network, newest_cycle
from .config import Recipe
from .crew import LOW_PRIORITY, Crew
from .distributed import gather, world
from .evaluator import make_evaluator
from .machine import choose_device, list_cores, sort_by_number
from .record import PART, RecordWriter, adopt_parts, read_records
from .selfplay import SelfPlay
from .server import Slots, serve
from .window import Window

FILE_S = 10.0  # after which a file of games is closed at the latest, so that they count
GLANCE_S = 0.2  # between an idle learner's looks for games
LEARN_S = 2.0  # of learning between two looks
WINDOW_EXPONENT, WINDOW_SCALE = 0.75, 0.4  # of the window's growth (KataGo, 2.2.2)


def share_done(recipe: Recipe, cycle: int, elapsed_s: float) -> float:
    """Return how much of a run lies behind, in [0, 1]; rate and simulations follow it."""
    share = cycle / recipe.cycles if recipe.cycles else elapsed_s / (60 * recipe.minutes)
    return min(1.0, share)


def full_simulations(recipe: Recipe, share: float) -> int:
    """Return the simulations of a full search when `share` of the run is done."""
    start = recipe.search.simulations
    return round(start + ((recipe.selfplay.simulations_end or start) - start) * share)


class Worker:
    """Games with the newest network of a run's folder, into files of another.

    Games under way go on with a newer network. Board sizes take turns, one to each file, so that of
    the work, which is points evaluated, each has its share. Where the networks are evaluated
    elsewhere, in `slots`, the games are two halves: while one's answers are under way, the other
    one's are used.
    """

    def __init__(
        self,
        number: int,
        recipe: Recipe,
        networks: Path,
        records: Path,
        seed: list[int],
        slots: Slots | None = None,
    ) -> None:
        self.number, self.recipe, self.seed = number, recipe, seed
        self.networks, self.records, self.slots = networks, records, slots
        self.cycle = -1  # of the newest network
        self.players: dict[int, deque[SelfPlay]] = {}  # by board size
        self.loaded: dict[int, int] = {}  # cycles of the networks that play there
        self.shares = {size: share for size, share in recipe.shares if share} or {recipe.size: 1.0}
        self.work = dict.fromkeys(recipe.sizes, 0.0)  # done, as multiples of its share

    def play(self, num_games: int, max_s: float = math.inf) -> None:
        """Write a file of at least so many finished games, or of those of so many seconds."""
        deadline, size = time.monotonic() + max_s, self._next_size()
        self._look(size)
        with RecordWriter(self._free_path()) as writer:
            while writer.num_games < num_games and time.monotonic() < deadline:
                self._look(size)
                self.work[size] += size * size / self.shares.get(size, 1.0)
                halves = self.players[size]
                halves.rotate()
                for record in halves[0].step():
                    writer.write(record)

    def _next_size(self) -> int:
        """Return the board size of the next file: the first one, or that which has too few yet."""
        if self.recipe.begins_small:
            newest = cycle_path(self.networks, newest_cycle(self.networks, self.cycle))
            if load_checkpoint(newest).info["games"] < self.recipe.first_games:
                return self.recipe.first_size
        return min(self.shares, key=self.work.get)

    def _look(self, size: int) -> None:
        """Take the newest network, if there is a newer one than that which plays."""
        self.cycle = newest_cycle(self.networks, self.cycle)
        if self.loaded.get(size) != self.cycle:
            self._load(load_checkpoint(cycle_path(self.networks, self.cycle)), size)
            self.loaded[size] = self.cycle

    def _load(self, checkpoint: Checkpoint, size: int) -> None:
        """Go on with a network on a board size."""
        if size not in self.players:
            recipe = msgspec.structs.replace(self.recipe, size=size, shares=())
            if self.slots:
                evaluators = self.slots.evaluators(self.number % self.slots.num_players, size)
            else:
                net = load_network(checkpoint)
                rows = recipe.selfplay.games_at_once * recipe.search.leaves
                evaluators = [make_evaluator(net, size, recipe.device, max_batch=rows)]
            self.players[size] = deque(
                SelfPlay(each, recipe, np.random.default_rng([*self.seed, self.number, size, half]))
                for half, each in enumerate(evaluators)
            )
        elif not self.slots:
            self.players[size][0].search.evaluator.load(load_network(checkpoint))
        share = share_done(self.recipe, self.cycle, checkpoint.info["elapsed_s"])
        for half in self.players[size]:
            half.simulations = full_simulations(self.recipe, share)
            half.source = checkpoint.path.stem

    def _free_path(self) -> Path:
        """Return the name of a record file that is still free."""
        for number in itertools.count():
            path = self.records / f"cycle-{self.cycle:04d}-{self.number}-{number}.games"
            if not path.exists() and not path.with_suffix(PART).exists():
                return path


def work(slots: Slots | None, file_games: int, *order) -> None:
    """Play for ever, as a process of its own (`Crew`); see `Worker`."""
    worker = Worker(*order, slots)
    while True:
        worker.play(file_games, FILE_S)


def needs_server(recipe: Recipe) -> bool:
    """Tell whether one process evaluates for all workers: a GPU is best owned by one."""
    return choose_device(recipe.device) != "cpu"


@contextlib.contextmanager
def playing(
    recipe: Recipe, networks: Path, records: Path, sitting: int, numbers: range | None = None
) -> Iterator[tuple[Callable[[int, bool], object], float]]:
    """Have the workers play; yield `play(missing, is_idle)`, and how long to learn between calls.

    They make room for the learner, which has a thread for each core without a worker, one at least;
    `play` looks after them, waits a moment if the learner is idle, and raises ValueError where one
    died. A single one plays the missing games, or a rank's share, in `play` itself: a run then
    repeats exactly. Those of a GPU share a server, which has a core, as the learner has. sitting:
    another each time; numbers: of players elsewhere.
    """
    cores, num_ranks = len(list_cores()), world()[1]
    has_server = needs_server(recipe)
    least = 2 if has_server or num_ranks > 1 else 1  # ranks play in turn together or not at all
    workers = numbers or range(recipe.selfplay.workers or max(least, cores - 2 * has_server))
    orders = [(w, recipe, networks, records, [recipe.seed, sitting]) for w in workers]
    num_workers = len(orders)
    if num_workers == 1 and not numbers:
        worker = Worker(*orders[0])
        yield lambda missing, is_idle: missing and worker.play(-(-missing // num_ranks)), math.inf
        return
    torch.set_num_threads(max(1, cores - num_workers))
    with contextlib.ExitStack() as stack:
        stack.callback(adopt_parts, records)  # of whom the end came between two files
        slots, crews = None, []
        if has_server:
            rows = recipe.selfplay.games_at_once * recipe.search.leaves
            slots = Slots(num_workers, recipe.sizes, rows)
            crews.append(stack.enter_context(Crew(functools.partial(serve, slots), 1)))
            crews[0].give(recipe, networks)
        play = functools.partial(work, slots, -(-recipe.games_per_cycle // num_workers))
        first_core = workers.start + len(crews)
        crews.append(stack.enter_context(Crew(play, num_workers, LOW_PRIORITY, first_core)))
        for order in orders:
            crews[-1].give(*order)

        def look_after(missing: int, is_idle: bool) -> None:
            for crew in crews:
                crew.wait(GLANCE_S if is_idle and crew is crews[-1] else 0.0)

        yield look_after, LEARN_S


class GameFolder:
    """The games of a run on disk, each file read once, and the window of them to learn from."""

    def __init__(self, path: Path, recipe: Recipe) -> None:
        """Read what is there, and what killed workers left."""
        path.mkdir(parents=True, exist_ok=True)
        adopt_parts(path)
        self.path, self.recipe, self._num_read = path, recipe, 0
        rng, device = np.random.default_rng(recipe.seed), choose_device(recipe.device)
        self.window = Window(recipe.sizes, rng, device)
        self._seen: set[str] = set()  # names; to glob takes ten times as long
        self.read_new()

    def read_new(self) -> None:
        """Take the games of new files into the window, the oldest first.

        A torn tail, from a run that was killed, is named on stderr; the games before it count. So
        is a file that can't be read at all; it is left out.
        """
        names = {name for name in os.listdir(self.path) if name.endswith(".games")} - self._seen
        self._seen |= names
        for path in sort_by_number(self.path / name for name in names):
            try:
                records, problem = read_records(path)
            except (OSError, ValueError) as error:
                tqdm.write(f"{error}; left out", file=sys.stderr)
                continue
            if problem:
                tqdm.write(f"{problem}: the games before it are used", file=sys.stderr)
            self._num_read += len(records)
            self.window.add(records)
            self.window.trim(window_positions(self.window.num_positions, self.recipe))
        counts = gather(self._num_read, self.window.num_positions, len(self.window))  # by rank
        self.num_games, self.num_positions, self.num_in_window = counts.sum(0).tolist()
        self.is_ready = bool(counts[:, 2].all())  # does each rank have what to learn from?
        self.of_ranks = {"rank_games": counts[:, 0].tolist()} if len(counts) > 1 else {}


def window_positions(total: int, recipe: Recipe) -> int:
    """Return how many of `total` positions to sample from (KataGo, 2.2.2).

    c (1 + b ((total / c)^a - 1) / a), with c = window_min, a = WINDOW_EXPONENT, b = WINDOW_SCALE.
    """
    c, a, b = recipe.window_min / world()[1], WINDOW_EXPONENT, WINDOW_SCALE  # a rank has its share
    return int(max(c, c * (1 + b * ((total / c) ** a - 1) / a)))
