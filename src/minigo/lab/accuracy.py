"""`minigo evaluate`: how well a network predicts games, by phase, rank and symmetry."""

import math
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ..checkpoint import load_checkpoint, load_network
from ..coords import BLACK, NUM_SYMMETRIES
from ..games import load_human_games, parse_rank
from ..prediction import choose_positions, exact_evaluator, judge, summarise
from ..record import GameRecord
from ..replay import Replay

# The lowest rank of each, as `parse_rank` gives it, for accuracy by rank.
RANK_BANDS = ((-99, "30k to 10k"), (-8, "9k to 5k"), (-3, "4k to 1k"), (1, "1d to 3d"))
RANK_BANDS += ((4, "4d to 6d"), (7, "7d to 9d"), (10, "professional"))


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
    replay = Replay({record.size for record in records}, np.random.default_rng(0))
    replay.add(records)
    for board_size in sorted(replay.sizes):
        evaluator = exact_evaluator(net, board_size, device)
        positions = choose_positions(replay.count(board_size), max_positions)
        if len(positions) < replay.count(board_size):
            text = f"{len(positions):,} of {replay.count(board_size):,} positions, chosen at random"
            print(f"{board_size}x{board_size}: {text}", file=sys.stderr)
        plain[board_size] = judge(evaluator, replay, positions)
        tenth = choose_positions(replay.count(board_size), -(-len(positions) // 10))
        turned[board_size] = judge(evaluator, replay, tenth, NUM_SYMMETRIES)
        places = replay.locate(board_size, positions)
        groups += [(_third(*place), _rank_band(*place)) for place in places]
    is_right = np.concatenate(list(plain.values()))[:, 0] == 0
    thirds, bands = zip(*groups, strict=True)
    return {
        **summarise(plain),
        "top1_by_phase": _mean_by(thirds, is_right),
        "top1_by_rank": _mean_by(bands, is_right),
        "with_symmetries": summarise(turned),
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
