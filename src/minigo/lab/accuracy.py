"""`minigo evaluate`: how well a network predicts games, by phase, rank and symmetry."""

import math
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..checkpoint import load_checkpoint, load_network
from ..coords import BLACK, NUM_SYMMETRIES
from ..games import load_human_games, parse_rank
from ..prediction import choose_places, exact_evaluator, judge, summarise
from ..record import GameRecord

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

    `held_out`: see `_choose_games`; of more than `max_positions` of a board size, a fixed choice.
    Returns top1, top5 (fractions), cross_entropy (nats), value_mse (z in [-1, 1]; None where no
    result is known) and positions, with no symmetry averaged and no illegal move masked; top1 in
    each third of a game and by the rank of who moves; "by_size" of several sizes; and
    "with_symmetries", the same for the mean over eight symmetries, of every tenth position.
    """
    loaded, plain, turned, groups = load_checkpoint(checkpoint), {}, {}, []
    records = _choose_games(loaded.info, list(paths), held_out, None if size is None else [size])
    for n in sorted({record.size for record in records}):
        evaluator = exact_evaluator(load_network(loaded), n, device)
        of_size = [record for record in records if record.size == n]
        places = choose_places(of_size, max_positions)
        if len(places) < (total := sum(len(record.moves) for record in of_size)):
            text = f"{n}x{n}: {len(places):,} of {total:,} positions, chosen at random"
            print(text, file=sys.stderr)
        plain[n] = judge(evaluator, places)
        turned[n] = judge(evaluator, choose_places(of_size, -(-len(places) // 10)), NUM_SYMMETRIES)
        groups += [(_third(*at), _rank_band(*at)) for at in places]
    is_right = np.concatenate(list(plain.values()))[:, 0] == 0
    by_phase, by_rank = (_mean_by(column, is_right) for column in zip(*groups, strict=True))
    figures = summarise(plain) | {"top1_by_phase": by_phase, "top1_by_rank": by_rank}
    return figures | {"with_symmetries": summarise(turned)}


def _choose_games(info: dict, paths: list, held_out: bool, sizes: list | None) -> list[GameRecord]:
    """Return games to measure a network by, of whose making `info` tells.

    `held_out`: of archives that it was trained on, known by name, only the share of the games that
    imitation left out, with its filters; of others all games, unless it began as another network,
    which may have learned from any.
    """
    had_teacher = info.get("start") or info.get("recipe", {}).get("start") == "imitation"
    names, records = info.get("data", []), []
    known = [path for path in paths if held_out and (had_teacher or Path(path).name in names)]
    others = [path for path in paths if path not in known]
    for part, filters in ((others, {"holdout_frac": 1.0}), (known, info.get("filters", {}))):
        if part:
            records += load_human_games(part, sizes=sizes, **filters).held_out
    if not records:
        raise ValueError(f"no game to evaluate in {', '.join(map(str, paths))}")
    return records


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


def _mean_by(groups: tuple[tuple, ...], values: np.ndarray) -> dict[str, float]:
    """Return the mean of the values of each group, the groups in order; of each the name."""
    names = np.array([name for _, name in groups])
    return {name: float(values[names == name].mean()) for _, name in sorted(set(groups))}
