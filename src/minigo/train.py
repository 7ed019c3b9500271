"""One training phase: losses, schedule, averaged weights; used by imitation and self-play alike.

What outlives a phase (network, averaged weights, optimiser, step) is the caller's.
"""

import math
import os
import shutil
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from .config import TrainConfig
from .machine import is_bfloat16_fast, keep_big_buffers
from .network import PolicyValueNet
from .replay import Batch, Replay

HEADS = ("policy", "reply", "value", "score", "ownership")
LEARNING_RATE_END = 0.0008  # at the end of a run, after a cosine
WARMUP_STEPS = 100  # linear
MOMENTUM = 0.95
WEIGHT_DECAY = 0.01  # times the rate is what weights lose a step; AlphaGo Zero: 1e-4
EMA_DECAY = 0.995  # of the averaged weights that play, per step
GRAD_CLIP = 4.0  # largest norm of the gradient
HUBER_POINTS = 10.0  # the score's loss is quadratic up to so many points, then linear
MAX_LOSS = 1000.0  # a hundred times what random weights have
CHECK_STEPS = 20  # between looks at the loss: on a GPU each one waits for all that is under way
PREFETCH = 3  # batches made ahead of the learner


class TrainingDiverged(FloatingPointError, ValueError):
    """The loss is not a number, or far too large; the weights are spoilt."""


@dataclass(frozen=True)
class TrainReport:
    """What one phase did."""

    step: int  # optimiser steps so far, all phases together
    losses: dict[str, float]  # mean of each head over where its target is known, and "total"
    samples_per_s: float
    wait_share: float  # of the time in which the learner waited for batches


def learning_rate(progress: float, step: int, cfg: TrainConfig) -> float:
    """Return the rate of optimiser step `step` (from 1), with `progress` in [0, 1] of the run done.

    A linear warm-up over steps, times a cosine over progress (Loshchilov and Hutter 2017, eq. 5).
    """
    cosine = (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0))) / 2
    rate = LEARNING_RATE_END + (cfg.learning_rate - LEARNING_RATE_END) * cosine
    return rate * min(1.0, step / WARMUP_STEPS)


def make_optimizer(net: nn.Module, cfg: TrainConfig) -> "Muon":
    """Return the optimiser; weights decay, biases and batch norms don't."""
    groups = [
        {"params": [p for p in net.parameters() if (p.dim() > 1) == decays], "weight_decay": decay}
        for decays, decay in ((True, WEIGHT_DECAY), (False, 0.0))
    ]
    return Muon(groups, cfg.learning_rate)


