"""Planes -> policy, value, score, ownership, as fast as the machine allows; no search, no training.

Two back ends give the same answers: OpenVINO, the default on a CPU where it is installed, and
PyTorch on any device. Both run a few fixed batch sizes only: OpenVINO is 5 to 25 % faster so
than with one program for any size, and CUDA graphs need it. A batch is cut or padded to fit.

A processor with VNNI but without bfloat16 gets its convolutions in int8: up to 3 times as fast, for
a policy within 0.001 nats of the exact one by Kullback and Leibler (selfplay/LOG.md).
"""

import copy
import functools
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

BATCH_SIZES = (1, 8, 32)  # and `max_batch`; a program is made at its first use, in about 0.1 s
CALL_ROWS = 2  # what a call costs beyond its rows, in rows (b4c32 on 9x9)
CALIBRATION_GAMES = 8  # of random moves, 8 positions each: how large int8's numbers become
CALIBRATION_MARGIN = 1.25  # room for what larger numbers real games may hold


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
        self.backend = backend
        self.name = backend.name  # such as "OpenVINO f32"
        self.size = size
        self.batch_sizes = (*(b for b in BATCH_SIZES if b < max_batch), max_batch)

    def load(self, net: PolicyValueNet) -> None:
        """Take the weights of `net` from now on."""
        self.backend.load(fold(net))

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
        start = 0
        for batch_size in plan_batches(len(planes), self.batch_sizes):
            rows = planes[start : start + batch_size]
            results = self.backend.run(rows, batch_size)
            for output, result in zip(outputs, results, strict=True):
                output[start : start + batch_size] = result[: len(rows)]
            start += batch_size
        return Evaluation(*outputs)


def legal_policy(logits: np.ndarray, legal: np.ndarray) -> np.ndarray:
    """Return (A,) float64 the probabilities of the moves, 0 where illegal."""
    logits = np.where(legal, logits.astype(np.float64), -np.inf)
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


