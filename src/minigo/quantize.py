"""int8 for OpenVINO: the tower's convolutions, scaled by what positions of random games make.

Weights get a scale for each output channel; inputs, which follow a ReLU, one scale each, from 0 to
the largest number that was seen (Jacob et al. 2018). On a processor with VNNI but without bfloat16
it is up to 3 times as fast, for a policy within 0.001 nats of the exact one by Kullback and Leibler
(selfplay/LOG.md).
"""

from collections.abc import Callable

import numpy as np

from ._board import Board

GAMES = 8  # of random moves, 8 positions each: how large the numbers become
MARGIN = 1.25  # room for what larger numbers real games may hold


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