class Muon(torch.optim.Optimizer):
    """Momentum whose steps have all singular values near 1 (Jordan et al. 2024).

    A weight is a matrix of its outputs and all that each one sees: a kernel (C, D, 3, 3) is
    (C, 9 D), which torch.optim.Muon doesn't take; a bias (C,) is (C, 1). The root mean square of a
    step is 0.2 times the rate, near AdamW's (Liu et al. 2025, arXiv 2502.16982, equation 4).
    https://kellerjordan.github.io/posts/muon
    """

    def __init__(self, groups: list[dict], rate: float):
        super().__init__(groups, {"lr": rate})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            weights = group["params"]
            grads = [weight.grad for weight in weights]
            for weight in weights:
                if not self.state[weight]:
                    self.state[weight]["mean"] = torch.zeros_like(weight)
            means = [self.state[weight]["mean"] for weight in weights]
            torch._foreach_lerp_(means, grads, 1 - MOMENTUM)
            nesterov = torch._foreach_lerp(grads, means, MOMENTUM)
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            for shape in {weight.shape for weight in weights}:  # one product for all that are alike
                alike = [i for i, weight in enumerate(weights) if weight.shape == shape]
                matrices = torch.stack([nesterov[i].reshape(shape[0], -1) for i in alike])
                scale = 0.2 * group["lr"] * math.sqrt(max(matrices.shape[1:]))
                for i, step in zip(alike, orthogonalize(matrices), strict=True):
                    weights[i].sub_(step.reshape(shape), alpha=scale)


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
    """The exponential moving average of a network's weights and batch norm statistics.

    Without the bias to the start that an average from zero or from random weights has (Kingma and
    Ba 2015, section 3): after t updates weights are in it as decay^(age), and sum to 1.
    """

    def __init__(self, net: nn.Module) -> None:
        self.num_updates = 0
        self._weights = {name: w.detach().clone() for name, w in net.state_dict().items()}

    def update(self, net: nn.Module) -> None:
        """Take in the network as it is after an optimiser step."""
        self.num_updates += 1
        share = (1 - EMA_DECAY) / (1 - EMA_DECAY**self.num_updates)  # 1 at the first update
        pairs = zip(self._weights.values(), net.state_dict().values(), strict=True)
        ours, theirs = zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True)
        torch._foreach_lerp_(ours, theirs, share)

    def weights(self) -> dict[str, torch.Tensor]:
        """Return a copy of the averaged weights, as a state_dict of the network."""
        return {name: weight.clone() for name, weight in self._weights.items()}

    def state_dict(self) -> dict:
        return {"num_updates": self.num_updates, "weights": self.weights()}

    def load_state_dict(self, state: dict) -> None:
        self.num_updates = state["num_updates"]
        for name, weight in self._weights.items():
            weight.copy_(state["weights"][name])


