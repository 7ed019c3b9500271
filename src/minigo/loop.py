"""The loop: recipe -> (self-play -> train)*, resumable at any instant by running it again.

On disk are `selfplay/<name>/` with the games, each there once it is finished, and
`checkpoints/<name>/` with `latest.pt`, everything to go on from the end of the last cycle, one
small file for each cycle's network, and `log.jsonl` with what was measured.
"""

import contextlib
import dataclasses
import fcntl
import json
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from .checkpoint import Checkpoint, load_checkpoint, load_network, save_checkpoint
from .config import Recipe
from .machine import choose_device, list_cores, write_whole
from .network import PolicyValueNet, parse_network
from .record import GameRecord, read_records
from .replay import MixedReplay
from .selfplay import STOP, Order, work
from .train import AveragedWeights, make_optimizer, train


@dataclass
class Progress:
    """How far a run has come; saved with every checkpoint."""

    cycle: int = 0  # cycles done
    step: int = 0  # optimiser steps
    elapsed_s: float = 0.0  # of self-play and training, all sittings together
    games: int = 0
    positions: int = 0  # of all games
    skipped: int = 0  # of them, those that the larger network never saw; for the log
    owed: float = 0.0  # samples that they warrant, and that didn't make a batch yet


class Learner:
    """The network that learns, with everything that outlives a cycle."""

    def __init__(self, recipe: Recipe):
        if recipe.grow_to:
            parse_network(recipe.grow_to)  # now, not in the middle of the run
        self.recipe = recipe
        self.progress = Progress()
        self.log: list[dict] = []  # a row for each cycle
        self._take(self._make(recipe.network))

    def _make(self, network: str) -> PolicyValueNet:
        """Return a network with the seed's random weights."""
        torch.manual_seed(self.recipe.seed)
        return PolicyValueNet(network)

    def _take(self, net: PolicyValueNet) -> None:
        """Take a network, and an average and optimiser for it."""
        self.net = net.to(choose_device(self.recipe.device))
        self.average = AveragedWeights(net, self.recipe.training.ema_decay)
        self.optimizer = make_optimizer(net, self.recipe.training)

    def grow(self, num_skipped: int) -> None:
        """Take the larger network, which learns first what the window holds of the games so far."""
        self._take(self._make(self.recipe.grow_to))
        self.progress.step, self.progress.skipped, self.progress.owed = 0, num_skipped, 0.0

    def start(self) -> None:
        """Begin a run: from random weights, or with a network that learned by imitation."""
        if self.recipe.start == "imitation":
            self._take(load_network(load_checkpoint(self.recipe.start_from)))

    def load(self, checkpoint: Checkpoint) -> None:
        """Go on from a `latest.pt`."""
        if checkpoint.state is None:
            raise ValueError(f"{checkpoint.path} is no state of a run")
        new, old, network = self.recipe, checkpoint.info["recipe"], checkpoint.network
        pairs = [(old["start"], new.start), (f"seed {old['seed']}", f"seed {new.seed}")]
        pairs.append((old["training"]["optimizer"], new.training.optimizer))
        if new.start == old["start"] == "imitation":
            pairs.append((old["start_from"], new.start_from))
        if new.start == "zero" and network != new.grow_to:
            pairs.append((network, new.network))
        for theirs, ours in pairs:
            if theirs != ours:
                raise ValueError(f"{checkpoint.path} is of a run with {theirs}, not {ours}")
        if network != self.net.name:
            self._take(self._make(network))
        self.net.load_state_dict(checkpoint.state["net"])
        self.average.load_state_dict(checkpoint.state["average"])
        moments = {"state": checkpoint.state["optimizer"]["state"]}  # the rest is the recipe's
        self.optimizer.load_state_dict(self.optimizer.state_dict() | moments)
        self.progress = Progress(**checkpoint.state["progress"])
        self.log = checkpoint.state["log"]

    def save_network(self, folder: Path) -> None:
        """Write the cycle's network, for play."""
        path = cycle_path(folder, self.progress.cycle)
        save_checkpoint(path, half=True, **self._content())

    def save(self, folder: Path) -> None:
        """Write `latest.pt`, with which the cycle is done, and the log as it stands there."""
        state = {
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": dataclasses.asdict(self.progress),
            "log": self.log,
        }
        save_checkpoint(folder / "latest.pt", state=state, **self._content())
        self.write_log(folder)

    def write_log(self, folder: Path) -> None:
        """Write the log as the state has it: a run may have been killed between the two."""
        text = "".join(json.dumps(row) + "\n" for row in self.log)
        write_whole(folder / "log.jsonl", text)

    def _content(self) -> dict:
        info = {"recipe": dataclasses.asdict(self.recipe), **dataclasses.asdict(self.progress)}
        return {"network": self.net.name, "weights": self.average.weights(), "info": info}


def cycle_path(folder: Path, cycle: int) -> Path:
    """Return where a cycle's network is; cycle 0 is the first version."""
    return folder / f"cycle-{cycle:04d}.pt"


