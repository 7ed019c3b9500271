"""Planes -> policy, value, score, ownership, as fast as the machine allows; no search, no training.

Two back ends give the same answers: OpenVINO, the default on a CPU where it is installed, and
PyTorch on any device. Each makes programs for a few fixed batch sizes: OpenVINO is 5 to 25 % faster
so than with one program for any size, and CUDA graphs need it. A batch is cut or padded to fit.
"""

import copy
import importlib.util
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ._board import NUM_PLANES, Board
from .checkpoint import load_checkpoint, load_network
from .coords import check_size
from .machine import choose_device, is_bfloat16_fast, is_int8_fast
from .network import PolicyValueNet, fold
from .quantize import calibration_planes, find_ranges, quantize

BATCH_SIZES = (1, 4, 8, 16, 32, 48)  # and `max_batch`; made at its first use, in about 0.1 s
Program = tuple[np.ndarray, Callable[[], Sequence[np.ndarray]]]  # write planes there, then call


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What the network says of B positions, for the player to move: float32 arrays."""

    logits: np.ndarray  # (B, A) policy, illegal moves included
    value: np.ndarray  # (B,) in [-1, 1]
    score: np.ndarray  # (B,) points
    ownership: np.ndarray  # (B, N, N), +1 = his point at the end


class Evaluator:
    """A network ready to evaluate positions of one board size; made by `make_evaluator`."""

    def __init__(self, backend: "OpenVinoBackend | TorchBackend", size: int, max_batch: int):
        self.backend, self.size = backend, size
        self.name = backend.name  # such as "OpenVINO f32"
        self.batch_sizes = (*(b for b in BATCH_SIZES if b < max_batch), max_batch)
        self._programs: dict[int, Program] = {}  # by batch size

    def load(self, net: PolicyValueNet) -> None:
        """Take the weights of `net` from now on."""
        if self.backend.load(fold(net)):
            self._programs.clear()

    def evaluate_boards(self, boards: Sequence[Board]) -> Evaluation:
        """Evaluate positions for their players to move, in no symmetry but their own."""
        planes = np.empty((len(boards), NUM_PLANES, self.size, self.size), np.float32)
        for row, board in zip(planes, boards, strict=True):
            board.write_planes(row)
        return self.evaluate(planes)

    def evaluate(self, planes: np.ndarray) -> Evaluation:
        """Evaluate (B, C, N, N) float32 planes; any B, the arrays returned are the caller's."""
        n = self.size
        if planes.shape[1:] != (NUM_PLANES, n, n) or planes.dtype != np.float32:
            raise ValueError(
                f"planes are {planes.dtype} {planes.shape}, not float32 (B, {NUM_PLANES}, {n}, {n})"
            )
        shapes = ((n * n + 1,), (), (), (n, n))
        outputs = [np.empty((len(planes), *shape), np.float32) for shape in shapes]
        for start in range(0, len(planes), self.batch_sizes[-1]):
            rows = planes[start : start + self.batch_sizes[-1]]
            buffer, run = self._program(len(rows))
            buffer[: len(rows)] = rows
            for output, result in zip(outputs, run(), strict=True):
                output[start : start + len(rows)] = result[: len(rows)]
        return Evaluation(*outputs)

    def _program(self, num_rows: int) -> Program:
        """Return that of the smallest batch size that holds so many rows."""
        batch_size = next(size for size in self.batch_sizes if size >= num_rows)
        if batch_size not in self._programs:
            self._programs[batch_size] = self.backend.make_program(batch_size)
        return self._programs[batch_size]


def legal_policy(logits: np.ndarray, legal: np.ndarray) -> np.ndarray:
    """Return (A,) float64 the probabilities of the moves, 0 where illegal."""
    logits = np.where(legal, logits.astype(np.float64), -np.inf)
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


