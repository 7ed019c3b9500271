"""What a network is, without PyTorch: its name, the sizes of its layers, its weights as arrays.

Networks are named by blocks and channels: b4c32, b6c64, b6c96 and b10c128 are the usual ones, with
an s at the end if they are symmetric (`symmetry`). Channels in multiples of 32 fill the processor's
vectors: 48 cost as much as 64.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

HEAD_CHANNELS = 32  # of each third of the shared convolution: policy, pooled, pooled and ownership
HIDDEN = 64  # of the layer between pooled features and value, score and pass
SCORE_SCALE = 20.0  # points; the network's own numbers stay near 1
_EPSILON = np.float32(1e-5)  # of PyTorch's batch norms


class Network(NamedTuple):
    """A network with its weights, to play with."""

    name: str  # such as "b6c64"
    weights: dict[str, np.ndarray]  # by their names in `PolicyValueNet`


def parse_network(name: str) -> tuple[int, int]:
    """Read "b6c64" and "b6c64s" as (6 blocks, 64 channels)."""
    match = re.fullmatch(r"b([1-9]\d?)c([1-9]\d{0,3})s?", name)
    if not match or int(match[2]) < 8:
        raise ValueError(f"{name!r} is not a network such as b6c64 (blocks, at least 8 channels)")
    return int(match[1]), int(match[2])


def is_symmetric(name: str) -> bool:
    """Say if a network's answers turn with the board (`symmetry`)."""
    return name.endswith("s")


def fit_sizes(weights: dict[str, np.ndarray], sizes: Sequence[int]) -> dict[str, np.ndarray]:
    """Return weights with batch norms' statistics (S, C) of these board sizes, named by "sizes".

    Between sizes that were learned they are interpolated, on 13x13 as good as its own; beyond, and
    where none is named, they stay as they are (selfplay/LOG.md).
    """
    learned = weights.get("sizes", np.zeros(1))
    shares = np.float32([np.interp(sizes, learned, unit) for unit in np.eye(len(learned))]).T
    statistics = {k: shares @ np.atleast_2d(w) for k, w in weights.items() if "norm.running_" in k}
    return weights | statistics | {"sizes": np.array(sizes)}


def affine_of(weights: dict[str, np.ndarray], norm: str) -> tuple[np.ndarray, np.ndarray]:
    """Return what a batch norm does after training: (C, 1, 1) each."""
    mean, var = (weights[f"{norm}.running_{name}"].ravel() for name in ("mean", "var"))
    scale = weights[f"{norm}.weight"] / np.sqrt(var + _EPSILON)
    shift = weights[f"{norm}.bias"] - scale * mean
    return scale[:, None, None], shift[:, None, None]


def fold(network: Network, size: int) -> Network:
    """Make batch norms part of the convolutions before them, where there is one, for a board size.

    Weights averaged over training need their batch norms' statistics averaged the same way.
    """
    weights = fit_sizes(network.weights, [size])
    weights.pop("rank.weight", None)  # of an unknown rank it makes zeros
    for key in [key for key in weights if key.endswith("conv.weight")]:
        conv, norm = key.removesuffix(".weight"), key.removesuffix("conv.weight") + "norm"
        scale, shift = affine_of(weights, norm)
        weights[key], weights[f"{conv}.bias"] = weights[key] * scale[:, None], shift.ravel()
        weights = {name: w for name, w in weights.items() if not name.startswith(f"{norm}.")}
    return Network(network.name, weights)