def window_positions(total: int, recipe: Recipe) -> int:
    """Return how many of `total` positions to sample from (KataGo, 2.2.2).

    c (1 + b ((total / c)^a - 1) / a), with c = window_min, a = window_exponent, b = window_scale.
    """
    c, a, b = recipe.window_min, recipe.window_exponent, recipe.window_scale
    return int(max(c, c * (1 + b * ((total / c) ** a - 1) / a)))


@contextlib.contextmanager
def locked(folder: Path):
    """Hold a run's folder; a second run in it is refused. The lock goes with the process."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another run is at work in {folder}") from None
        yield


class Workers:
    """The self-play processes of a run."""

    def __init__(self, recipe: Recipe, networks: Path, records: Path, sitting: int):
        self.sizes, self.networks, self.records = recipe.sizes, networks, records
        num_workers = recipe.selfplay.workers or len(list_cores())
        context = get_context("spawn")
        self.pipes: list[Connection] = []
        self.processes = []
        self._busy: list[Connection] = []  # with an order
        for worker in range(num_workers):
            pipe, end = context.Pipe()
            seed = [recipe.seed, sitting, worker]
            process = context.Process(target=work, args=(worker, recipe, seed, end), daemon=True)
            process.start()
            end.close()
            self.pipes.append(pipe)
            self.processes.append(process)

    def start(self, cycle: int, simulations: int, num_games: int, num_workers: int) -> None:
        """Have the last `num_workers` play with a cycle's network, until `finish`.

        num_games: of each, at most; so whoever is faster plays more. Board sizes take turns.
        """
        first = max(0, len(self.pipes) - num_workers)
        self._busy = self.pipes[first:]
        for worker, pipe in enumerate(self._busy, first):
            checkpoint = cycle_path(self.networks, cycle)
            path = free_path(self.records, checkpoint, worker)
            size = self.sizes[(cycle + worker) % len(self.sizes)]
            _send(pipe, Order(checkpoint, path, num_games, simulations, size))

    def finish(self, num_games: int, desc: str = "") -> None:
        """Wait for so many games, then stop the players, who may have finished a few more.

        Raises ValueError if a worker dies.
        """
        pending, num_done = list(self._busy), 0
        with tqdm(total=num_games, desc=desc, unit="game", disable=not num_games) as bar:
            while num_done < num_games:
                num_done += self._receive(pending)
                bar.update(num_done - bar.n)
        for pipe in self._busy:
            _send(pipe, STOP)
        while pending:
            self._receive(pending)

    def _receive(self, pending: list[Connection]) -> int:
        """Wait for answers and count the games among them; who is done leaves `pending`."""
        num_games = 0
        for pipe in wait(pending):
            try:
                answer = pipe.recv()
            except (EOFError, ConnectionResetError):
                answer = "a self-play worker died; its message is above"
            if isinstance(answer, str):
                raise ValueError(answer)
            num_games += answer
            if not answer:
                pending.remove(pipe)
        return num_games

    def stop(self) -> None:
        """Close the pipes, at which the workers end."""
        for pipe in self.pipes:
            pipe.close()
        for process in self.processes:
            process.join(10)
            process.kill()


def _send(pipe: Connection, message: Order | str) -> None:
    with contextlib.suppress(BrokenPipeError):  # whoever died has said why, or is seen to have
        pipe.send(message)


def free_path(folder: Path, checkpoint: Path, worker: int) -> Path:
    """Return a record file's name that is still free."""
    number = 0
    while (path := folder / f"{checkpoint.stem}-{worker}-{number}.games").exists():
        number += 1
    return path


def _age(path: Path) -> list[str | int]:
    """Return a key that sorts by the numbers in a name: those of cycle, worker and file."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]


class GameFolder:
    """The games of a run on disk, each file read once."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder
        self._seen: set[Path] = set()
        self.num_games = 0

    def read_new(self) -> Iterator[list[GameRecord]]:
        """Yield the games of each file that wasn't there before, oldest first.

        A torn tail, from a run that was killed, is named on stderr; the games before it count. So
        is a file that can't be read at all; it is left out.
        """
        for path in sorted(self.path.glob("*.games"), key=_age):
            if path in self._seen:
                continue
            self._seen.add(path)
            try:
                records, problem = read_records(path)
            except ValueError as error:
                tqdm.write(f"{error}; left out", file=sys.stderr)
                continue
            if problem:
                tqdm.write(f"{problem}: the games before it are used", file=sys.stderr)
            self.num_games += len(records)
            yield records


def add_games(replay: MixedReplay, games: GameFolder, recipe: Recipe) -> None:
    """Read new games into the window and drop what leaves it."""
    for records in games.read_new():
        replay.add(records)
        replay.trim(window_positions(replay.num_positions, recipe))


