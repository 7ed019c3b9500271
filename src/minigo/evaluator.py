"""Positions -> policy, value, score, ownership, as fast as the machine can; no search, no training.

Two back ends give the same answers: OpenVINO, the default on a CPU where it is installed, and
PyTorch on any device. Each makes programs for a few fixed batch sizes: OpenVINO is 5 to 25 % faster
so than with one program for any size, and CUDA graphs need it. A batch is cut or padded to fit.
"""

import functools
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ._board import Board
from .accelerate import Graph, merge
from .checkpoint import load_checkpoint, load_network
from .coords import check_size
from .machine import choose_device, is_bfloat16_fast, is_int8_fast
from .network import PolicyValueNet, fold, planes_of
from .openvino_backend import OpenVinoBackend

# Rows of a program, made at its first use in about 0.1 s; one more has `max_batch`.
BATCH_SIZES = {"cpu": (1, 4, 8, 16, 32, 48), "cuda": tuple(2**k for k in range(16))}
Arrays = Sequence[np.ndarray]
# Write positions there, call, and later call what it returned for the answers.
Program = tuple[np.ndarray, Callable[[], Callable[[], Arrays]]]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What the network says of B positions, for the player to move: float32 arrays."""

    logits: np.ndarray  # (B, A) policy, illegal moves included
    value: np.ndarray  # (B,) in [-1, 1]
    score: np.ndarray  # (B,) points
    ownership: np.ndarray | None = None  # (B, N, N), +1 = his point at the end; a search needs none


class Evaluator:
    """A network ready to evaluate positions of one board size; made by `make_evaluator`."""

    def __init__(self, backend: "OpenVinoBackend | TorchBackend", size: int, max_batch: int):
        self.backend, self.size = backend, size
        self.name = backend.name  # such as "OpenVINO f32"
        smaller = BATCH_SIZES.get(backend.device.type, BATCH_SIZES["cpu"])
        self.batch_sizes = (*(b for b in smaller if b < max_batch), max_batch)
        self._programs: dict[int, Program] = {}  # by batch size

    def load(self, net: PolicyValueNet) -> None:
        """Take the weights of `net` from now on."""
        if self.backend.load(fold(net)):
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


class TorchBackend:
    """A folded network in PyTorch: float16 on a GPU, bfloat16 or float32 on a CPU.

    float16, since its rounding moves a policy 70 times less than bfloat16's, and no activation of a
    shipped network comes near its end. `threads` holds for the whole process: PyTorch has only one
    such number.
    """

    def __init__(self, size: int, device: torch.device, threads: int):
        self.device, self.size = device, size
        names = {torch.float16: "f16", torch.bfloat16: "bf16", torch.float32: "f32"}
        self.dtype = torch.bfloat16 if is_bfloat16_fast(device) else torch.float32
        if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0):  # Volta
            self.dtype = torch.float16
        self.name = f"PyTorch {device} {names[self.dtype]}"
        self._net: PolicyValueNet | None = None
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = True  # tries its kernels, once for each batch size
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    @torch.inference_mode()
    def load(self, net: PolicyValueNet) -> bool:
        """Take the weights of a folded network; tell whether programs must be made anew."""
        net = merge(net) if self._stream else net
        with torch.cuda.stream(self._stream):  # after the batch that is under way
            if self._net is None or self._net.name != net.name:
                self._net = net.to(self.device, self.dtype, memory_format=torch.channels_last)
                return True
            for ours, theirs in zip(self._net.parameters(), net.parameters(), strict=True):
                ours.copy_(theirs)
            return False

    def make_program(self, batch_size: int) -> Program:
        """Return a buffer for positions, and what begins to evaluate them."""
        n, on_gpu = self.size, self._stream is not None
        buffer = torch.zeros((batch_size, n * n + 1), dtype=torch.int32, pin_memory=on_gpu)
        forward = Graph(self._forward) if on_gpu else self._forward

        @torch.inference_mode()
        def launch() -> Callable[[], Arrays]:
            with torch.cuda.stream(self._stream):
                packed = forward(buffer.to(self.device, non_blocking=True))
                packed = packed.to("cpu", non_blocking=True)  # into page-locked memory
                done = self._stream and self._stream.record_event()
            return functools.partial(finish, packed, done)

        def finish(packed: torch.Tensor, done: torch.cuda.Event | None) -> Arrays:
            if done:
                done.synchronize()
            parts = np.split(packed.float().numpy(), np.cumsum((n * n + 1, 1, 1)), 1)
            logits, value, score, ownership = parts
            return logits, value[:, 0], score[:, 0], ownership.reshape(-1, n, n)

        return buffer.numpy(), launch

    def _forward(self, positions: torch.Tensor) -> torch.Tensor:
        logits, value, score, ownership, _ = self._net(planes_of(positions, self.dtype))
        # One array: one transfer from the device.
        return torch.cat((logits, value[:, None], score[:, None], ownership.flatten(1)), 1)


def make_evaluator(
    net: PolicyValueNet,
    size: int,
    device: str = "auto",
    backend: str = "auto",
    max_batch: int = 64,
    threads: int = 1,
    exact: bool = False,
) -> Evaluator:
    """Make `net` ready for positions of `size`; larger batches than `max_batch` go in parts.

    device: "auto" (CUDA where there is one), "cpu", "cuda"; backend: "auto", "openvino", "torch";
    exact: never in int8.
    """
    check_size(size)
    if max_batch < 1 or threads < 1:
        raise ValueError(f"max_batch {max_batch} and threads {threads} must be at least 1")
    if backend not in ("auto", "openvino", "torch"):
        raise ValueError(f"back end {backend!r} is not one of auto, openvino, torch")
    chosen = choose_device(device)
    has_openvino = importlib.util.find_spec("openvino") is not None
    uses_openvino = chosen.type == "cpu" and has_openvino and backend != "torch"
    if backend == "openvino" and not uses_openvino:
        reason = "is for the CPU" if has_openvino else "is not installed"
        raise ValueError(f"back end openvino {reason} (device {chosen})")
    if uses_openvino:
        made = OpenVinoBackend(size, threads, is_int8=is_int8_fast() and not exact)
    else:
        made = TorchBackend(size, chosen, threads)
    evaluator = Evaluator(made, size, max_batch)
    evaluator.load(net)
    return evaluator


def load_evaluator(checkpoint: str | Path, size: int, **options) -> Evaluator:
    """Make the network of a checkpoint ready, by path or shipped name; see `make_evaluator`."""
    return make_evaluator(load_network(load_checkpoint(checkpoint)), size, **options)
