"""Positions -> policy, value, score, ownership, as fast as the machine can; no search, no training.

Two back ends give the same answers: OpenVINO, the default on a CPU where it is installed, and
PyTorch on any device. Each makes programs for a few fixed batch sizes: OpenVINO is 5 to 25 % faster
so than with one program for any size, and CUDA graphs need it. A batch is cut or padded to fit.
"""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ._board import Board
from .architecture import Network, fold
from .checkpoint import load_checkpoint, load_network
from .coords import check_size
from .machine import choose_device
from .openvino_backend import OpenVinoBackend

# Rows of a program, made at its first use in about 0.1 s; one more has `max_batch`.
BATCH_SIZES = {"cpu": (1, 4, 8, 16, 32, 48), "cuda": tuple(2**k for k in range(16))}
# Write positions there, call, and later call what it returned for the answers.
Program = tuple[np.ndarray, Callable[[], Callable[[], Sequence[np.ndarray]]]]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What the network says of B positions, for the player to move: float32 arrays."""

    logits: np.ndarray  # (B, A) policy, illegal moves included
    value: np.ndarray  # (B,) in [-1, 1]
    score: np.ndarray  # (B,) points
    ownership: np.ndarray | None = None  # (B, N, N), +1 = his point at the end; a search needs none


class Evaluator:
    """A network ready to evaluate positions of one board size; made by `make_evaluator`."""

    def __init__(self, backend: OpenVinoBackend, size: int, max_batch: int) -> None:
        self.backend, self.size = backend, size  # or a `TorchBackend`, which is used alike
        self.name = backend.name  # such as "OpenVINO f32"
        # 8 rows take four times as long as one, and a program as long as hundreds of them.
        smaller = BATCH_SIZES[backend.device.partition(":")[0]] if max_batch > 8 else ()
        self.batch_sizes = (*(b for b in smaller if b < max_batch), max_batch)
        self._programs: dict[int, Program] = {}  # by batch size

    def load(self, network: Network) -> None:
        """Take these weights from now on."""
        if self.backend.load(fold(network, self.size)):
            self._programs.clear()

    def evaluate_boards(self, boards: Sequence[Board]) -> Evaluation:
        """Evaluate positions for their players to move, in no symmetry but their own."""
        return self.evaluate(np.stack([board.encode() for board in boards]))

    def evaluate(self, positions: np.ndarray) -> Evaluation:
        """Evaluate (B, A) int32 positions of `Board.encode`; what is returned is the caller's."""
        most, parts = self.batch_sizes[-1], []
        for start in range(0, len(positions) or 1, most):
            found = self.begin(positions[start : start + most])()
            parts.append([array.copy() for array in vars(found).values()])
        return Evaluation(*map(np.concatenate, zip(*parts, strict=True)))

    def begin(self, positions: np.ndarray) -> Callable[[], Evaluation]:
        """Begin to evaluate at most `max_batch` positions; call what it returns for the answer.

        On a CPU it is there already. One batch at a time: the next `begin` may overwrite it.
        """
        num_rows, most, num_moves = len(positions), self.batch_sizes[-1], self.size * self.size + 1
        shape = min(num_rows, most), num_moves
        if positions.shape != shape or positions.dtype != np.int32:
            found = f"{positions.dtype} {positions.shape}"
            raise ValueError(f"positions are {found}, not int32 (up to {most}, {num_moves})")
        batch_size = next(size for size in self.batch_sizes if size >= num_rows)
        if batch_size not in self._programs:
            self._programs[batch_size] = self.backend.make_program(batch_size)
        buffer, launch = self._programs[batch_size]
        buffer[:num_rows] = positions
        answer = launch()
        return lambda: Evaluation(*(array[:num_rows] for array in answer()))


def legal_policy(logits: np.ndarray, legal: np.ndarray) -> np.ndarray:
    """Return (A,) float64 the probabilities of the moves, 0 where illegal."""
    logits = np.where(legal, logits.astype(np.float64), -np.inf)
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def make_evaluator(
    network: Network,
    size: int,
    device: str = "auto",
    backend: str = "auto",
    max_batch: int = 64,
    threads: int = 1,
    exact: bool = False,
) -> Evaluator:
    """Make a network ready for positions of `size`; larger batches than `max_batch` go in parts.

    device: "auto" (CUDA where there is one), "cpu", "cuda"; backend: "auto", or "torch" without
    OpenVINO; exact: never in int8.
    """
    check_size(size)
    if max_batch < 1 or threads < 1:
        raise ValueError(f"max_batch {max_batch} and threads {threads} must be at least 1")
    chosen = choose_device(device)
    if chosen == "cpu" and backend == "auto" and importlib.util.find_spec("openvino"):
        made = OpenVinoBackend(size, threads, exact)
    else:
        from .torch_backend import TorchBackend

        made = TorchBackend(size, chosen, threads)
    evaluator = Evaluator(made, size, max_batch)
    evaluator.load(network)
    return evaluator


def load_evaluator(checkpoint: str | Path, size: int, **options) -> Evaluator:
    """Make the network of a checkpoint ready, by path or shipped name; see `make_evaluator`."""
    return make_evaluator(load_network(load_checkpoint(checkpoint)), size, **options)
