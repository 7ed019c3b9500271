"""Human games -> records -> a trained network, with its accuracy on games it never saw.

A game is known by a hash of its first moves that is the same in all eight orientations: it finds
duplicates, and chooses the games that are held out, so that no game ever moves between the two.
"""

import dataclasses
import hashlib
import math
import re
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from .archive import read_games
from .checkpoint import Checkpoint, load_checkpoint, load_network, save_checkpoint, start_from
from .config import TrainConfig
from .coords import BLACK, NUM_SYMMETRIES, check_size, symmetry_table
from .evaluator import Evaluator, make_evaluator
from .network import PolicyValueNet, choose_device
from .record import GameRecord
from .replay import MixedReplay, Replay
from .sgf import Skipped
from .train import AveragedWeights, make_optimizer, train

HOLDOUT_FRAC = 0.03
SAME_MOVES = 30  # games equal so far, passes at the end apart, are one game
NUM_CHECKS = 10  # measurements on held-out games during training
CHECK_POSITIONS, FINAL_POSITIONS = 4_000, 20_000  # held-out positions of each, and of the last
MIN_PHASE_S = 20.0  # between them at least
SAVE_S = 180.0  # between two savings of a run's state at most
FIRST_STEPS = 10  # that tell how fast this machine trains
# Value weighs little, since whole games are easily memorised, but not 0.01 as in AlphaGo Zero: that
# left it unlearned, and 0.3 cost the policy nothing (selfplay/LOG.md). So do points.
IMITATION = TrainConfig(value_weight=0.3, ownership_weight=0.0, score_weight=0.003)
# The lowest rank of each, as `parse_rank` gives it, for accuracy by rank.
RANK_BANDS = ((-99, "30k to 10k"), (-8, "9k to 5k"), (-3, "4k to 1k"), (1, "1d to 3d"))
RANK_BANDS += ((4, "4d to 6d"), (7, "7d to 9d"), (10, "professional"))
_RANK = re.compile(r"(\d{1,2})\s*-?\s*(k|級|级|d|段|p)(.*)", re.DOTALL)
_NUMERALS = str.maketrans("初一二三四五六七八九", "1123456789")


@dataclass(frozen=True)
class HumanGames:
    """What a look through archives found."""

    training: list[GameRecord] = field(default_factory=list)
    held_out: list[GameRecord] = field(default_factory=list)
    left_out: Counter = field(default_factory=Counter)  # reason: games


def imitate(
    paths: Iterable[str | Path],
    *,
    size: int | Sequence[int],
    out: str | Path,
    network: str = "b6c96",
    start: str | None = None,
    minutes: float = 10.0,
    config: TrainConfig = IMITATION,
    min_rank: str | None = None,
    strict: bool = False,
    seed: int = 1,
    device: str = "auto",
) -> dict:
    """Train a network to predict the moves of human games, and save it as checkpoint `out`.

    `start`: a checkpoint to begin with, of any board size, instead of random weights.
    Of several sizes it learns one batch at a time, each as often as its share of the positions.
    Training takes `minutes` of wall-clock time, reading the games and the last measurement come
    on top. Every few minutes the run's state goes to `out`.state and its network to `out`: the same
    call again goes on from there, after a kill or with more `minutes`. `min_rank`, such as "3d" or
    "2350", is for the weaker player. Returns the checkpoint's `info`: data, filters, samples, the
    curve and the held-out accuracy. Raises ValueError where there is nothing to learn from, where
    the state is another run's, or, with `strict`, at the first bad file.
    """
    sizes = [size] if isinstance(size, int) else sorted(set(size))
    for each in sizes:
        check_size(each)
    if not 0 < minutes < math.inf:
        raise ValueError(f"{minutes} minutes is not a time to train for")
    out, paths = Path(out), list(paths)
    if not out.absolute().parent.is_dir() or out.is_dir():
        raise ValueError(f"{out}: not a file in a folder that exists")
    torch.manual_seed(seed)
    net = PolicyValueNet(network)
    about = {
        "made_by": "imitation",
        "size": sizes[0] if len(sizes) == 1 else sizes,
        "data": [Path(path).name for path in paths],
        "filters": {"min_rank": min_rank, "holdout_frac": HOLDOUT_FRAC},
        "start": start,
        "config": dataclasses.asdict(config),
        "seed": seed,
    }
    earlier = load_checkpoint(state_path(out)) if state_path(out).exists() else None
    if earlier:
        _check_same(earlier, about, network)
    elif start is not None:
        start_from(net, start)
    games = load_human_games(paths, sizes=sizes, min_rank=min_rank, strict=strict)
    print(format_left_out(games), file=sys.stderr)
    if not games.training:
        raise ValueError(
            f"no {_format_sizes(sizes)} game to learn from in {', '.join(map(str, paths))}"
        )
    about["games"], about["held_out_games"] = len(games.training), len(games.held_out)
    if earlier:
        _check_same(earlier, about, network)
    about["left_out"] = dict(games.left_out)
    run = _Run(net, games, sizes, config, about, out, device)
    if earlier:
        run.load(earlier.state)
        spent, path = run.spent_s / 60, earlier.path
        print(f"{path}: goes on from step {run.step}, {spent:.1f} min", file=sys.stderr)
    run.train(60 * minutes)
    return run.info()


