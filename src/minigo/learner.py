"""A network that learns, with all that outlives a phase of training; in and out of a checkpoint.

Imitation and self-play are two ways to feed it.
"""

import itertools
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from ._board import NUM_PLANES
from .accelerate import Graph, compiled
from .architecture import Network, fit_sizes
from .checkpoint import Checkpoint, save_checkpoint
from .config import TrainConfig
from .distributed import average_ranks
from .machine import choose_device, is_bfloat16_fast, keep_big_buffers
from .network import PolicyValueNet, as_arrays, planes_of
from .symmetry import find_orbits, symmetrize
from .train import GRAD_CLIP, HEADS, AveragedWeights, Muon, learning_rate, losses
from .window import Batch

MAX_LOSS = 1000.0  # a hundred times what random weights have
CHECK_STEPS = 20  # between looks at the loss: on a GPU each one waits for all that is under way
_PARTS = ("net", "average", "optimizer")  # of a state on disk


class TrainingDiverged(ValueError):
    """The loss is not a number, or far too large; the weights are spoilt."""


@dataclass(frozen=True)
class TrainReport:
    """What was done since the last report."""

    losses: dict[str, float]  # mean of each head over where its target is known, and "total"
    num_samples: int
    elapsed_s: float
    wait_s: float  # of it, for batches

    @property
    def samples_per_s(self) -> float:
        return self.num_samples / self.elapsed_s


