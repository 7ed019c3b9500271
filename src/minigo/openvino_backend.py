"""A network in OpenVINO, on the CPU: in bfloat16 where the processor has it, or in int8.

In int8 go the tower's convolutions, scaled by what positions of random games make: weights get a
scale for each output channel; inputs, which follow a ReLU, one scale each, from 0 to the largest
number that was seen (Jacob et al. 2018). On a processor with VNNI but without bfloat16 it is up to
3 times as fast, for a policy within 0.001 nats of the exact one by Kullback and Leibler
(selfplay/LOG.md).
"""

import copy
import warnings
from collections.abc import Callable

import numpy as np
import torch

from ._board import NUM_PLANES, Board, unpack
from .network import PolicyValueNet

GAMES = 8  # of random moves, 8 positions each: how large the numbers become
MARGIN = 1.25  # room for what larger numbers real games may hold


class OpenVinoBackend:
    """A back end of `Evaluator`: one stream, on so many threads.

    The network is converted once, with its weights as inputs; a program has constants in their
    place: 0.1 s instead of 1 s at each `load`.
    """

    def __init__(self, size: int, threads: int, is_int8: bool):
        import openvino

        self.size, self.device, self._openvino = size, torch.device("cpu"), openvino
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
        self._calibration: np.ndarray | None = None  # planes
        if is_int8:
            positions = calibration_positions(size)
            self._calibration = np.empty((len(positions), NUM_PLANES, size, size), np.float32)
            unpack(positions, self._calibration)
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

    def make_program(self, batch_size: int) -> tuple[np.ndarray, Callable]:
        """Return a buffer for positions, and what evaluates them at once; see `Program`."""
        model = self._make_model(batch_size)
        if self._ranges:
            quantize(model, self._ranges)
        request = self._compile(model).create_infer_request()
        # Views once, since asking for them costs more than a small network's evaluation.
        outputs = [request.get_output_tensor(i).data for i in range(4)]
        planes = request.get_input_tensor().data
        buffer = np.zeros((batch_size, self.size * self.size + 1), np.int32)

        def launch() -> Callable[[], list[np.ndarray]]:
            unpack(buffer, planes)
            request.infer(share_outputs=True)
            return lambda: outputs

        return buffer, launch

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


def find_ranges(model, compile_model: Callable, planes: np.ndarray) -> list[np.float32]:
    """Return the largest input of each of the tower's convolutions, and some more.

    model: of OpenVINO, for as many rows as `planes` has; compile_model makes it callable.
    """
    import openvino

    inputs = [node.input_value(0) for node in tower_convolutions(model)]
    results = compile_model(openvino.Model(inputs, model.get_parameters(), "ranges"))(planes)
    most = np.array([results[i].max() for i in range(len(inputs))], np.float32)
    return list(MARGIN * most + np.float32(1e-6))


def quantize(model, ranges: list[np.float32]) -> None:
    """Make the tower's convolutions of a model multiply in int8, in place."""
    from openvino.opset13 import fake_quantize

    for node, most in zip(tower_convolutions(model), ranges, strict=True):
        inputs, weights = node.input_values()
        largest = abs(weights.get_node().data).max((1, 2, 3), keepdims=True)
        ends = (inputs, 0 * most, most, 256), (weights, -largest, largest, 255)
        for i, (value, low, high, levels) in enumerate(ends):
            rounded = fake_quantize(value, low, high, low, high, levels)
            node.input(i).replace_source_output(rounded.output(0))


def tower_convolutions(model) -> list:
    """Return a model's 3x3 convolutions, in order, without the first, which reads the planes."""
    nodes = [node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution"]
    return [node for node in nodes if node.input(1).get_shape()[2:] == [3, 3]][1:]


def calibration_positions(size: int) -> np.ndarray:
    """Return (B, A) positions from all stages of random games, always the same."""
    rng, rows = np.random.default_rng(0), []
    steps = np.linspace(1, size * size, 8).astype(int)
    for _ in range(GAMES):
        board = Board(size)
        while board.num_moves < steps[-1] and not board.is_over:
            board.play(int(rng.choice(np.flatnonzero(board.legal_moves()))))
            if board.num_moves in steps:
                rows.append(board.encode())
    return np.stack(rows)