@functools.lru_cache(maxsize=4096)
def plan_batches(count: int, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Choose from `sizes` the batches that hold `count` rows in the least time, largest first."""
    full, rest = divmod(count, sizes[-1])
    plans: list[tuple[int, ...]] = [()]  # the best one of 0, 1, 2, ... rows
    for rows in range(1, rest + 1):
        candidates = [(*plans[max(rows - size, 0)], size) for size in sizes]
        plans.append(min(candidates, key=lambda plan: sum(plan) + CALL_ROWS * len(plan)))
    return (sizes[-1],) * full + tuple(sorted(plans[-1], reverse=True))


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
        self._programs: dict[int, tuple[torch.Tensor, Callable[[], torch.Tensor]]] = {}
        if device.type == "cpu":
            torch.set_num_threads(threads)

    def load(self, net: PolicyValueNet) -> None:
        """Take the weights of a folded network; one of the same name keeps its CUDA graphs."""
        if self._net is None or self._net.name != net.name:
            self._programs.clear()
            self._net = net.to(self.device, self.dtype, memory_format=torch.channels_last)
            return
        for ours, theirs in zip(self._net.parameters(), net.parameters(), strict=True):
            ours.copy_(theirs)

    def run(self, planes: np.ndarray, batch_size: int) -> tuple[np.ndarray, ...]:
        """Return policy logits, value, score, ownership of `batch_size` rows, the first valid."""
        with torch.inference_mode():
            if batch_size not in self._programs:
                self._programs[batch_size] = self._make_program(batch_size)
            buffer, program = self._programs[batch_size]
            buffer[: len(planes)] = torch.from_numpy(planes)
            packed = program().numpy()
        points = self.size**2
        logits, value, score, ownership = np.split(packed, np.cumsum((points + 1, 1, 1)), 1)
        return logits, value[:, 0], score[:, 0], ownership.reshape(-1, self.size, self.size)

    def _forward(self, planes: torch.Tensor) -> torch.Tensor:
        planes = planes.to(self.dtype, memory_format=torch.channels_last)
        logits, value, score, ownership, _ = self._net(planes)
        # One array: one transfer from the device.
        parts = (logits, value[:, None], score[:, None], ownership.flatten(1))
        return torch.cat(parts, 1).float()

    def _make_program(self, batch_size: int) -> tuple[torch.Tensor, Callable[[], torch.Tensor]]:
        """Return a buffer to write planes into and what evaluates them: a CUDA graph on CUDA."""
        shape = (batch_size, NUM_PLANES, self.size, self.size)
        buffer = torch.zeros(shape, pin_memory=self._uses_graphs)
        if not self._uses_graphs:
            return buffer, lambda: self._forward(buffer.to(self.device)).cpu()
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

        def replay() -> torch.Tensor:
            static.copy_(buffer, non_blocking=True)
            graph.replay()
            return result.cpu()

        return buffer, replay


class OpenVinoBackend:
    """A folded network in OpenVINO on the CPU: one stream, in bf16 where the processor has it.

    The network is converted once, with its weights as inputs; `load` puts constants in their
    place and compiles: 0.1 s instead of 1 s. quantize: the tower's convolutions multiply in int8
    (Jacob et al. 2018): weights with a scale for each output channel, inputs, which follow a ReLU,
    with one scale each, from 0 to the largest number in `calibration_planes`.
    """

    def __init__(self, size: int, threads: int, quantize: bool):
        import openvino

        self.size, self._openvino = size, openvino
        self._core = openvino.Core()
        has_bf16 = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.name = f"OpenVINO {'int8' if quantize else 'bf16' if has_bf16 else 'f32'}"
        self._options = {
            "INFERENCE_PRECISION_HINT": "bf16" if has_bf16 else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # who starts the process pins it
        }
        self._network = ""  # what `_template` was made from
        self._template = None
        self._weights: list[np.ndarray] = []
        self._calibration = calibration_planes(size) if quantize else None
        self._ranges: list[np.float32] = []  # of the inputs of the tower's convolutions
        self._requests: dict[int, tuple] = {}  # batch size -> request, its input, its outputs

    def load(self, net: PolicyValueNet) -> None:
        """Take the weights of a folded network."""
        self._weights = [weight.cpu().numpy() for weight in net.parameters()]
        self._requests.clear()
        if self._network != net.name:
            self._template, self._network = convert(net, self.size), net.name
        if self._calibration is not None:
            self._ranges = self._find_ranges(self._calibration)

    def run(self, planes: np.ndarray, batch_size: int) -> tuple[np.ndarray, ...]:
        """Return policy logits, value, score, ownership of `batch_size` rows, the first valid.

        The arrays are overwritten by the next call.
        """
        if batch_size not in self._requests:
            self._requests[batch_size] = self._compile(batch_size)
        request, buffer, outputs = self._requests[batch_size]
        buffer[: len(planes)] = planes
        request.infer(share_outputs=True)
        return outputs

    def _make_model(self, batch_size: int):
        model = self._template.clone()
        planes, *weights = model.get_parameters()
        for parameter, weight in zip(weights, self._weights, strict=True):
            parameter.output(0).replace(self._openvino.op.Constant(weight).output(0))
            model.remove_parameter(parameter)
        model.reshape([batch_size, NUM_PLANES, self.size, self.size])
        return model

    def _find_ranges(self, planes: np.ndarray) -> list[np.float32]:
        """Return the largest input of each of the tower's convolutions, and some more."""
        model = self._make_model(len(planes))
        inputs = [node.input_value(0) for node in tower_convolutions(model)]
        model = self._openvino.Model(inputs, model.get_parameters(), "ranges")
        results = self._core.compile_model(model, "CPU", self._options)(planes)
        most = np.array([results[i].max() for i in range(len(inputs))], np.float32)
        return list(CALIBRATION_MARGIN * most + np.float32(1e-6))

    def _quantize(self, model) -> None:
        for node, most in zip(tower_convolutions(model), self._ranges, strict=True):
            inputs, weights = node.input_values()
            largest = abs(weights.get_node().data).max((1, 2, 3), keepdims=True)
            ends = (inputs, 0 * most, most, 256), (weights, -largest, largest, 255)
            for i, (value, low, high, levels) in enumerate(ends):
                rounded = self._openvino.opset13.fake_quantize(value, low, high, low, high, levels)
                node.input(i).replace_source_output(rounded.output(0))

    def _compile(self, batch_size: int) -> tuple:
        model = self._make_model(batch_size)
        if self._ranges:
            self._quantize(model)
        request = self._core.compile_model(model, "CPU", self._options).create_infer_request()
        # Views once, since asking for them costs more than a small network's evaluation.
        outputs = tuple(request.get_output_tensor(i).data for i in range(4))
        buffer = request.get_input_tensor().data
        buffer[:] = 0
        return request, buffer, outputs


def tower_convolutions(model) -> list:
    """Return a model's 3x3 convolutions, in order, without the first, which reads the planes."""
    nodes = [node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution"]
    return [node for node in nodes if node.input(1).get_shape()[2:] == [3, 3]][1:]


def calibration_planes(size: int) -> np.ndarray:
    """Return (B, C, N, N): planes of positions from all stages of random games, always the same."""
    rng, rows = np.random.default_rng(0), []
    steps = np.linspace(1, size * size, 8).astype(int)
    for _ in range(CALIBRATION_GAMES):
        board = Board(size)
        while board.num_moves < steps[-1] and not board.is_over:
            board.play(int(rng.choice(np.flatnonzero(board.legal_moves()))))
            if board.num_moves in steps:
                rows.append(np.empty((NUM_PLANES, size, size), np.float32))
                board.write_planes(rows[-1])
    return np.stack(rows)


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
    if backend == "openvino" and (chosen.type != "cpu" or not has_openvino):
        reason = "is for the CPU" if has_openvino else "is not installed"
        raise ValueError(f"back end openvino {reason} (device {chosen})")
    if chosen.type == "cpu" and has_openvino and backend != "torch":
        engine = OpenVinoBackend(size, threads, quantize=is_int8_fast() and not exact)
    else:
        engine = TorchBackend(size, chosen, threads)
    evaluator = Evaluator(engine, size, max_batch)
    evaluator.load(net)
    return evaluator


def load_evaluator(checkpoint: str | Path, size: int, **options) -> Evaluator:
    """Make the network of a checkpoint ready, by path or shipped name; see `make_evaluator`."""
    return make_evaluator(load_network(load_checkpoint(checkpoint)), size, **options)
