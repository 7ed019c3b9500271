"""Functions of tensors made faster: compiled, or as CUDA graphs; and networks, for a GPU."""

import os
import shutil
import warnings
from collections.abc import Callable

import torch
from torch import nn

from .machine import is_bfloat16_fast
from .network import PolicyValueNet

WARM_UP_CALLS = 3  # let cuDNN and the compiler choose their kernels before the capture


class Graph:
    """Calls a function of tensors, from the fourth call on as one CUDA graph.

    All calls have tensors of the same shapes and one stream, which isn't the default one. What a
    call returns is overwritten by the next; what the function changes besides must stay in place.
    """

    def __init__(self, function: Callable) -> None:
        self._function, self._num_calls = function, 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *tensors: torch.Tensor):
        self._num_calls += 1
        if self._num_calls <= WARM_UP_CALLS:
            return self._function(*tensors)
        if self._graph is None:
            self._inputs = [tensor.clone() for tensor in tensors]
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=torch.cuda.current_stream()):
                self._result = self._function(*self._inputs)
        for ours, theirs in zip(self._inputs, tensors, strict=True):
            ours.copy_(theirs, non_blocking=True)
        self._graph.replay()
        return self._result


def compiled(function: Callable, device: torch.device) -> Callable:
    """Compile a function of tensors, or warn that the machine lacks what it takes.

    On a CPU that is a C++ compiler; on a GPU Triton needs one for C (its runtime/build.py). A CPU
    without bfloat16 learns no faster by it, so that it is spared two minutes (selfplay/LOG.md).
    """
    if device.type == "cpu" and not is_bfloat16_fast(device):
        return function
    variable, usual = ("CXX", "g++") if device.type == "cpu" else ("CC", "gcc clang")
    compilers = os.environ.get(variable, usual).split()
    if any(map(shutil.which, compilers)):
        return torch.compile(function, dynamic=False, recompile_limit=40)  # 2 networks, 18 sizes
    missing = " or ".join(compilers)
    warnings.warn(f"no {missing} is installed: training isn't compiled", stacklevel=2)
    return function


def merge(net: PolicyValueNet) -> PolicyValueNet:
    """Make one convolution of those that read the same in each block of a folded network."""
    for block in net.blocks:
        if block.pooled:
            parts = block.first.conv, block.pooled.conv
            for name in ("weight", "bias"):
                joined = torch.cat([getattr(part, name) for part in parts])
                setattr(parts[0], name, nn.Parameter(joined, requires_grad=False))
            block.pooled = None
    return net
