"""What a step of training is made of: losses, rate, optimiser, averaged weights."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from .config import TrainConfig
from .machine import is_bfloat16_fast
from .window import UNKNOWN, Batch

HEADS = ("policy", "reply", "value", "score", "ownership")
LEARNING_RATE_END = 0.0008  # at the end of a run, after a cosine
WARMUP_STEPS = 100  # linear
MOMENTUM = 0.95  # Jordan's
LARGE = 1 << 14  # numbers in a matrix; below, products in bfloat16 are slower than in float32
WEIGHT_DECAY = 0.01  # times the rate is what weights lose a step; AlphaGo Zero: 1e-4
EMA_STEPS = 200  # that the averaged weights, which play, remember in the mean, at most
EMA_POWER = 39  # eta: at first they remember a 40th of all, lest a young network lag (race)
GRAD_CLIP = 4.0  # largest norm of the gradient
HUBER_POINTS = 10.0  # the score's loss is quadratic up to so many points, then linear


def learning_rate(progress: float, step: int, cfg: TrainConfig) -> float:
    """Return the rate of optimiser step `step` (from 1), with `progress` in [0, 1] of the run done.

    A linear warm-up over steps, times a cosine over progress (Loshchilov and Hutter 2017, eq. 5).
    """
    cosine = (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0))) / 2
    rate = LEARNING_RATE_END + (cfg.learning_rate - LEARNING_RATE_END) * cosine
    return rate * min(1.0, step / WARMUP_STEPS)


class Muon:
    """Momentum whose steps have all singular values near 1 (Jordan et al. 2024).

    A weight is a matrix of its outputs and all that each one sees: a kernel (C, D, 3, 3) is
    (C, 9 D), which torch.optim.Muon doesn't take; a bias (C,) is (C, 1). The root mean square of a
    step is 0.2 times the rate, near AdamW's (Liu et al. 2025, arXiv 2502.16982, equation 4).
    Weights decay, biases and batch norms don't. https://kellerjordan.github.io/posts/muon
    """

    def __init__(self, net: nn.Module) -> None:
        groups: dict[torch.Size, list[nn.Parameter]] = {}
        for weight in net.parameters():
            groups.setdefault(weight.shape, []).append(weight)
        self._groups = list(groups.values())  # of one shape each, which are multiplied together
        shapes = [(len(group), len(group[0]), group[0][0].numel()) for group in self._groups]
        device = self._groups[0][0].device
        self.means = [torch.zeros(shape, device=device) for shape in shapes]  # (K, C, D) each
        # A tensor, so that one CUDA graph of a step serves every rate.
        self.rate = torch.zeros((), device=device)
        self._is_bfloat16_fast = is_bfloat16_fast(device)

    @torch.no_grad()
    def step(self) -> None:
        """Take a step of `rate`."""
        for weights, means in zip(self._groups, self.means, strict=True):
            grads = torch.stack([w.grad.reshape(len(w), -1) for w in weights])  # (K, C, D)
            means.lerp_(grads, 1 - MOMENTUM)
            nesterov = grads.lerp(means, MOMENTUM)
            if self._is_bfloat16_fast and means[0].numel() >= LARGE:
                nesterov = nesterov.bfloat16()
            length = 0.2 * max(means.shape[1:]) ** 0.5 * self.rate
            steps = orthogonalize(nesterov).float() * length
            if weights[0].dim() > 1:
                torch._foreach_mul_(weights, 1 - self.rate * WEIGHT_DECAY)
            torch._foreach_sub_(weights, [*steps.reshape(-1, *weights[0].shape)])

    def state_dict(self) -> dict:
        return {str(i): mean for i, mean in enumerate(self.means)}


def orthogonalize(matrices: torch.Tensor) -> torch.Tensor:
    """Return U V^T of the singular value decompositions U S V^T, within 0.3 of S = 1.

    matrices: (K, C, D). Five steps of a Newton-Schulz iteration, whose coefficients are Jordan's
    (2024); a vector needs none.
    """
    if matrices.shape[-2] > matrices.shape[-1]:
        return orthogonalize(matrices.mT).mT
    x = matrices / (matrices.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5 if matrices.shape[-2] > 1 else 0):
        a = x @ x.mT
        b = torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315)
        x = torch.baddbmm(x, b, x, beta=3.4445)
    return x


class AveragedWeights:
    """The moving average of a network's weights and batch norm statistics.

    By polynomial decay (Shamir and Zhang 2013, arXiv 1212.1824, section 4) until that remembers
    EMA_STEPS, then exponential. Of the weights that it began with nothing is left.
    """

    def __init__(self, net: nn.Module) -> None:
        self.weights = {name: w.detach().clone() for name, w in net.state_dict().items()}
        self.num_updates = torch.zeros((), device=next(net.parameters()).device)
        self._ours = [*filter(torch.is_floating_point, self.weights.values())]
        self._theirs = [*filter(torch.is_floating_point, net.state_dict().values())]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the network as it is after an optimiser step."""
        self.num_updates += 1
        share = (EMA_POWER + 1) / (EMA_POWER + self.num_updates)  # 1 at the first update
        share = share.clamp(min=1 / EMA_STEPS)
        torch._foreach_lerp_(self._ours, self._theirs, [share] * len(self._ours))

    def state_dict(self) -> dict:
        return {"num_updates": self.num_updates} | self.weights


def losses(outputs: tuple[torch.Tensor, ...], batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss of each head (in the order of HEADS) and position, and if it counts: (5, B).

    outputs: of `PolicyValueNet.logits`. Policy, reply: cross-entropy. Value and ownership: that of
    the probability (1 + tanh) / 2 of winning, of owning the point (mean over points), as in KataGo;
    a draw's target is 1/2. Score: Huber, in points. Where the target is unknown, both are 0.
    """
    policy, value, score, ownership, reply = (output.float() for output in outputs)
    is_owned = batch.ownership[:, 0] != UNKNOWN
    known = (batch.reply >= 0, ~batch.value.isnan(), ~batch.score.isnan(), is_owned)
    known = torch.stack((torch.ones_like(is_owned), *known)).float()
    # (1 + tanh x) / 2 = sigmoid(2 x)
    winner = (1 + batch.value.nan_to_num()) / 2
    won = F.binary_cross_entropy_with_logits(2 * value, winner, reduction="none")
    owner = (1 + batch.ownership * is_owned[:, None]) / 2
    owned = F.binary_cross_entropy_with_logits(2 * ownership.flatten(1), owner, reduction="none")
    points = F.huber_loss(score, batch.score.nan_to_num(), reduction="none", delta=HUBER_POINTS)
    moved = F.cross_entropy(policy, batch.policy, reduction="none")
    replied = F.cross_entropy(reply, batch.reply.clamp(min=0), reduction="none")
    return torch.stack((moved, replied, won, points / HUBER_POINTS, owned.mean(1))) * known, known
