"""A network in OpenVINO, on the CPU: in int8, on ARM in float32.

In int8 go the tower's convolutions, scaled by what positions of random games make: weights get a
scale for each output channel; inputs, which follow a ReLU, one scale each, from 0 to the largest
number that was seen (Jacob et al. 2018). With AVX2 alone it is up to 1.9 times as fast as float32,
with VNNI up to 3 times, with AMX up to twice as fast as bfloat16, for a policy within 0.001 nats of
the exact one by Kullback and Leibler (selfplay/LOG.md). The rest is in bfloat16 if there is.
"""

import platform
import sys
from collections.abc import Callable

import numpy as np

from ._board import NUM_PLANES, Board, unpack
from .architecture import HEAD_CHANNELS, HIDDEN, SCORE_SCALE, Network, affine_of, parse_network

# Its converter, which nobody here needs, reports each import to its makers over the network.
sys.modules.setdefault("openvino.tools.ovc", None)
POSITIONS = 8  # of a random game: how large the numbers become; more make no answer better
MARGIN = 1.25  # room for what larger numbers real games may hold


class OpenVinoBackend:
    """A back end of `Evaluator`: one stream, on so many threads; `exact`: never in int8."""

    device = "cpu"

    def __init__(self, size: int, threads: int, exact: bool) -> None:
        import openvino

        core = openvino.Core()
        has_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        # Only there it multiplies in int8 ("CPU Device" in OpenVINO's documentation).
        is_int8 = platform.machine() in ("x86_64", "AMD64") and not exact
        self.name = f"OpenVINO {'int8' if is_int8 else 'bf16' if has_bf16 else 'f32'}"
        options = {
            "INFERENCE_PRECISION_HINT": "bf16" if has_bf16 else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # who starts the process pins it
        }
        self._compile = lambda model: core.compile_model(model, "CPU", options)
        self.size, self._is_int8, self._model = size, is_int8, None

    def load(self, network: Network) -> bool:
        """Take the weights of a folded network; programs must be made anew: True."""
        self._model = make_model(network, self.size, POSITIONS)
        if self._is_int8:
            quantize(self._model, find_ranges(self._model, self._compile, self.size))
        return True

    def make_program(self, batch_size: int) -> tuple[np.ndarray, Callable]:
        """Return a buffer for positions, and what evaluates them at once; see `Program`."""
        model = self._model.clone()
        model.reshape([batch_size, NUM_PLANES, self.size, self.size])
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


def make_model(network: Network, size: int, batch_size: int):
    """Write a folded network as a model of OpenVINO's; a batch size of -1 is any.

    Planes (B, C, N, N) in; policy logits, value, score and ownership out, as `Evaluation` has them.
    `PolicyValueNet.forward` is the same in PyTorch, with the reply.
    """
    import openvino
    from openvino import opset13 as ops

    weights = dict(network.weights)
    for name, number in (("policies.weight", 1), ("totals.weight", 3), ("totals.bias", 3)):
        weights[name] = weights[name][:number]  # without the reply

    def convolve(x, name: str):
        kernel, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
        padding = [kernel.shape[-1] // 2] * 2
        x = ops.convolution(x, kernel, [1, 1], padding, padding, [1, 1])
        return x if bias is None else x + bias[:, None, None]

    def normalize(x, name: str):
        scale, shift = affine_of(weights, name)
        return ops.relu(x * scale + shift)

    def connect(x, name: str):
        return ops.matmul(x, weights[f"{name}.weight"], False, True) + weights[f"{name}.bias"]

    def pool(x):
        mean, most = ops.reduce_mean(x, [2, 3]), ops.reduce_max(x, [2, 3])
        return ops.concat([mean, ops.multiply(mean, np.float32((size - 14) / 10)), most], 1)

    planes = ops.parameter([batch_size, NUM_PLANES, size, size], np.float32, name="planes")
    x = convolve(planes, "stem")
    for block in (f"blocks.{i}" for i in range(parse_network(network.name)[0])):
        y = normalize(x, f"{block}.norm")
        z = convolve(y, f"{block}.first.conv")
        if f"{block}.bias.weight" in weights:
            pooled = pool(ops.relu(convolve(y, f"{block}.pooled.conv")))
            z = z + ops.unsqueeze(connect(pooled, f"{block}.bias"), [2, 3])
        x = x + convolve(ops.relu(z), f"{block}.second")
    heads, widths = convolve(normalize(x, "norm"), "heads.conv"), [HEAD_CHANNELS, 2 * HEAD_CHANNELS]
    policy, features = ops.variadic_split(heads, 1, widths).outputs()
    features = ops.relu(features)
    hidden = connect(pool(features), "pooled")
    bias, hidden = ops.variadic_split(hidden, 1, [HEAD_CHANNELS, HIDDEN]).outputs()
    totals = connect(ops.prelu(hidden, np.float32(0.01)), "totals")  # leaky_relu's slope
    value, score, passes = ops.split(totals, 1, 3).outputs()
    points = convolve(ops.relu(ops.add(policy, ops.unsqueeze(bias, [2, 3]))), "policies")
    owned = ops.slice(features, [HEAD_CHANNELS], [2 * HEAD_CHANNELS], [1], [1])
    points = ops.reshape(points, [-1, size * size], False)
    outputs = {
        "policy": ops.concat([points, passes], 1),
        "value": ops.tanh(ops.squeeze(value, [1])),
        "score": ops.multiply(ops.squeeze(score, [1]), np.float32(SCORE_SCALE)),
        "ownership": ops.tanh(ops.squeeze(convolve(owned, "ownership"), [1])),
    }
    for name, node in outputs.items():
        node.output(0).get_tensor().set_names({name})
    return openvino.Model(list(outputs.values()), [planes], network.name)


def find_ranges(model, compile_model: Callable, size: int) -> list[np.float32]:
    """Return the largest input of each of the tower's convolutions, and some more.

    model: of OpenVINO, for POSITIONS rows; compile_model makes it callable.
    """
    import openvino

    planes = np.empty((POSITIONS, NUM_PLANES, size, size), np.float32)
    unpack(calibration_positions(size), planes)
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
    """Return (POSITIONS, A) positions from all stages of a random game, always the same."""
    rng, board, rows = np.random.default_rng(0), Board(size), []
    for step in np.linspace(1, size * size, POSITIONS).astype(int):
        while board.num_moves < step:
            board.play(int(rng.choice(np.flatnonzero(board.legal_moves()))))
        rows.append(board.encode())
    return np.stack(rows)
