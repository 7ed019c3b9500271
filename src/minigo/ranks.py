"""The ranks of people on one scale, and networks that play as a rank does."""

import re
from functools import lru_cache

import numpy as np

from .architecture import Network

UNRANKED = 0  # of the ranks 1 (18k and below) to 28 (professionals), one for each step
_RANK = re.compile(r"(\d{1,2})\s*-?\s*(k|級|级|d|段|p)(.*)", re.DOTALL)
_NUMERALS = str.maketrans("初一二三四五六七八九", "1123456789")


@lru_cache(4096)
def parse_rank(text: str) -> float | None:
    """Place a rank on one scale: 1k is 0, 1d 1, 9d 9, 1p 10; a rating of 2000 is 0, of 2100 1.

    One public project equates GoQuest's 2000 with 1k; the slope is a guess. None if unreadable.
    """
    text = text.strip().lower().translate(_NUMERALS)
    if re.fullmatch(r"\d{3,4}\??", text):
        return (int(text.rstrip("?")) - 2000) / 100
    if not (match := _RANK.match(text)):
        return None
    number, kind, rest = match.groups()
    if kind in "k級级":
        return 1.0 - int(number)
    return float(number) + (9 if kind == "p" or "p" in rest else 0)


def rank_features(ranks) -> list:
    """Return three numbers, smooth in ranks, of any kind of these; UNRANKED: zeros."""
    known, steps = ranks > UNRANKED, (ranks - 18) / 10
    return [known, known * steps, known * steps * steps]


def find_rank(text: str) -> int:
    """Return the rank that `rank_features` takes."""
    rank = parse_rank(text)
    return UNRANKED if rank is None else min(max(round(rank), -17), 10) + 18


def at_rank(network: Network, text: str | None) -> Network:
    """Return the network that plays as people of a rank do, where one is asked for.

    Raises ValueError for what is no rank, and where the network learned of none.
    """
    if text is None:
        return network
    weights, rank = {**network.weights}, find_rank(text)
    if rank == UNRANKED:
        raise ValueError(f"{text!r} is not a rank such as 3d, 9p or 2350")
    if "rank.weight" not in weights:
        raise ValueError(f"rank {text}: this network learned nothing of ranks")
    weights["stem.bias"] = weights.pop("rank.weight") @ np.array(rank_features(rank), np.float32)
    return Network(network.name, weights)