def is_done(recipe: Recipe, progress: Progress) -> bool:
    """Tell whether a run has reached the recipe's cycles, or else its minutes."""
    if recipe.cycles:
        return progress.cycle >= recipe.cycles
    return progress.elapsed_s >= 60 * recipe.minutes


def share_done(recipe: Recipe, cycle: int, elapsed_s: float) -> float:
    """Return how much of the run lies behind, in [0, 1]; rate and simulations follow it."""
    share = cycle / recipe.cycles if recipe.cycles else elapsed_s / (60 * recipe.minutes)
    return min(1.0, share)


def full_simulations(recipe: Recipe, share: float) -> int:
    """Return the simulations of a full search when `share` of the run is done."""
    start = recipe.search.simulations
    return round(start + ((recipe.selfplay.simulations_end or start) - start) * share)


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
        learner = Learner(recipe)
        if (networks / "latest.pt").exists():
            learner.load(load_checkpoint(networks / "latest.pt"))
            learner.write_log(networks)
        else:
            learner.start()
            learner.save_network(networks)
            learner.save(networks)
        if not is_done(recipe, learner.progress):
            with remembered_interrupts() as interrupts:
                games = GameFolder(root / "selfplay" / name)
                _run_cycles(learner, networks, games, interrupts, after_cycle)
    return cycle_path(networks, learner.progress.cycle)


@contextlib.contextmanager
def remembered_interrupts() -> Iterator[list]:
    """Yield a list that fills with each Ctrl-C, besides the exception that it raises.

    Python drops the exception where the signal comes in a finaliser or in some library's callback,
    and the run would go on.
    """
    interrupts, handler = [], signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    with contextlib.ExitStack() as stack:
        if is_main and callable(handler):  # under nohup it is not: Ctrl-C is ignored there
            signal.signal(signal.SIGINT, lambda *args: interrupts.append(args) or handler(*args))
            stack.callback(signal.signal, signal.SIGINT, handler)
        yield interrupts


def _run_cycles(
    learner: Learner,
    networks: Path,
    games: GameFolder,
    interrupts: list,
    after_cycle: Callable[[dict], object],
) -> None:
    recipe, progress = learner.recipe, learner.progress
    replay = MixedReplay(recipe.sizes, np.random.default_rng(recipe.seed))
    add_games(replay, games, recipe)
    workers = Workers(recipe, networks, games.path, sitting=games.num_games)
    num_playing_on = recipe.selfplay.play_on
    if num_playing_on:
        torch.set_num_threads(max(1, len(list_cores()) - num_playing_on))
    try:
        while not is_done(recipe, progress):
            if interrupts:
                raise KeyboardInterrupt
            start = time.monotonic()
            missing = recipe.games_per_cycle - max(0, games.num_games - progress.games)
            share = share_done(recipe, progress.cycle, progress.elapsed_s)
            order = (progress.cycle, full_simulations(recipe, share))
            if missing > 0:
                workers.start(*order, missing, len(workers.pipes))
                workers.finish(missing, f"cycle {progress.cycle + 1} self-play")
                add_games(replay, games, recipe)
            selfplay_s = time.monotonic() - start
            workers.start(*order, recipe.games_per_cycle, num_playing_on)
            figures = _train_cycle(learner, replay, selfplay_s)
            workers.finish(0)
            progress.cycle += 1
            progress.games, progress.positions = games.num_games, replay.num_positions
            progress.elapsed_s += time.monotonic() - start
            learner.save_network(networks)
            row = {**dataclasses.asdict(progress), "selfplay_s": selfplay_s, **figures}
            learner.log.append(row)
            learner.save(networks)
            after_cycle(row)
            add_games(replay, games, recipe)  # of those who played on
    finally:
        workers.stop()


def _train_cycle(learner: Learner, replay: MixedReplay, selfplay_s: float) -> dict:
    """Train as long as the new positions warrant, and return what to log.

    That is `samples_per_position` for each, and what earlier cycles left over. The batches depend
    only on the seed, the cycle and the games, so that a resumed cycle is the same.
    """
    recipe, progress = learner.recipe, learner.progress
    replay.rng = np.random.default_rng([recipe.seed, progress.cycle])
    num_new = max(0, replay.num_positions - progress.positions)
    elapsed_s = progress.elapsed_s + selfplay_s
    done = share_done(recipe, progress.cycle, elapsed_s)
    may_grow = recipe.start == "zero" and recipe.grow_to not in ("", learner.net.name)
    if may_grow and done >= recipe.grow_at:
        learner.grow(replay.num_positions - len(replay))
        num_new = len(replay)
    progress.owed += recipe.samples_per_position * num_new
    num_steps, progress.owed = divmod(progress.owed, recipe.training.batch_size)
    if not num_steps:
        return {}
    net, average, optimizer = learner.net, learner.average, learner.optimizer
    steps = int(num_steps), progress.step
    report = train(net, average, optimizer, replay, recipe.training, *steps, (done, done))
    progress.step = report.step
    return {"losses": report.losses, "samples_per_s": report.samples_per_s}
