"""`PolicyValueNet`: planes -> policy, value, score, ownership, reply; neither training nor speed.

A residual tower with global pooling (Wu 2019, KataGo, arXiv 1902.10565, section 3.3 and appendix
A). No layer's shape depends on the board, so one network plays every size; a batch holds one size.
Blocks are pre-activation: post-activation ones are 2 to 5 % faster to evaluate, but predicted fewer
human moves after the same 1,000 steps (selfplay/LOG.md). Unlike the paper's, the heads share one
1x1 convolution and one pooled layer, which is faster.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._board import KOMI_PLANE, NUM_PLANES
from .architecture import HEAD_CHANNELS, HIDDEN, SCORE_SCALE, Network, fit_sizes, parse_network
from .ranks import UNRANKED, rank_features

POOLED = 3  # numbers that `pool` makes of a channel


def pool(x: Tensor) -> Tensor:
    """Summarise (B, C, N, N) as (B, 3C): mean, mean scaled by board width, maximum.

    KataGo's global pooling layer, its 14 and 10 too. By the scaled mean sums over the board, such
    as the score, can come out right on two sizes, and within 7 % on 9x9, 13x13 and 19x19 at once.
    """
    mean = x.mean((2, 3))  # (B, C)
    return torch.cat((mean, mean * ((x.shape[-1] - 14) / 10), x.amax((2, 3))), 1)


def planes_of(positions: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Turn (B, A) int32 positions of `Board.encode` into planes (B, C, N, N), channels last."""
    size = math.isqrt(positions.shape[1])
    planes = torch.arange(NUM_PLANES, dtype=torch.int32, device=positions.device)
    bits = (positions[:, :-1, None] >> planes & 1).to(dtype)  # (B, N * N, C)
    bits[:, :, KOMI_PLANE] = positions[:, -1:].view(torch.float32).to(dtype)
    return bits.view(-1, size, size, NUM_PLANES).permute(0, 3, 1, 2)


class Norm(nn.BatchNorm2d):
    """Batch norm; of `sizes`, if set, each has statistics of its own: (S, C).

    A batch is of one size. With a mixture of 9x9's and 19x19's statistics a network named 47.6 % of
    people's moves on 9x9, with 9x9's 50.5 % (selfplay/LOG.md).
    """

    sizes = ()

    def forward(self, x: Tensor) -> Tensor:
        row = self.sizes.index(x.shape[-1]) if self.sizes else slice(None)
        parameters = self.weight, self.bias, self.training, self.momentum, self.eps
        return F.batch_norm(x, self.running_mean[row], self.running_var[row], *parameters)