def losses(outputs: tuple[torch.Tensor, ...], batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss of each head (in the order of HEADS) and position, and its weight: (5, B).

    outputs: of `PolicyValueNet.logits`; batch: of tensors. Policy, reply: cross-entropy. Value and
    ownership: cross-entropy of the probability (1 + tanh) / 2 of winning, of owning the point
    (mean over points), as in KataGo; a draw's target is 1/2. Score: Huber, in points.
    """
    policy, value, score, ownership, reply = (output.float() for output in outputs)
    # (1 + tanh x) / 2 = sigmoid(2 x)
    won = F.binary_cross_entropy_with_logits(2 * value, (1 + batch.value) / 2, reduction="none")
    owner = (1 + batch.ownership) / 2
    owned = F.binary_cross_entropy_with_logits(2 * ownership, owner, reduction="none")
    points = F.huber_loss(score, batch.score, reduction="none", delta=HUBER_POINTS) / HUBER_POINTS
    moved = F.cross_entropy(policy, batch.policy, reduction="none")
    replied = F.cross_entropy(reply, batch.reply, reduction="none")
    known = (batch.reply_weight, batch.value_weight, batch.score_weight, batch.ownership_weight)
    return (
        torch.stack((moved, replied, won, points, owned.mean((1, 2)))),
        torch.stack((torch.ones_like(moved), *known)),
    )


def train(
    net: PolicyValueNet,
    average: AveragedWeights,
    optimizer: torch.optim.Optimizer,
    replay: Replay,
    cfg: TrainConfig,
    num_steps: int,
    step: int = 0,
    progress: tuple[float, float] = (0.0, 0.0),
    deadline: float | None = None,
) -> TrainReport:
    """Take `num_steps` optimiser steps after `step`, or fewer if `deadline` passes first.

    progress: how much of the whole run is done at the phase's start and end, for the learning
    rate; deadline: of time.monotonic(). A target that is unknown adds nothing to its head's loss.
    Raises TrainingDiverged, so that nobody saves what diverged.
    """
    keep_big_buffers()
    device = next(net.parameters()).device
    use_bfloat16 = is_bfloat16_fast(device)
    net.train().to(memory_format=torch.channels_last)
    forward = _compile(net.logits, device) if cfg.compile else net.logits
    shares = [1.0, *(getattr(cfg, f"{head}_weight") for head in HEADS[1:])]
    weights = torch.tensor(shares, device=device)
    sums = torch.zeros(2, len(HEADS), device=device)  # of losses and their weights, for the report
    worst = torch.zeros((), device=device)
    start_s, wait_s, first_step = time.monotonic(), 0.0, step
    with closing(_batches(replay, cfg.batch_size, num_steps, device)) as batches:
        for batch, waited_s in tqdm(batches, "train", num_steps, leave=False, disable=None):
            step, wait_s = step + 1, wait_s + waited_s
            done = progress[0] + (progress[1] - progress[0]) * (step - first_step) / num_steps
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(done, step, cfg)
            with torch.autocast(device.type, torch.bfloat16, enabled=use_bfloat16):
                outputs = forward(batch.planes)
            loss, known = losses(outputs, batch)  # (5, B)
            total = weights @ (loss * known).mean(1)
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            nn.utils.clip_grad_norm_(net.parameters(), GRAD_CLIP)
            optimizer.step()
            average.update(net)
            sums += torch.stack(((loss.detach() * known).sum(1), known.sum(1)))
            worst = torch.maximum(worst, total.detach())  # NaN stays NaN
            if device.type == "cpu" or step % CHECK_STEPS == 0:
                _check_loss(worst, step)
            if deadline is not None and time.monotonic() >= deadline:
                break
    _check_loss(worst, step)
    for (
        name,
        weight,
    ) in net.state_dict().items():  # the last step's have no loss yet
        if not torch.isfinite(weight).all():
            raise TrainingDiverged(f"{name} is not finite at step {step}")
    elapsed_s, num_samples = time.monotonic() - start_s, (step - first_step) * cfg.batch_size
    means = {head: loss / n for head, loss, n in zip(HEADS, *sums.tolist(), strict=True) if n}
    means["total"] = float(weights @ sums[0]) / max(num_samples, 1)
    return TrainReport(step, means, num_samples / elapsed_s, wait_s / elapsed_s)


def _compile(function: Callable, device: torch.device) -> Callable:
    """Compile a function of tensors, or warn that the machine lacks what it takes.

    On a CPU that is a C++ compiler; on a GPU Triton needs one for C (its runtime/build.py).
    """
    variable, usual = ("CXX", "g++") if device.type == "cpu" else ("CC", "gcc clang")
    compilers = os.environ.get(variable, usual).split()
    if any(map(shutil.which, compilers)):
        return torch.compile(function)
    missing = " or ".join(compilers)
    warnings.warn(f"no {missing} is installed: training isn't compiled", stacklevel=2)
    return function


def _check_loss(worst: torch.Tensor, step: int) -> None:
    if not float(worst) < MAX_LOSS:
        raise TrainingDiverged(f"loss is {float(worst):.3g} at step {step}")


def _batches(
    replay: Replay, batch_size: int, num_batches: int, device: torch.device
) -> Iterator[tuple[Batch, float]]:
    """Yield batches on `device`, and the seconds each was waited for; one thread makes them ahead.

    It alone draws from the replay's generator, in order: the batches depend on the seed only.
    """
    with ThreadPoolExecutor(1, "replay") as pool:
        queue = deque()
        try:
            for left in range(num_batches, 0, -1):
                start_s = time.monotonic()
                while len(queue) < min(PREFETCH, left):
                    queue.append(pool.submit(_make_batch, replay, batch_size, device))
                batch = queue.popleft().result()
                yield batch, time.monotonic() - start_s
        finally:
            for future in queue:
                future.cancel()


def _make_batch(replay: Replay, batch_size: int, device: torch.device) -> Batch:
    """Sample, as tensors on `device`."""
    planes, *targets = map(torch.from_numpy, vars(replay.sample(batch_size)).values())
    tensors = [planes.to(memory_format=torch.channels_last), *targets]
    if device.type == "cuda":
        tensors = [tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors]
    return Batch(*tensors)