def state_path(out: Path) -> Path:
    """Return where the state of the run that writes checkpoint `out` is."""
    return out.with_name(f"{out.name}.state")


def _check_same(earlier: Checkpoint, about: dict, network: str) -> None:
    """Raise ValueError unless the run that left a state is the one that goes on."""
    was, now = (
        {"network": net} | info | info["config"] | {"config": None}
        for net, info in ((earlier.network, earlier.info), (network, about))
    )
    for name, value in now.items():
        if was.get(name) != value:
            text = f"{earlier.path}: a run with {name} {was.get(name)}, not {value}"
            raise ValueError(f"{text}; delete that file or write to another")


def evaluate(
    checkpoint: str | Path,
    paths: Iterable[str | Path],
    *,
    held_out: bool = False,
    size: int | None = None,
    max_positions: int = 100_000,
    device: str = "auto",
) -> dict:
    """Measure how well a checkpoint predicts the moves and results of games.

    `held_out`: of archives that it was trained on, known by name, only the share of the games that
    imitation left out, with its filters; of others all games, unless it began as another network,
    which may have learned from any. Of more than `max_positions` positions of a board size, a fixed
    random choice.
    Returns top1, top5 (fractions), cross_entropy (nats), value_mse (z in [-1, 1]; None where no
    result is known) and positions, with no symmetry averaged and no illegal move masked; top1 in
    each third of a game and by the rank of who moves; "by_size" of several sizes; and
    "with_symmetries", the same for the mean over eight symmetries, of every tenth position.
    """
    loaded, paths = load_checkpoint(checkpoint), list(paths)
    sizes, records = None if size is None else [size], []
    info, known, others = loaded.info, [], []
    had_teacher = info.get("start") or info.get("recipe", {}).get("start") == "imitation"
    for path in paths:
        may_know = had_teacher or Path(path).name in info.get("data", [])
        (known if held_out and may_know else others).append(path)
    for part, filters in ((others, {"holdout_frac": 1.0}), (known, info.get("filters", {}))):
        if part:
            records += load_human_games(part, sizes=sizes, **filters).held_out
    if not records:
        raise ValueError(f"no game to evaluate in {', '.join(map(str, paths))}")
    net, plain, turned, groups = load_network(loaded), {}, {}, []
    for board_size in sorted({record.size for record in records}):
        evaluator = _make_evaluator(net, board_size, device)
        replay = Replay(board_size, np.random.default_rng(0))
        replay.add(record for record in records if record.size == board_size)
        positions = _choose(len(replay), max_positions)
        if len(positions) < len(replay):
            text = f"{len(positions):,} of {len(replay):,} positions, chosen at random"
            print(f"{board_size}x{board_size}: {text}", file=sys.stderr)
        plain[board_size] = _judge(evaluator, replay, positions)
        tenth = _choose(len(replay), -(-len(positions) // 10))
        turned[board_size] = _judge(evaluator, replay, tenth, NUM_SYMMETRIES)
        groups += [(_third(*place), _rank_band(*place)) for place in replay.locate(positions)]
    is_right = np.concatenate(list(plain.values()))[:, 0] == 0
    thirds, bands = zip(*groups, strict=True)
    return {
        **_summarise(plain),
        "top1_by_phase": _mean_by(thirds, is_right),
        "top1_by_rank": _mean_by(bands, is_right),
        "with_symmetries": _summarise(turned),
    }


def _third(record: GameRecord, ply: int) -> tuple[int, str]:
    third = 3 * ply // len(record.moves)
    return third, f"{('first', 'second', 'last')[third]} third of the game"


def _rank_band(record: GameRecord, ply: int) -> tuple[float, str]:
    """Return the lowest rank of those like the player's, as `parse_rank` does, and their name."""
    is_black = (record.to_play == BLACK) == (ply % 2 == 0)
    text = record.black_rank if is_black else record.white_rank
    rank = parse_rank(text)
    if rank is None:
        return -math.inf, "unknown"
    if rating := re.match(r"\s*(\d{1,2})\d\d\b", text):
        return math.floor(rank), f"{rating[1]}00 to {rating[1]}99"
    return max(band for band in RANK_BANDS if band[0] <= rank)


def _mean_by(groups: Sequence[tuple], values: np.ndarray) -> dict[str, float]:
    """Return the mean of the values of each group, the groups in order; of each the name."""
    order = {group: i for i, group in enumerate(sorted(set(groups)))}
    numbers = np.array([order[group] for group in groups])
    return {name: float(values[numbers == i].mean()) for (_, name), i in order.items()}


# ---- games ----


def load_human_games(
    paths: Iterable[str | Path],
    *,
    sizes: Collection[int] | None = None,
    min_rank: str | None = None,
    strict: bool = False,
    holdout_frac: float = HOLDOUT_FRAC,
) -> HumanGames:
    """Read games, drop what is no use, and split the rest; sizes of None take every board."""
    lowest = None if min_rank is None else parse_rank(min_rank)
    if min_rank is not None and lowest is None:
        raise ValueError(f"{min_rank!r} is not a rank such as 3d, 9p or 2350")
    games, seen = HumanGames(), set()
    for game in tqdm(read_games(paths, strict), desc="reading", unit=" games", mininterval=0.5):
        if isinstance(game, Skipped):
            games.left_out[game.reason] += 1
        elif reason := _reason_against(game, sizes, lowest):
            games.left_out[reason] += 1
        elif (key := game_key(game)) in seen:
            games.left_out["duplicate"] += 1
        else:
            seen.add(key)
            is_held_out = key < holdout_frac * 2**64
            (games.held_out if is_held_out else games.training).append(game)
    return games


def _reason_against(
    game: GameRecord, sizes: Collection[int] | None, lowest: float | None
) -> str | None:
    if sizes is not None and game.size not in sizes:
        return f"not {_format_sizes(sizes)}"
    if len(game.moves) < game.size:
        return f"under {game.size} moves"
    if lowest is None:
        return None
    ranks = parse_rank(game.black_rank), parse_rank(game.white_rank)
    if None in ranks:
        return "rank unknown"
    return "rank too low" if min(ranks) < lowest else None


def _format_sizes(sizes: Collection[int]) -> str:
    return " or ".join(f"{size}x{size}" for size in sizes)


def game_key(record: GameRecord) -> int:
    """Return 64 bits that are the same for a game, its reflections and rotations.

    They depend on the size, the set-up and the first SAME_MOVES moves, without passes at the end.
    """
    area, moves = record.size**2, record.moves
    while len(moves) and moves[-1] == area:
        moves = moves[:-1]
    table = _symmetries(record.size)
    turned = table[:, moves[:SAME_MOVES]].astype("<i2")
    texts = [row.tobytes() for row in turned]
    if record.setup is not None:
        stones = np.empty((len(table), area), np.int8)
        np.put_along_axis(stones, table[:, :-1].astype(np.int64), record.setup[None], axis=1)
        texts = [row.tobytes() + text for row, text in zip(stones, texts, strict=True)]
    prefix = bytes((record.size, record.to_play))
    return int.from_bytes(hashlib.blake2b(prefix + min(texts), digest_size=8).digest(), "big")


_symmetries = lru_cache(symmetry_table)


@lru_cache(4096)
def parse_rank(text: str) -> float | None:
    """Place a rank on one scale: 1k is 0, 1d 1, 9d 9, 1p 10; a rating of 2000 is 0, of 2100 1.

    One public project equates GoQuest's 2000 with 1k; the slope is a guess. None if unreadable.
    """
    text = text.strip().lower().translate(_NUMERALS)
    if re.fullmatch(r"\d{3,4}\??", text):
        return (int(text.rstrip("?")) - 2000) / 100
    match = _RANK.match(text)
    if not match:
        return None
    number, kind, rest = int(match[1]), match[2], match[3]
    if kind in "k級级":
        return 1.0 - number
    return number + 9.0 if kind == "p" or "p" in rest else float(number)


def format_left_out(games: HumanGames) -> str:
    """Return the table of what was kept and what was left out, and why."""
    rows = [("for training", len(games.training)), ("held out", len(games.held_out))]
    rows += [(f"left out: {reason}", count) for reason, count in games.left_out.most_common()]
    return "\n".join(f"{count:9,}  {name}" for name, count in rows)


# ---- training and measuring ----


class _Run:
    """One training run against the clock, with its curve; on disk it is never half written."""

    def __init__(self, net, games, sizes, config, about: dict, out: Path, device: str):
        self.net, self.config, self.device = net.to(choose_device(device)), config, device
        self.about, self.out = about, out
        self.average = AveragedWeights(self.net, config.ema_decay)
        self.optimizer = make_optimizer(self.net, config)
        self.rng = np.random.default_rng(about["seed"])
        self.training, held_out = (MixedReplay(sizes, self.rng) for _ in range(2))
        self.training.add(games.training)
        held_out.add(games.held_out)
        self.held_out = held_out.replays
        self.evaluators: dict[int, Evaluator] = {}
        self.step, self.spent_s, self.curve = 0, 0.0, []

    def load(self, state: dict) -> None:
        """Go on from what `save` wrote; the batches to come are others than those before."""
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.spent_s, self.curve = state["step"], state["spent_s"], state["curve"]
        fresh = np.random.default_rng([self.about["seed"], self.step])
        self.rng.bit_generator.state = fresh.bit_generator.state

    def save(self) -> None:
        """Write the state, and the averaged network as it is now."""
        content = {"network": self.net.name, "weights": self.average.weights()}
        content["info"] = self.info()
        state = {
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "spent_s": self.spent_s,
            "curve": self.curve,
        }
        save_checkpoint(state_path(self.out), state=state, **content)
        save_checkpoint(self.out, half=True, **content)

    def train(self, budget_s: float) -> None:
        """Train until so long is spent, checks apart; the schedule follows the clock."""
        check_s, steps_per_s = max(budget_s / NUM_CHECKS, MIN_PHASE_S), 0.0
        while (left_s := budget_s - self.spent_s) > min(0.01 * budget_s, 5.0):
            is_warm, first_step, start = steps_per_s > 0, self.step, time.monotonic()
            phase_s = min(check_s, SAVE_S, left_s) if is_warm else 0.0
            self.step = train(
                self.net,
                self.average,
                self.optimizer,
                self.training,
                self.config,
                num_steps=max(1, round(phase_s * steps_per_s)) if is_warm else FIRST_STEPS,
                step=self.step,
                progress=(self.spent_s / budget_s, (self.spent_s + phase_s) / budget_s),
                deadline=start + left_s,
            ).step
            taken_s = time.monotonic() - start
            self.spent_s += taken_s
            steps_per_s = (self.step - first_step) / taken_s
            if is_warm and budget_s - self.spent_s > phase_s / 2:
                last_check_s = 60 * self.curve[-1]["minutes"] if self.curve else 0.0
                if self.spent_s - last_check_s > 0.9 * check_s:
                    self.check(CHECK_POSITIONS)
                self.save()
        if not self.curve or self.curve[-1]["step"] < self.step:
            self.save()  # what follows takes a while
            self.check(FINAL_POSITIONS)
        self.save()

    def check(self, max_positions: int) -> None:
        """Measure the averaged network on held-out games, and show it."""
        figures = {"step": self.step, "minutes": self.spent_s / 60}
        net, rows = PolicyValueNet(self.net.name), {}
        net.load_state_dict(self.average.weights())
        for size, replay in self.held_out.items():
            if len(replay):
                if size not in self.evaluators:
                    self.evaluators[size] = _make_evaluator(net, size, self.device)
                self.evaluators[size].load(net)
                positions = _choose(len(replay), max_positions)
                rows[size] = _judge(self.evaluators[size], replay, positions)
        if rows:
            figures |= _summarise(rows)
        self.curve.append(figures)
        texts = (f"{k} {v:.3f}" for k, v in figures.items() if isinstance(v, float))
        tqdm.write(f"step {self.step}: {', '.join(texts)}", file=sys.stderr)

    def info(self) -> dict:
        """Say how the network came about, and what it was measured to be at the last check."""
        samples = self.step * self.config.batch_size
        figures = {"step": self.step, "minutes": self.spent_s / 60}
        return {
            **self.about,
            "training_positions": len(self.training),
            "samples": samples,
            "samples_per_s": samples / self.spent_s,
            **(self.curve[-1] if self.curve else {}),
            **figures,
            "curve": self.curve,
        }


def _make_evaluator(net: PolicyValueNet, size: int, device: str) -> Evaluator:
    threads = torch.get_num_threads()
    return make_evaluator(net, size, device, max_batch=256, threads=threads, exact=True)


def _choose(num_positions: int, most: int) -> np.ndarray:
    """Return every position, or a random choice that is the same each time."""
    if num_positions <= most:
        return np.arange(num_positions)
    return np.sort(np.random.default_rng(0).choice(num_positions, most, replace=False))


def _judge(
    evaluator: Evaluator, replay: Replay, positions: np.ndarray, num_symmetries: int = 1
) -> np.ndarray:
    """Return (positions, 3): rank of the move played (0: first), its surprisal, value error^2.

    Probabilities and values are means over the symmetries; the error is NaN where the result is
    unknown.
    """
    table, rows = _symmetries(replay.size), []
    chunks = np.split(positions, range(256, len(positions), 256))
    for chunk in tqdm(chunks, "evaluating", leave=False, disable=None):
        policy, value = 0.0, 0.0
        for symmetry in range(num_symmetries):
            batch = replay.batch(chunk, np.full(len(chunk), symmetry))
            output = evaluator.evaluate(batch.planes)
            turned = torch.from_numpy(output.logits).double().softmax(1).numpy()
            policy = policy + turned[:, table[symmetry]] / num_symmetries
            value = value + output.value / num_symmetries
        moves = batch.policy[:, table[symmetry]].argmax(1)
        played = np.take_along_axis(policy, moves[:, None], axis=1)
        rank = (policy > played).sum(1)
        error = np.where(batch.value_weight > 0, (value - batch.value) ** 2, np.nan)
        rows.append(np.stack([rank, -np.log(played[:, 0]), error], axis=1))
    return np.concatenate(rows)


def _summarise(rows: dict[int, np.ndarray]) -> dict:
    """Return the figures of what `_judge` found, of all board sizes and, of several, of each."""
    rank, surprisal, error = np.concatenate(list(rows.values())).T
    known = error[~np.isnan(error)]
    figures = {
        "top1": float((rank == 0).mean()),
        "top5": float((rank < 5).mean()),
        "cross_entropy": float(surprisal.mean()),
        "value_mse": float(known.mean()) if len(known) else None,
        "positions": len(rank),
    }
    if len(rows) > 1:
        figures["by_size"] = {f"{n}x{n}": _summarise({n: part}) for n, part in rows.items()}
    return figures
