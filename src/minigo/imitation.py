"""Human games -> a trained network, with its accuracy on games it never saw."""

import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import torch
from tqdm import tqdm

from ._board import NUM_PLANES
from .checkpoint import Checkpoint, load_checkpoint, load_network
from .config import TrainConfig
from .coords import BLACK, check_size, sign_of
from .evaluator import Evaluator, make_evaluator
from .games import HOLDOUT_FRAC, HumanGames, format_left_out, load_human_games
from .learner import Learner
from .network import PolicyValueNet, as_module
from .prediction import choose_places, exact_evaluator, judge, summarise
from .ranks import find_rank
from .record import GameRecord
from .window import Batch, Window, render

NUM_CHECKS = 10  # measurements on held-out games during training
CHECK_POSITIONS, FINAL_POSITIONS = 4_000, 20_000  # held-out positions of each, and of the last
MIN_PHASE_S = 20.0  # between them at least
SAVE_S = 180.0  # between two savings of a run's state at most
COMPILE_MINUTES = 20  # of training, from which on a compilation for each board size pays
HIDDEN_RANKS = 0.5  # share of positions whose players' ranks aren't told
MEMORY = 1 << 30  # bytes of positions to draw from: 1.8 million on 9x9, 420,000 on 19x19
THIN = 16  # where not all fit, one of so many enters: whole games are learned by heart
COUNTERS = {9: "9x9", 13: "13x13"}  # by size: shipped networks that know dead stones
COUNT_ERROR = 0.01  # of the points of a board: by how much their count may differ from the game's
# Value weighs little, since whole games are easily memorised, but not 0.01 as in AlphaGo Zero: that
# left it unlearned, and 0.3 cost the policy nothing (selfplay/LOG.md). So do points.
IMITATION = TrainConfig(value_weight=0.3, score_weight=0.003)


def imitate(
    paths: Iterable[str | Path],
    *,
    size: int | Sequence[int],
    out: str | Path,
    network: str = "b6c96s",
    start: str | None = None,
    minutes: float = 10.0,
    config: TrainConfig = IMITATION,
    min_rank: str | None = None,
    strict: bool = False,
    seed: int = 1,
    device: str = "auto",
) -> dict:
    """Train a network to predict the moves of human games, and save it as checkpoint `out`.

    start: a checkpoint to begin with, of any board size, instead of random weights. minutes: of
    training; reading the games and measuring come on top. min_rank: such as "3d" or "2350", of the
    weaker player. Every few minutes the run's state goes to `out`.state and its network to `out`:
    the same call again goes on from there, after a kill or with more `minutes`. Returns the
    checkpoint's `info`: data, filters, samples, the curve and the held-out accuracy. Raises
    ValueError where there is nothing to learn from, where the state is another run's, or, with
    `strict`, at the first bad file.
    """
    sizes = sorted({check_size(each) for each in ([size] if isinstance(size, int) else size)})
    out, paths = Path(out), [Path(path) for path in paths]
    if not 0 < minutes < math.inf:
        raise ValueError(f"{minutes} minutes is not a time to train for")
    if not out.absolute().parent.is_dir() or out.is_dir():
        raise ValueError(f"{out}: not a file in a folder that exists")
    state = out.with_name(f"{out.name}.state")
    about = {
        "made_by": "imitation",
        "network": network,
        "size": sizes[0] if len(sizes) == 1 else sizes,
        "data": [path.name for path in paths],
        "filters": {"min_rank": min_rank, "holdout_frac": HOLDOUT_FRAC},
        "start": start,
        "config": msgspec.to_builtins(config),
        "seed": seed,
    }
    torch.manual_seed(seed)
    net = PolicyValueNet(network, ranked=True, sizes=sizes)
    earlier = load_checkpoint(state) if state.exists() or state.is_symlink() else None
    if earlier:
        _check_same(earlier, about)  # once now, and once when the games are known
    elif start is not None:
        began = load_network(load_checkpoint(start))
        if began.name != network:
            raise ValueError(f"{start} is a {began.name}, not a {network}")
        weights = as_module(began, sizes).state_dict()
        net.load_state_dict(weights, strict=False)  # it may know no ranks
    games = load_human_games(paths, sizes=sizes, min_rank=min_rank, strict=strict)
    print(format_left_out(games), file=sys.stderr)
    if not games.training:
        raise ValueError(f"no game of size {sizes} to learn from in {', '.join(map(str, paths))}")
    about |= {"games": len(games.training), "held_out_games": len(games.held_out)}
    config = msgspec.structs.replace(config, compile=config.compile or minutes >= COMPILE_MINUTES)
    run = _Run(Learner(net, config, device), games, about, out, state)
    if earlier:
        _check_same(earlier, about)
        run.load(earlier)
    run.train(60 * minutes)
    return run.info()


