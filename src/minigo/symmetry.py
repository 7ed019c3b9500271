"""Weights of a symmetric network, b6c64s: its answers turn with the board.

So nothing is learned eight times. A quarter of the channels of its tower comes in eights, each one
feature seen from the eight sides (the regular representation; Cohen and Welling 2016, arXiv
1602.07576); the others, and the heads, are the same from every side. A mixture (Weiler and Cesa
2019, arXiv 1911.08251), since with eights alone features are few, and without any they have no
direction (selfplay/LOG.md). It is evaluated as any other network: its weights repeat themselves.
"""

import math

import numpy as np
import torch
from torch import Tensor

from .architecture import is_symmetric
from .coords import NUM_SYMMETRIES, symmetry_table
from .network import POOLED, PolicyValueNet


def _channels(num: int, parts: int) -> np.ndarray:
    """Return which channel becomes each one by each symmetry: (8, num).

    parts: like ones that the channels are of, each with a quarter of eights; 0: there are none.
    """
    squares = symmetry_table(3)
    rows = squares.tolist()  # after the i-th, the j-th symmetry makes the [j, i]-th of it
    after = [[rows.index(row) for row in squares[:, square].tolist()] for square in squares]
    channels, width, eight = np.arange(num), num // max(parts, 1), NUM_SYMMETRIES
    in_eights = (channels % width < width // 32 * eight) & (parts > 0)
    sources = channels // eight * eight + np.argsort(after, 1)[:, channels % eight]
    return np.where(in_eights, sources, channels)


def find_orbits(net: PolicyValueNet) -> dict[str, Tensor]:
    """Return of each weight's K numbers the eight that must be equal: (8, K) by `net`'s names.

    Nothing where it isn't symmetric. Statistics of batch norms are weights, too, (C,) or (S, C).
    """
    orbits = {}
    for name, weight in net.state_dict().items() if is_symmetric(net.name) else ():
        if not weight.is_floating_point():  # sizes, counters
            continue
        numbers, top = np.arange(weight.numel()).reshape(weight.shape), name.split(".")[0]
        is_vector = weight.dim() == 1 or "running" in name
        outputs = _channels(weight.shape[-is_vector], top in ("stem", "rank", "blocks", "norm"))
        if is_vector:
            turned = [numbers[..., ours] for ours in outputs]
        else:
            is_pooled = top == "blocks" and name.endswith("bias.weight")
            parts = POOLED if is_pooled else top == "blocks" or name == "heads.conv.weight"
            inputs = _channels(weight.shape[1], parts)
            numbers = numbers.reshape(*weight.shape[:2], -1)
            squares = symmetry_table(math.isqrt(numbers.shape[2]))[:, :-1]  # without pass
            by = zip(outputs, inputs, squares, strict=True)
            turned = [numbers[ours][:, theirs][:, :, square] for ours, theirs, square in by]
        orbit = np.stack(turned).reshape(NUM_SYMMETRIES, -1)
        orbits[name] = torch.from_numpy(orbit).to(weight.device)
    return orbits


def symmetrize(weight: Tensor, orbit: Tensor) -> Tensor:
    """Return the mean of a weight, or of its gradient, over the eight symmetries."""
    return weight.flatten()[orbit].mean(0).view(weight.shape)
