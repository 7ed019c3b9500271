"""`minigo evaluate`: how well a network predicts games, by phase, rank and symmetry."""

import math
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..checkpoint import load_checkpoint, load_network
from ..coords import BLACK, NUM_SYMMETRIES
from ..games import load_human_games
from ..prediction import choose_places, exact_evaluator, judge, summarise
from ..ranks import at_rank, parse_rank
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
    rank: str | None = None,
    device: str = "auto",
) -> dict:
    """Measure how well a checkpoint predicts the moves and results of games.

    `held_out`: see `_choose_games`; of more than `max_positions` of a board size, a fixed choice.
    rank: what the network is told of who moves. Returns top1, top5 (fractions), cross_entropy
    (nats), value_mse (z in [-1, 1]; None where no result is known) and positions, with no symmetry
    averaged and no illegal move masked; top1 in each third of a game and by the rank of who moves;
    "by_size" of several; of every tenth position "with_symmetries", a mean over eight, and without.
    """
    loaded, plain, tenth, turned, groups = load_checkpoint(checkpoint), {}, {}, {}, []
    records = _choose_games(loaded.info, list(paths), held_out, size)
    network = at_rank(load_network(loaded), rank)
    for n in sorted({record.size for record in records}):
        evaluator = exact_evaluator(network, n, device)
        of_size = [record for record in records if record.size == n]
        places = choose_places(of_size, max_positions)
        if (total := sum(len(record.moves) for record in of_size)) > (num := len(places)):
            print(f"{n}x{n}: {num:,} of {total:,} positions, chosen at random", file=sys.stderr)
        plain[n] = judge(evaluator, places)
        tenth[n], turned[n] = plain[n][::10], judge(evaluator, places[::10], NUM_SYMMETRIES)
        groups += [_find_groups(*place) for place in places]
    figures, is_right = summarise(plain), np.concatenate(list(plain.values()))[:, 0] == 0
    for kind, column in zip(("phase", "rank"), zip(*groups, strict=True), strict=True):
        names, order = np.array([name for _, name in column]), sorted(set(column))
        means = {name: float(is_right[names == name].mean()) for _, name in order}
        figures[f"top1_by_{kind}"] = means
    both = {"with_symmetries": summarise(turned), "without_symmetries": summarise(tenth)}
    return figures | both


def _choose_games(info: dict, paths: list, held_out: bool, size: int | None) -> list[GameRecord]:
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
            records += load_human_games(part, sizes=size and [size], **filters).held_out
    if not records:
        raise ValueError(f"no game to evaluate in {', '.join(map(str, paths))}")
    return records


def _find_groups(record: GameRecord, ply: int) -> tuple[tuple[float, str], tuple[float, str]]:
    """Return the third of the game, and the rank of who moves: of each its order and its name."""
    third, is_black = 3 * ply // len(record.moves), (record.to_play == BLACK) == (ply % 2 == 0)
    phase = third, f"{('first', 'second', 'last')[third]} third of the game"
    text = record.black_rank if is_black else record.white_rank
    rank = parse_rank(text)
    if rank is None:
        return phase, (-math.inf, "unknown")
    if rating := re.match(r"\s*(\d{1,2})\d\d\b", text):
        return phase, (math.floor(rank), f"{rating[1]}00 to {rating[1]}99")
    return phase, max(band for band in RANK_BANDS if band[0] <= rank)
