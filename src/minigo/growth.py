"""A larger network that says what a smaller one does, and goes on learning (Net2Net, Chen 2016)."""

import re

import torch

from .architecture import Network, parse_network
from .network import POOLED, PolicyValueNet


def check_larger(name: str, other: str) -> None:
    """Raise ValueError unless the network `name` has all the blocks and channels of another."""
    if any(more < few for more, few in zip(parse_network(name), parse_network(other), strict=True)):
        raise ValueError(f"{name} is not larger than {other}")


def grow(network: Network, name: str) -> PolicyValueNet:
    """Return a larger network, with random weights where it is new, that answers as `network`.

    New blocks come before the others, and begin as the identity. New channels read all others, but
    what was there reads none of them yet.
    """
    check_larger(name, network.name)
    net = PolicyValueNet(name, "rank.weight" in network.weights)
    weights, num_new = net.state_dict(), len(net.blocks) - parse_network(network.name)[0]
    for key, array in network.weights.items():
        shifted = re.sub(r"(?<=^blocks\.)\d+", lambda found: str(int(found[0]) + num_new), key)
        new, old = weights[shifted], torch.from_numpy(array)
        if key.endswith(".bias.weight"):  # each of what `pool` returns has all channels
            new, old = (w.unflatten(1, (POOLED, -1)).movedim(2, 1) for w in (new, old))
        if old.dim() == 0:
            new.copy_(old)
        elif old.dim() == 1:
            new[: len(old)] = old
        else:
            new[: len(old)] = 0
            new[: len(old), : old.shape[1]] = old
    return net