class Learner:
    """A network, the average of its weights, which plays, its optimiser, and the steps so far."""

    def __init__(self, net: PolicyValueNet, config: TrainConfig, device: str = "auto") -> None:
        self.config, self.step = config, 0
        self.device = torch.device(choose_device(device))
        # Before the copies are made: tensors that lie alike are added in one kernel.
        self.net = net.to(self.device, memory_format=torch.channels_last).train()
        self._orbits = find_orbits(net)
        weights = dict(net.named_parameters())
        self._tied = [(w, self._orbits[name]) for name, w in weights.items() if self._orbits]
        for weight, orbit in self._tied:  # random ones: one of eight, whose mean would be smaller
            weight.data.copy_(weight.flatten()[orbit.amin(0)].view(weight.shape))
        self.average = AveragedWeights(self.net)
        self.optimizer = Muon(self.net)
        self._forward = compiled(self._outputs, self.device) if config.compile else self._outputs
        shares = [1.0, *(getattr(config, f"{head}_weight") for head in HEADS[1:])]
        self._shares = torch.tensor(shares, device=self.device)
        self._sums = torch.zeros(2, len(HEADS), device=self.device)  # losses, known targets
        self._worst = torch.zeros((), device=self.device)  # loss
        self._spent = Counter()  # "num_samples", "elapsed_s" and "wait_s" since the last report
        self._stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        # By moves of the board; on a GPU a step is a CUDA graph.
        self._steps = defaultdict(lambda: Graph(self._learn) if self._stream else self._learn)
        if self._stream:
            torch.set_float32_matmul_precision("high")  # TF32

    def train(
        self,
        batches: Iterator[Batch],
        num_steps: int | None,
        progress: Callable[[], float],
        deadline: float = math.inf,
    ) -> None:
        """Take so many optimiser steps (None: any number), a batch each, until `deadline` at most.

        progress: returns how much of the whole run is done, for the learning rate; deadline: of
        time.monotonic(). A target that is unknown adds nothing to its head's loss. Raises
        TrainingDiverged, so that nobody saves what diverged.
        """
        keep_big_buffers()
        start_s = time.monotonic()
        if self._stream:  # positions and weights come on another one
            self._stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._stream):
            steps = itertools.count() if num_steps is None else range(num_steps)
            for _ in tqdm(steps, "train", leave=False, disable=None):
                asked_s = time.monotonic()
                batch = next(batches)
                self._spent["wait_s"] += time.monotonic() - asked_s
                self.step += 1
                self.optimizer.rate.fill_(learning_rate(progress(), self.step, self.config))
                self._steps[batch.positions.shape[1]](*batch)
                if self._stream is None or self.step % CHECK_STEPS == 0:
                    self._check_loss()
                self._spent["num_samples"] += len(batch.value)
                if time.monotonic() >= deadline:
                    break
            self._check_loss()
        for name, weight in self.net.state_dict().items():  # the last step's have no loss yet
            if not torch.isfinite(weight).all():
                raise TrainingDiverged(f"{name} is not finite at step {self.step}")
        average_ranks(x for part in _PARTS for x in getattr(self, part).state_dict().values())
        self._spent["elapsed_s"] += time.monotonic() - start_s

    def report(self) -> TrainReport:
        """Say what was done since the last report."""
        sums, spent = self._sums.cpu(), self._spent
        means = {head: loss / n for head, loss, n in zip(HEADS, *sums.tolist(), strict=True) if n}
        means["total"] = float(self._shares.cpu() @ sums[0]) / max(spent["num_samples"], 1)
        self._sums.zero_()
        self._spent = Counter()
        return TrainReport(means, *(spent[name] for name in ("num_samples", "elapsed_s", "wait_s")))

    def _outputs(self, positions: torch.Tensor) -> tuple[torch.Tensor, ...]:
        # The rank of who moves, if told, stands above the planes (`imitation.render_ranked`).
        return self.net.logits(planes_of(positions), positions[:, 0] >> NUM_PLANES)

    def _learn(self, *batch: torch.Tensor) -> None:
        is_fast = is_bfloat16_fast(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=is_fast, cache_enabled=False):
            outputs = self._forward(batch[0])
        loss, known = losses(outputs, Batch(*batch))  # (5, B)
        total = self._shares @ loss.mean(1)
        self.net.zero_grad()
        total.backward()
        for weight, orbit in self._tied:
            weight.grad = symmetrize(weight.grad, orbit)
        average_ranks(weight.grad for weight in self.net.parameters())
        nn.utils.clip_grad_norm_(self.net.parameters(), GRAD_CLIP)
        self.optimizer.step()
        self.average.update()
        self._sums += torch.stack((loss.detach().sum(1), known.sum(1)))
        self._worst.copy_(torch.maximum(self._worst, total.detach()))  # NaN stays NaN

    def _check_loss(self) -> None:
        if not float(self._worst) < MAX_LOSS:
            raise TrainingDiverged(f"loss is {float(self._worst):.3g} at step {self.step}")

    def network(self) -> Network:
        """Return the network that plays: with the averaged weights."""
        weights = self.average.weights
        alike = {name: symmetrize(weights[name], orbit) for name, orbit in self._orbits.items()}
        return Network(self.net.name, as_arrays(weights | alike))

    def save(self, path: Path, info: dict, state: dict | None = None) -> None:
        """Write the averaged network for play; with `state` also all that it takes to go on."""
        if state is not None:
            state = {"step": self.step} | state
            for part in _PARTS:
                arrays = as_arrays(getattr(self, part).state_dict())
                state |= {f"{part}.{name}": array for name, array in arrays.items()}
        save_checkpoint(path, self.network(), info, state, half=state is None)

    def load(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint of a network of this name that was written with a state.

        Raises ValueError where there is no state.
        """
        state = checkpoint.state or {}
        try:
            for part in _PARTS:
                tensors, prefix = getattr(self, part).state_dict(), f"{part}."
                arrays = {name: state[prefix + name] for name in tensors if prefix + name in state}
                if "sizes" in tensors:
                    arrays = fit_sizes(arrays, tensors["sizes"].tolist())
                for name, tensor in tensors.items():
                    tensor.copy_(torch.from_numpy(arrays[name]))
            self.step = state["step"]
        except (KeyError, RuntimeError, ValueError):  # an older one's
            raise ValueError(f"{checkpoint.path} is no state of a run of this minigo") from None