class TorchBackend:
    """A folded network in PyTorch, in bfloat16 where the device is fast at it.

    On the CPU, `threads` holds for the whole process: PyTorch has only one such number.
    """

    def __init__(self, size: int, device: torch.device, threads: int):
        self.device, self.size = device, size
        self.dtype = torch.bfloat16 if is_bfloat16_fast(device) else torch.float32
        self.name = f"PyTorch {device.type} {'bf16' if self.dtype == torch.bfloat16 else 'f32'}"
        self._uses_graphs = device.type == "cuda"
        self._net: PolicyValueNet | None = None
        if device.type == "cpu":
            torch.set_num_threads(threads)

    def load(self, net: PolicyValueNet) -> bool:
        """Take the weights of a folded network; tell whether programs must be made anew."""
        if self._net is None or self._net.name != net.name:
            self._net = net.to(self.device, self.dtype, memory_format=torch.channels_last)
            return True
        for ours, theirs in zip(self._net.parameters(), net.parameters(), strict=True):
            ours.copy_(theirs)
        return False

    @torch.inference_mode()
    def make_program(self, batch_size: int) -> Program:
        """Return a buffer for planes and what returns logits, value, score, ownership of them."""
        n = self.size
        buffer = torch.zeros((batch_size, NUM_PLANES, n, n), pin_memory=self._uses_graphs)
        forward = self._capture(buffer) if self._uses_graphs else self._forward

        @torch.inference_mode()
        def run() -> tuple[np.ndarray, ...]:
            packed = forward(buffer).cpu().numpy()
            logits, value, score, ownership = np.split(packed, np.cumsum((n * n + 1, 1, 1)), 1)
            return logits, value[:, 0], score[:, 0], ownership.reshape(-1, n, n)

        return buffer.numpy(), run

    def _forward(self, planes: torch.Tensor) -> torch.Tensor:
        planes = planes.to(self.device).to(self.dtype, memory_format=torch.channels_last)
        logits, value, score, ownership, _ = self._net(planes)
        # One array: one transfer from the device.
        parts = (logits, value[:, None], score[:, None], ownership.flatten(1))
        return torch.cat(parts, 1).float()

    def _capture(self, buffer: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        """Record `_forward` as a CUDA graph, which does the same without a call for each kernel."""
        static = buffer.to(self.device)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # lets cuDNN choose its kernels before the capture
            for _ in range(3):
                self._forward(static)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = self._forward(static)

        def replay(planes: torch.Tensor) -> torch.Tensor:
            static.copy_(planes, non_blocking=True)
            graph.replay()
            return result

        return replay


class OpenVinoBackend:
    """A folded network in OpenVINO on the CPU: one stream, in bf16 where the processor has it.

    The network is converted once, with its weights as inputs; a program has constants in their
    place: 0.1 s instead of 1 s at each `load`.
    """

    def __init__(self, size: int, threads: int, is_int8: bool):
        import openvino

        self.size, self._openvino = size, openvino
        self._core = openvino.Core()
        has_bf16 = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.name = f"OpenVINO {'int8' if is_int8 else 'bf16' if has_bf16 else 'f32'}"
        options = {
            "INFERENCE_PRECISION_HINT": "bf16" if has_bf16 else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # who starts the process pins it
        }
        self._compile = lambda model: self._core.compile_model(model, "CPU", options)
        self._network, self._template = "", None  # the name of the converted network, its model
        self._weights: list[np.ndarray] = []
        self._calibration = calibration_planes(size) if is_int8 else None
        self._ranges: list[np.float32] = []  # of the inputs of the convolutions in int8

    def load(self, net: PolicyValueNet) -> bool:
        """Take the weights of a folded network; programs must be made anew: True."""
        self._weights = [weight.cpu().numpy() for weight in net.parameters()]
        if self._network != net.name:
            self._template, self._network = convert(net, self.size), net.name
        if self._calibration is not None:
            model = self._make_model(len(self._calibration))
            self._ranges = find_ranges(model, self._compile, self._calibration)
        return True

    def make_program(self, batch_size: int) -> Program:
        """Return a buffer for planes and what returns logits, value, score, ownership of them.

        The arrays are overwritten by the next call.
        """
        model = self._make_model(batch_size)
        if self._ranges:
            quantize(model, self._ranges)
        request = self._compile(model).create_infer_request()
        # Views once, since asking for them costs more than a small network's evaluation.
        outputs = [request.get_output_tensor(i).data for i in range(4)]
        buffer = request.get_input_tensor().data
        buffer[:] = 0

        def run() -> list[np.ndarray]:
            request.infer(share_outputs=True)
            return outputs

        return buffer, run

    def _make_model(self, batch_size: int):
        model = self._template.clone()
        planes, *weights = model.get_parameters()
        for parameter, weight in zip(weights, self._weights, strict=True):
            parameter.output(0).replace(self._openvino.op.Constant(weight).output(0))
            model.remove_parameter(parameter)
        model.reshape([batch_size, NUM_PLANES, self.size, self.size])
        return model


def convert(net: PolicyValueNet, size: int):
    """Turn a folded network into an OpenVINO model with its weights as further inputs.

    By the PyTorch front end itself: `openvino.convert_model` does the same in twice the time, and
    reports to its makers over the network unless told not to.
    """
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    shell = copy.deepcopy(net)
    slots = []
    for module in shell.modules():
        for name in [name for name, _ in module.named_parameters(recurse=False)]:
            delattr(module, name)
            slots.append((module, name))

    def forward(planes: torch.Tensor, *weights: torch.Tensor) -> tuple[torch.Tensor, ...]:
        for (module, name), weight in zip(slots, weights, strict=True):
            setattr(module, name, weight)
        return shell(planes)[:4]

    inputs = (torch.zeros(2, NUM_PLANES, size, size), *net.parameters())
    # Tracing is deprecated; `torch.export` takes ten times as long.
    with torch.no_grad(), warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        traced = torch.jit.trace(forward, inputs, check_trace=False)
    # Named, because the model that `load` returns only borrows it.
    decoder = TorchScriptPythonDecoder(traced, example_input=inputs)
    front_end = FrontEndManager().load_by_framework("pytorch")
    return front_end.convert(front_end.load(decoder))


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