class ConvNorm(nn.Module):
    """A convolution and its batch norm, which trains fastest of the norms and folds away."""

    def __init__(self, num_in: int, num_out: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(num_in, num_out, width, padding=width // 2, bias=False)
        self.norm = Norm(num_out)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class Block(nn.Module):
    """x + two convolutions of x; if `pooled`, part of the first one biases the rest of it.

    The pooled part, summarised over the whole board, is how a block sees what is far away. It is a
    convolution of its own, although it has the same input: compiled for a CPU, training is 1.4
    times as fast as with one that is split (selfplay/LOG.md). A GPU gets one (`accelerate.merge`).
    """

    def __init__(self, channels: int, pooled: bool) -> None:
        super().__init__()
        num_pooled = min(32, channels // 2) if pooled else 0
        self.parts = channels - num_pooled, num_pooled
        self.norm = Norm(channels)
        self.first = ConvNorm(channels, self.parts[0], 3)
        self.second = nn.Conv2d(self.parts[0], channels, 3, padding=1, bias=False)
        nn.init.zeros_(self.second.weight)  # a block starts as the identity
        self.pooled = ConvNorm(channels, num_pooled, 3) if pooled else None
        if pooled:
            self.bias = nn.Linear(POOLED * num_pooled, self.parts[0])

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(x), inplace=True)  # in place: training is 6 % faster on a CPU
        z = self.first(y)
        if self.parts[1]:
            z, pooled = (z, self.pooled(y)) if self.pooled else z.split(self.parts, 1)
            z = z + self.bias(pool(F.relu(pooled)))[:, :, None, None]
        return x + self.second(F.relu(z, inplace=True))


class PolicyValueNet(nn.Module):
    """The network called `name` ("b6c64"), with random weights; `ranked`: it may be told a rank.

    sizes: of the boards that it learns or plays; without any, all boards share their statistics.
    """

    def __init__(self, name: str, ranked: bool = False, sizes: Sequence[int] = ()) -> None:
        super().__init__()
        num_blocks, channels = parse_network(name)
        self.name = name
        self.stem = nn.Conv2d(NUM_PLANES, channels, 3, padding=1, bias=False)
        self.rank = nn.Linear(len(rank_features(UNRANKED)), channels, False) if ranked else None
        if ranked:
            nn.init.zeros_(self.rank.weight)
        pooled = [(num_blocks - i) % 2 == 1 for i in range(num_blocks)]  # the last one, too
        self.blocks = nn.ModuleList(Block(channels, is_pooled) for is_pooled in pooled)
        self.norm = Norm(channels)
        self.heads = ConvNorm(channels, 3 * HEAD_CHANNELS, 1)
        self.pooled = nn.Linear(POOLED * 2 * HEAD_CHANNELS, HEAD_CHANNELS + HIDDEN)
        self.totals = nn.Linear(HIDDEN, 4)  # value, score, pass, pass as the reply
        self.policies = nn.Conv2d(HEAD_CHANNELS, 2, 1, bias=False)  # of the move, of the reply
        self.ownership = nn.Conv2d(HEAD_CHANNELS, 1, 1)
        if sizes:
            self.register_buffer("sizes", torch.tensor(sizes))
            for norm in [module for module in self.modules() if isinstance(module, Norm)]:
                norm.sizes = tuple(sizes)
                norm.running_mean = norm.running_mean.repeat(len(sizes), 1)
                norm.running_var = norm.running_var.repeat(len(sizes), 1)

    def logits(self, planes: Tensor, ranks: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return what `forward` does, but value and ownership before tanh, for the losses.

        ranks: (B,) of the player to move, where the network is `ranked` (`rank_features`).
        """
        x = self.stem(planes)  # (B, channels, N, N)
        if self.rank and ranks is not None:
            x = x + self.rank(torch.stack(rank_features(ranks), 1).float())[:, :, None, None]
        for block in self.blocks:
            x = block(x)
        heads = self.heads(F.relu(self.norm(x), inplace=True))
        policy, features = heads.split((HEAD_CHANNELS, 2 * HEAD_CHANNELS), 1)
        features = F.relu(features)
        bias, hidden = self.pooled(pool(features)).split((HEAD_CHANNELS, HIDDEN), 1)
        hidden = F.leaky_relu(hidden)  # plain ReLUs here all died on 19x19, and the value with them
        value, score, *passes = self.totals(hidden).unbind(1)  # (B,) each
        points = self.policies(F.relu(policy + bias[:, :, None, None])).flatten(2)  # (B, 2, N * N)
        logits, reply = torch.cat((points, torch.stack(passes, 1)[:, :, None]), 2).unbind(1)
        ownership = self.ownership(features[:, HEAD_CHANNELS:]).squeeze(1)  # (B, N, N)
        return logits, value, SCORE_SCALE * score, ownership, reply

    def forward(self, planes: Tensor) -> tuple[Tensor, ...]:
        """Evaluate (B, C, N, N) float planes for the player to move.

        Returns policy logits (B, A), value (B,) in [-1, 1], score (B,) in points, ownership
        (B, N, N) with +1 = his point at the end, and logits (B, A) of the opponent's reply.
        """
        logits, value, score, ownership, reply = self.logits(planes)
        return logits, torch.tanh(value), score, torch.tanh(ownership), reply


def as_module(network: Network, sizes: Sequence[int] = ()) -> PolicyValueNet:
    """Return a network as PyTorch's, for play; of a folded one (`architecture.fold`) as it is.

    sizes: of boards, in place of those that it learned.
    """
    weights = fit_sizes(network.weights, sizes) if sizes else network.weights
    sizes = weights.get("sizes", np.empty(0)).tolist()
    net = PolicyValueNet(network.name, "rank.weight" in weights, sizes)
    if "stem.bias" in weights:
        net.stem.bias = nn.Parameter(torch.empty(net.stem.out_channels))
    if "heads.conv.bias" in weights:
        for module in list(net.modules()):
            if isinstance(module, ConvNorm):
                module.conv.bias = nn.Parameter(torch.empty(module.conv.out_channels))
                module.norm = nn.Identity()
        net.requires_grad_(False)
    net.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()})
    return net.eval()


def as_arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Return copies of tensors as arrays."""
    return {name: tensor.cpu().numpy().copy("C") for name, tensor in tensors.items()}
