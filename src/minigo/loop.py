"""The loop: recipe -> (self-play -> train)*, resumable at any instant by running it again.

On disk are `selfplay/<name>/` with the games and `checkpoints/<name>/` with LATEST, everything to
go on from the end of the last cycle, one small file for each cycle's network, and `log.jsonl` with
what was measured. Players and learner share nothing else: they look for new networks in the
one folder and leave files of games in the other; it looks for new files. So whatever is killed
loses what it had in memory, and a game counts once it is on disk.
"""

import functools
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from msgspec import Struct, json, to_builtins
from tqdm import tqdm

from .architecture import parse_network
from .checkpoint import SUFFIX, Checkpoint, cycle_path, load_checkpoint, load_network
from .config import Recipe
from .crew import locked, remembered_interrupts
from .distributed import copy_from_first, gather, world
from .learner import Learner
from .machine import write_whole
from .network import PolicyValueNet, as_module
from .workers import GameFolder, playing, share_done

LATEST = f"latest{SUFFIX}"  # a checkpoint with the state
GROW_BY = 0.5  # of the run at the latest: a larger network must catch up before it pays
RANK_STEPS = 50  # that several ranks take between two looks, whatever their clocks say


def run(
    recipe: Recipe,
    name: str,
    root: Path = Path("."),
    after_cycle: Callable[[dict], object] = lambda row: None,
    players: Callable = playing,
) -> Path:
    """Carry out a recipe, from where the last run of `name` ended, and return the last network.

    after_cycle: called with each new row of the log, once all of the cycle is saved. players: have
    the games played. Of several ranks each has a `name`, and goes on from the first one's state.
    Raises ValueError where another run holds the folder, and for what can't go on: a recipe that
    doesn't fit the state on disk, a loss that isn't a number, a worker that died.
    """
    networks, (rank, num_ranks) = root / "checkpoints" / name, world()
    with locked(networks):
        run = None if rank else Run(recipe, networks)
        copy_from_first(networks, run and (LATEST, cycle_path(networks, run.progress.cycle).name))
        run = run or Run(recipe, networks)
        if not run.is_done():
            games = GameFolder(root / "selfplay" / name, recipe)
            if num_ranks > 1 or games.num_games < run.progress.games:  # there may have been more
                run.progress.games, run.progress.positions = games.num_games, games.num_positions
            order = recipe, networks, games.path, games.num_games * num_ranks + rank
            with remembered_interrupts() as interrupts, players(*order) as play:
                while not run.is_done():
                    run.do_cycle(games, *play)
                    after_cycle(run.log[-1])
                    if interrupts:
                        raise KeyboardInterrupt
    return cycle_path(networks, run.progress.cycle)


class Progress(Struct):
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
        latest = next(networks.glob("latest.*"), networks / LATEST)  # or an older minigo's
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
            net = as_module(load_network(load_checkpoint(recipe.start_from)), recipe.sizes)
        self.learner = self._learner(net or recipe.network)
        self.save()

    def _learner(self, net: PolicyValueNet | str) -> Learner:
        """Return a learner of a network, or of one of that name with the seed's random weights."""
        if isinstance(net, str):
            torch.manual_seed(self.recipe.seed)
            # With statistics of its own a board that follows a smaller one would begin without any.
            net = PolicyValueNet(net, sizes=() if self.recipe.begins_small else self.recipe.sizes)
        net.rank = None  # it is people's, who don't play here
        return Learner(net, self.recipe.training, self.recipe.device)

    def _resume(self, latest: Checkpoint) -> None:
        if "recipe" not in latest.info:
            raise ValueError(f"{latest.path} is no state of a run of this minigo")
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

    def do_cycle(self, games: GameFolder, play: Callable, learn_s: float) -> None:
        """Learn from `games_per_cycle` more games, while they arrive, then publish and save.

        play, learn_s: of `workers.playing`. The batches depend only on the seed, the cycle and the
        games: where one process does all in turn, a cycle is the same each time.
        """
        recipe, progress, started_s = self.recipe, self.progress, time.monotonic()
        rank, num_ranks = world()
        games.window.rng = np.random.default_rng([recipe.seed, progress.cycle, rank])
        first, is_idle = progress.games, True
        with tqdm(desc="games", total=recipe.games_per_cycle, leave=False, disable=None) as bar:
            while progress.games < first + recipe.games_per_cycle:
                of_nodes = play(max(0, first + recipe.games_per_cycle - games.num_games), is_idle)
                games.read_new()
                progress.games = games.num_games
                bar.update(progress.games - first - bar.n)
                elapsed_s = gather(time.monotonic() - started_s).item(0)  # the first one's
                is_idle = not self._learn(games, progress.elapsed_s + elapsed_s, learn_s)
        elapsed_s, report = gather(time.monotonic() - started_s).item(0), self.learner.report()
        progress.cycle += 1
        progress.elapsed_s += elapsed_s
        figures = {"step": self.learner.step, "learner_share": report.elapsed_s / elapsed_s}
        if report.num_samples:
            figures |= {"samples_per_s": report.samples_per_s * num_ranks, "losses": report.losses}
        self.log.append(to_builtins(progress) | figures | games.of_ranks | (of_nodes or {}))
        self.save()

    def _learn(self, games: GameFolder, elapsed_s: float, learn_s: float) -> bool:
        """Train as much as the new positions warrant, `learn_s` seconds at most; tell if any.

        Warranted are `samples_per_position` for each, and what earlier calls left over.
        """
        recipe, progress = self.recipe, self.progress
        done = share_done(recipe, progress.cycle, elapsed_s)
        num_new = max(0, games.num_positions - progress.positions)
        progress.positions += num_new
        progress.owed += recipe.samples_per_position * num_new
        may_grow = recipe.grow_to and progress.games >= recipe.grow_games and done < GROW_BY
        if may_grow and parse_network(self.learner.net.name) < parse_network(recipe.grow_to):
            self.learner, learn_s = self._learner(recipe.grow_to), math.inf
            progress.owed = games.num_in_window  # the window once: 1.5 times won 0.01 (race)
        batch_size, first_step = recipe.training.batch_size, self.learner.step
        num_steps, num_ranks = int(progress.owed // batch_size) * games.is_ready, world()[1]
        if num_ranks > 1 and learn_s < math.inf:
            num_steps, learn_s = min(num_steps, RANK_STEPS), math.inf
        if num_steps:
            sample = functools.partial(games.window.sample, -(-batch_size // num_ranks))
            deadline = time.monotonic() + learn_s
            self.learner.train(iter(sample, None), num_steps, lambda: done, deadline)
            progress.owed -= (self.learner.step - first_step) * batch_size
        return num_steps > 0

    def save(self) -> None:
        """Write the cycle's network, LATEST, with which the cycle is done, and the log."""
        progress = to_builtins(self.progress)
        info = {"recipe": to_builtins(self.recipe), "step": self.learner.step} | progress
        self.learner.save(cycle_path(self.networks, self.progress.cycle), info)
        self.learner.save(self.networks / LATEST, info, {"progress": progress, "log": self.log})
        self._write_log()

    def _write_log(self) -> None:
        write_whole(self.networks / "log.jsonl", json.Encoder().encode_lines(self.log))