def _check_same(earlier: Checkpoint, about: dict) -> None:
    """Raise ValueError unless the run that left a state is the one that goes on."""
    was, now = (i | i.get("config", {}) | {"config": None} for i in (earlier.info, about))
    for name, value in now.items():
        if was.get(name) != value:
            text = f"{earlier.path}: a run with {name} {was.get(name)}, not {value}"
            raise ValueError(f"{text}; delete that file or write to another")


def render_ranked(record: GameRecord, plies: np.ndarray) -> Batch:
    """Do as `render`, with the rank of who moves in the bits of a position beyond its planes."""
    batch, ranks = render(record, plies), map(find_rank, (record.black_rank, record.white_rank))
    is_blacks = plies % 2 == (record.to_play != BLACK)
    batch.positions[:, :-1] |= np.where(is_blacks, *ranks)[:, None] << NUM_PLANES
    return batch


def make_counter(size: int, device: str) -> Evaluator:
    """Return the shipped network that tells dead stones from living ones on a board size."""
    name = COUNTERS[min(COUNTERS, key=lambda n: abs(n - size))]
    return make_evaluator(load_network(load_checkpoint(name)), size, device, max_batch=1)


def add_owners(record: GameRecord, counter: Evaluator) -> GameRecord:
    """Add who owns each point in the end, as a network sees it, where that makes the game's count.

    So people's games teach ownership, and better moves and values by it (KataGo, 3.4). A record
    without a count stays as it is, and one whose stones the network counts otherwise.
    """
    if record.score is None:
        return record
    board = record.board(len(record.moves))
    owned = sign_of(board.to_play) * counter.evaluate(board.encode()[None]).ownership.ravel()
    owners = np.rint(owned).astype(np.int8)
    error = abs(owners.sum() - record.rules.komi - record.score)
    is_same = error <= max(1, COUNT_ERROR * len(owners))
    return replace(record, ownership=owners) if is_same else record


