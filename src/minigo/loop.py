"""The loop: recipe -> (self-play -> train)*, resumable at any instant by running it again.

On disk are `selfplay/<name>/` with the games and `checkpoints/<name>/` with `latest.pt`, everything
to go on from the end of the last cycle, one small file for each cycle's network, and `log.jsonl`
with what was measured. Players and learner share nothing else: they look for new networks in the
one folder and leave files of games in the other; it looks for new files. So whatever is killed
loses what it had in memory, and a game counts once it is on disk.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
from tqdm import tqdm

from .checkpoint import Checkpoint, load_checkpoint, load_network
from .config import Recipe
from .crew import LOW_PRIORITY, Crew, locked, remembered_interrupts
from .learner import Learner
from .machine import list_cores, sort_by_number, write_whole
from .network import PolicyValueNet, parse_network
from .record import adopt_parts, read_records
from .replay import Replay
from .selfplay import Worker, cycle_path, share_done, work

GLANCE_S = 0.2  # between looks into the folder of games
WINDOW_EXPONENT, WINDOW_SCALE = 0.75, 0.4  # of the window's growth (KataGo, 2.2.2)
CATCH_UP = 2.0  # cycles' worth of samples that one phase takes at most, however many are owed


def run(
    recipe: Recipe,
    name: str,
    root: Path = Path("."),
    after_cycle: Callable[[dict], object] = lambda row: None,
) -> Path:
    """Carry out a recipe, from where the last run of `name` ended, and return the last network.

    after_cycle: called with each new row of the log, once all of the cycle is saved. Raises
    ValueError where another run holds the folder, and for what can't go on: a recipe that doesn't
    fit the state on disk, a loss that isn't a number, a worker that died.
    """
    networks = root / "checkpoints" / name
    with locked(networks):
        run = Run(recipe, networks)
        if not run.is_done():
            games = GameFolder(root / "selfplay" / name, recipe)
            with remembered_interrupts() as interrupts, playing(recipe, networks, games) as play:
                while not run.is_done():
                    started = time.monotonic()
                    games.wait_for(run.progress.games + recipe.games_per_cycle, play)
                    waited_s = time.monotonic() - started
                    figures = run.learn(games, waited_s)
                    run.end_cycle(games, time.monotonic() - started, figures)
                    after_cycle(run.log[-1])
                    if interrupts:
                        raise KeyboardInterrupt
    return cycle_path(networks, run.progress.cycle)


@dataclass
class Progress:
    """How far a run has come; saved with every checkpoint."""

    cycle: int = 0  # cycles done
    elapsed_s: float = 0.0  # of self-play and training, all sittings together
    games: int = 0
    positions: int = 0  # of all games
    owed: float = 0.0  # samples that they warrant, and that aren't trained yet


class Run:
    """A recipe under way: its learner, how far it has come, and its log, as they are on disk."""

    def __init__(self, recipe: Recipe, networks: Path) -> None:
        """Begin a run in a folder, or go on with the one that is there. Raises ValueError."""
        self.recipe, self.networks = recipe, networks
        self.progress, self.log = Progress(), []  # a row for each cycle
        latest = networks / "latest.pt"
        if recipe.grow_to:
            parse_network(recipe.grow_to)  # now, not in the middle of the run
        if os.path.lexists(latest):
            self._resume(load_checkpoint(latest))
            self._write_log()
            # A kill may have come between a cycle's network and its state.
            cycle_path(networks, self.progress.cycle + 1).unlink(missing_ok=True)
            return
        net = None
        if recipe.start == "imitation":
            net = load_network(load_checkpoint(recipe.start_from))
        self.learner = self._learner(net or recipe.network)
        self.save()

    def _learner(self, net: PolicyValueNet | str) -> Learner:
        """Return a learner of a network, or of one of that name with the seed's random weights."""
        if isinstance(net, str):
            torch.manual_seed(self.recipe.seed)
            net = PolicyValueNet(net)
        return Learner(net, self.recipe.training, self.recipe.device)

    def _resume(self, latest: Checkpoint) -> None:
        new, old, network = self.recipe, latest.info["recipe"], latest.network
        pairs = [(old["start"], new.start), (f"seed {old['seed']}", f"seed {new.seed}")]
        if new.start == old["start"] == "imitation":
            pairs.append((old["start_from"], new.start_from))
        if new.start == "zero" and network != new.grow_to:
            pairs.append((network, new.network))
        for theirs, ours in pairs:
            if theirs != ours:
                raise ValueError(f"{latest.path} is of a run with {theirs}, not {ours}")
        self.learner = self._learner(network)
        self.learner.load(latest)
        self.progress, self.log = Progress(**latest.state["progress"]), latest.state["log"]

    def is_done(self) -> bool:
        """Tell whether the run has reached the recipe's cycles, or else its minutes."""
        if self.recipe.cycles:
            return self.progress.cycle >= self.recipe.cycles
        return self.progress.elapsed_s >= 60 * self.recipe.minutes

    def learn(self, games: "GameFolder", waited_s: float) -> dict:
        """Train as long as the new positions warrant, and return what to log.

        That is `samples_per_position` for each, and what earlier cycles left over. The batches
        depend only on the seed, the cycle and the games, so that a resumed cycle is the same.
        """
        recipe, progress, replay = self.recipe, self.progress, games.replay
        replay.rng = np.random.default_rng([recipe.seed, progress.cycle])
        done = share_done(recipe, progress.cycle, progress.elapsed_s + waited_s)
        num_new = max(0, replay.num_positions - progress.positions)
        mean_positions = replay.num_positions / max(games.num_games, 1)
        most = CATCH_UP * recipe.samples_per_position * recipe.games_per_cycle * mean_positions
        may_grow = recipe.start == "zero" and recipe.grow_to not in ("", self.learner.net.name)
        if may_grow and done >= recipe.grow_at:  # it learns first what the window holds
            self.learner = self._learner(recipe.grow_to)
            progress.owed, num_new, most = 0.0, len(replay), float("inf")
        progress.owed += recipe.samples_per_position * num_new
        num_steps = int(min(progress.owed, most) // recipe.training.batch_size)
        progress.owed -= num_steps * recipe.training.batch_size
        if not num_steps:
            return {}
        report = self.learner.train(replay, num_steps, (done, done))
        return {"losses": report.losses, "samples_per_s": report.samples_per_s}

    def end_cycle(self, games: "GameFolder", elapsed_s: float, figures: dict) -> None:
        """Publish the cycle's network, and save everything."""
        progress = self.progress
        progress.cycle += 1
        progress.elapsed_s += elapsed_s
        progress.games, progress.positions = games.num_games, games.replay.num_positions
        self.log.append({**asdict(progress), "step": self.learner.step, **figures})
        self.save()

    def save(self) -> None:
        """Write the cycle's network, `latest.pt`, with which the cycle is done, and the log."""
        progress = asdict(self.progress)
        info = {"recipe": msgspec.to_builtins(self.recipe), "step": self.learner.step} | progress
        self.learner.save(cycle_path(self.networks, self.progress.cycle), info)
        state = {"progress": progress, "log": self.log}
        self.learner.save(self.networks / "latest.pt", info, state)
        self._write_log()

    def _write_log(self) -> None:
        text = "".join(json.dumps(row) + "\n" for row in self.log)
        write_whole(self.networks / "log.jsonl", text)


class GameFolder:
    """The games of a run on disk, each file read once, and the window of them to learn from."""

    def __init__(self, path: Path, recipe: Recipe) -> None:
        """Read what is there, and what killed workers left."""
        path.mkdir(parents=True, exist_ok=True)
        adopt_parts(path)
        self.path, self.recipe, self.num_games = path, recipe, 0
        self.replay = Replay(recipe.sizes, np.random.default_rng(recipe.seed))
        self._seen: set[Path] = set()
        self.read_new()

    def read_new(self) -> None:
        """Take the games of new files into the window, the oldest first.

        A torn tail, from a run that was killed, is named on stderr; the games before it count. So
        is a file that can't be read at all; it is left out.
        """
        paths = set(self.path.glob("*.games")) - self._seen
        self._seen |= paths
        for path in sort_by_number(paths):
            try:
                records, problem = read_records(path)
            except ValueError as error:
                tqdm.write(f"{error}; left out", file=sys.stderr)
                continue
            if problem:
                tqdm.write(f"{problem}: the games before it are used", file=sys.stderr)
            self.num_games += len(records)
            self.replay.add(records)
            self.replay.trim(window_positions(self.replay.num_positions, self.recipe))

    def wait_for(self, num_games: int, play: Callable[[int], object]) -> None:
        """Read until there are so many games; `play` waits for some of those that are missing."""
        self.read_new()
        first = min(self.num_games, num_games)
        with tqdm(total=num_games - first, desc="self-play", unit="game", leave=False) as bar:
            while True:
                missing = max(0, num_games - self.num_games)
                play(missing)
                if not missing:
                    return
                self.read_new()
                bar.update(self.num_games - first - bar.n)


@contextlib.contextmanager
def playing(recipe: Recipe, networks: Path, games: GameFolder) -> Iterator[Callable]:
    """Have the workers play meanwhile; yield what waits for more games (`GameFolder.wait_for`).

    They make room for the learner, which has a thread for each core without a worker, one at least.
    A single one plays in this process, only while it is waited for: a run then repeats exactly.
    Raises ValueError, at the next wait, where one of them died.
    """
    cores, sitting = len(list_cores()), games.num_games  # new games in each sitting
    num_workers = recipe.selfplay.workers or cores
    orders = [(w, recipe, networks, games.path, [recipe.seed, sitting]) for w in range(num_workers)]
    if num_workers == 1:
        worker = Worker(*orders[0])
        yield lambda missing: missing and worker.play(missing)
        return
    torch.set_num_threads(max(1, cores - num_workers))
    with Crew(work, num_workers, LOW_PRIORITY) as crew:
        for order in orders:
            crew.give(*order)
        yield lambda missing: crew.wait(GLANCE_S if missing else 0.0)


def window_positions(total: int, recipe: Recipe) -> int:
    """Return how many of `total` positions to sample from (KataGo, 2.2.2).

    c (1 + b ((total / c)^a - 1) / a), with c = window_min, a = WINDOW_EXPONENT, b = WINDOW_SCALE.
    """
    c, a, b = recipe.window_min, WINDOW_EXPONENT, WINDOW_SCALE
    return int(max(c, c * (1 + b * ((total / c) ** a - 1) / a)))
