"""What a network is, without PyTorch: its name, the sizes of its layers, its weights as arrays.

Networks are named by blocks and channels: b4c32, b6c64, b6c96 and b10c128 are the usual ones.
Channels in multiples of 32 fill the processor's vectors: 48 cost as much as 64.
"""

import re
from typing import NamedTuple

import numpy as np

HEAD_CHANNELS = 32  # of each third of the shared convolution: policy, pooled, pooled and ownership
HIDDEN = 64  # of the layer between pooled features and value, score and pass
SCORE_SCALE = 20.0  # points; the network's own numbers stay near 1
POOLED = 3  # numbers that pooling makes of a channel
_EPSILON = 1e-5  # of PyTorch's batch norms


class Network(NamedTuple):
    """A network with its weights, to play with."""

    name: str  # such as "b6c64"
    weights: dict[str, np.ndarray]  # by their names in `PolicyValueNet`


def parse_network(name: str) -> tuple[int, int]:
    """Read "b6c64" as (6 blocks, 64 channels)."""
    match = re.fullmatch(r"b([1-9]\d?)c([1-9]\d{0,3})", name)
    if not match or int(match[2]) < 8:
        raise ValueError(f"{name!r} is not a network such as b6c64 (blocks, at least 8 channels)")
    return int(match[1]), int(match[2])


def fold(network: Network) -> Network:
    """Make batch norms part of the convolutions before them, else a scale and a shift.

    Weights averaged over training need their batch norms' statistics averaged the same way.
    """
    weights = dict(network.weights)
    for key in [key for key in weights if key.endswith(".running_var")]:
        norm = key.removesuffix(".running_var")
        scale = weights.pop(f"{norm}.weight") / np.sqrt(weights.pop(key) + np.float32(_EPSILON))
        shift = weights.pop(f"{norm}.bias") - scale * weights.pop(f"{norm}.running_mean")
        del weights[f"{norm}.num_batches_tracked"]
        conv = f"{norm.removesuffix('norm')}conv"
        if f"{conv}.weight" in weights:
            weights[f"{conv}.weight"] = weights[f"{conv}.weight"] * scale[:, None, None, None]
            weights[f"{conv}.bias"] = shift
        else:
            weights[f"{norm}.scale"] = scale[:, None, None]
            weights[f"{norm}.shift"] = shift[:, None, None]
    return Network(network.name, weights)