class _Run:
    """One training run against the clock, with its curve; on disk it is never half written."""

    def __init__(
        self, learner: Learner, games: HumanGames, about: dict, out: Path, state: Path
    ) -> None:
        self.learner, self.games, self.about = learner, games, about
        self.out, self.state = out, state
        sizes = sorted({record.size for record in games.training})
        self.window = Window(sizes, np.random.default_rng(about["seed"]), learner.device)
        self.window.render, self.window.size_exponent = self.render, -2
        self.counters = {size: make_counter(size, str(learner.device)) for size in sizes}
        self.num_positions = sum(len(record.moves) for record in games.training)
        largest = max(games.training, key=lambda record: record.size)
        self.room = MEMORY // sum(array[0].nbytes for array in render(largest))  # positions
        self.spent_s, self.curve = 0.0, []

    def render(self, record: GameRecord) -> Batch:
        """Return a game's positions: all, or where not all games' fit, some at random."""
        plies = np.arange(len(record.moves))
        if self.num_positions > self.room:
            plies = plies[self.window.rng.random(len(plies)) < 1 / THIN]
        return render_ranked(add_owners(record, self.counters[record.size]), plies)

    def batches(self) -> Iterator[Batch]:
        """Yield batches; where not all positions fit into MEMORY, each makes room for others.

        So the window is a shuffle buffer, of which a position is drawn once, on average.
        """
        batch_size, window = self.learner.config.batch_size, self.window
        games, wanted = self._shuffled(), min(self.num_positions, self.room)
        while True:
            while window.num_positions < wanted:
                window.add(next(games))
            if self.num_positions > self.room:
                window.trim(self.room)
                wanted += batch_size
            batch = window.sample(batch_size)
            hidden = window.rng.random(batch_size) < HIDDEN_RANKS
            batch.positions[torch.from_numpy(hidden), :-1] &= (1 << NUM_PLANES) - 1
            yield batch

    def _shuffled(self) -> Iterator[list[GameRecord]]:
        while True:  # no part has games of two rounds: where all fit, each is there once
            order = self.window.rng.permutation(len(self.games.training))
            for start in range(0, len(order), 16):
                yield [self.games.training[i] for i in order[start : start + 16]]

    def load(self, earlier: Checkpoint) -> None:
        """Go on from what `save` wrote; the batches to come are others than those before."""
        self.learner.load(earlier)
        self.spent_s, self.curve = earlier.state["spent_s"], earlier.state["curve"]
        self.window.rng = np.random.default_rng([self.about["seed"], self.learner.step])
        spent = f"from step {self.learner.step}, {self.spent_s / 60:.1f} min"
        print(f"{earlier.path}: goes on {spent}", file=sys.stderr)

    def save(self) -> None:
        """Write the state, and the averaged network as it is now."""
        state = {"spent_s": self.spent_s, "curve": self.curve}
        self.learner.save(self.state, self.info(), state)
        self.learner.save(self.out, self.info())

    def train(self, budget_s: float) -> None:
        """Train until so long is spent, checks apart; the schedule follows the clock."""
        check_s, batches = max(budget_s / NUM_CHECKS, MIN_PHASE_S), self.batches()
        next(batches)  # fills the window
        while (left_s := budget_s - self.spent_s) > min(0.01 * budget_s, 5.0):
            begun_s, phase_s = time.monotonic() - self.spent_s, min(check_s, SAVE_S, left_s)
            deadline = begun_s + self.spent_s + phase_s
            done = lambda begun_s=begun_s: (time.monotonic() - begun_s) / budget_s  # noqa: E731
            self.learner.train(batches, None, done, deadline)
            self.spent_s = time.monotonic() - begun_s
            if budget_s - self.spent_s > phase_s / 2:
                last_check_s = 60 * self.curve[-1]["minutes"] if self.curve else 0.0
                if self.spent_s - last_check_s > 0.9 * check_s:
                    self.check(CHECK_POSITIONS)
                self.save()
        if not self.curve or self.curve[-1]["step"] < self.learner.step:
            self.save()  # what follows takes a while
            self.check(FINAL_POSITIONS)
        self.save()

    def check(self, max_positions: int) -> None:
        """Measure the averaged network on held-out games, and show it."""
        network, rows, figures = self.learner.network(), {}, self._figures()
        for size in sorted({record.size for record in self.games.held_out}):
            evaluator = exact_evaluator(network, size, str(self.learner.device))
            records = [record for record in self.games.held_out if record.size == size]
            rows[size] = judge(evaluator, choose_places(records, max_positions))
        if rows:
            figures |= summarise(rows)
        self.curve.append(figures)
        texts = (f"{k} {v:.3f}" for k, v in figures.items() if isinstance(v, float))
        tqdm.write(f"step {self.learner.step}: {', '.join(texts)}", file=sys.stderr)

    def info(self) -> dict:
        """Say how the network came about, and what it was measured to be at the last check."""
        samples = self.learner.step * self.learner.config.batch_size
        return {
            **self.about,
            "left_out": dict(self.games.left_out),
            "training_positions": self.num_positions,
            "samples": samples,
            "samples_per_s": samples / self.spent_s,
            **(self.curve[-1] if self.curve else {}),
            **self._figures(),
            "curve": self.curve,
        }

    def _figures(self) -> dict:
        return {"step": self.learner.step, "minutes": self.spent_s / 60}
