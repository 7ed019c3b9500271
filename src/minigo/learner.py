"""A network that learns, with all that outlives a phase of training; in and out of a checkpoint.

Imitation and self-play are two ways to feed it.
"""

from pathlib import Path

from .checkpoint import Checkpoint, save_checkpoint
from .config import TrainConfig
from .machine import choose_device
from .network import PolicyValueNet
from .replay import Replay
from .train import AveragedWeights, TrainReport, make_optimizer, train


class Learner:
    """A network, the average of its weights, which plays, its optimiser, and the steps so far."""

    def __init__(self, net: PolicyValueNet, config: TrainConfig, device: str = "auto") -> None:
        self.config, self.step = config, 0
        self.device = choose_device(device)
        self.net = net.to(self.device)
        self.average = AveragedWeights(self.net)
        self.optimizer = make_optimizer(self.net, config)

    def train(
        self,
        replay: Replay,
        num_steps: int,
        progress: tuple[float, float],
        deadline: float | None = None,
    ) -> TrainReport:
        """Take so many optimiser steps, or fewer if `deadline` passes first; see `train.train`."""
        parts = self.net, self.average, self.optimizer
        report = train(*parts, replay, self.config, num_steps, self.step, progress, deadline)
        self.step = report.step
        return report

    def network(self) -> PolicyValueNet:
        """Return the network that plays: a copy with the averaged weights, on the CPU."""
        net = PolicyValueNet(self.net.name)
        net.load_state_dict(self.average.weights())
        return net.eval()

    def save(self, path: Path, info: dict, state: dict | None = None) -> None:
        """Write the averaged network for play; with `state` also all that it takes to go on."""
        if state is not None:
            parts = {part: getattr(self, part).state_dict() for part in _PARTS}
            state = parts | {"step": self.step} | state
        weights = self.average.weights()
        options = {"network": self.net.name, "weights": weights, "info": info, "state": state}
        save_checkpoint(path, half=state is None, **options)

    def load(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint of a network of this name that was written with a state.

        The optimiser's settings stay those of `config`. Raises ValueError where there is no state.
        """
        state = checkpoint.state
        if state is None or not {*_PARTS, "step"} <= state.keys():  # older ones had no step here
            raise ValueError(f"{checkpoint.path} is no state of a run of this minigo")
        moments = self.optimizer.state_dict() | {"state": state["optimizer"]["state"]}
        for part in _PARTS:
            getattr(self, part).load_state_dict(moments if part == "optimizer" else state[part])
        self.step = state["step"]


_PARTS = ("net", "average", "optimizer")
