"""A network in PyTorch, for evaluation: on a GPU, or on a CPU without OpenVINO."""

import functools
from collections.abc import Callable

import numpy as np
import torch

from .accelerate import Graph, merge
from .architecture import Network
from .machine import is_bfloat16_fast
from .network import PolicyValueNet, as_module, planes_of


class TorchBackend:
    """A folded network in PyTorch: float16 on a GPU, bfloat16 or float32 on a CPU.

    float16, since its rounding moves a policy 70 times less than bfloat16's, and no activation of a
    shipped network comes near its end. `threads` are of the whole process, as PyTorch has them.
    """

    def __init__(self, size: int, device: str, threads: int) -> None:
        self.device, self.size = device, size
        on_gpu = device != "cpu"
        names = {torch.float16: "f16", torch.bfloat16: "bf16", torch.float32: "f32"}
        self.dtype = torch.bfloat16 if is_bfloat16_fast(torch.device(device)) else torch.float32
        if on_gpu and torch.cuda.get_device_capability(device) >= (7, 0):  # Volta
            self.dtype = torch.float16
        self.name = f"PyTorch {device} {names[self.dtype]}"
        self._net: PolicyValueNet | None = None
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = True  # tries its kernels, once for each batch size
        self._stream = torch.cuda.Stream(device) if on_gpu else None

    @torch.inference_mode()
    def load(self, network: Network) -> bool:
        """Take the weights of a folded network; tell whether programs must be made anew."""
        net = as_module(network)
        net = merge(net) if self._stream else net
        with torch.cuda.stream(self._stream):  # after the batch that is under way
            if self._net is None or self._net.name != net.name:
                self._net = net.to(self.device, self.dtype, memory_format=torch.channels_last)
                return True
            self._net.load_state_dict(net.state_dict())
            return False

    def make_program(self, batch_size: int) -> tuple[np.ndarray, Callable]:
        """Return a buffer for positions, and what begins to evaluate them; see `Program`."""
        n, on_gpu = self.size, self._stream is not None
        buffer = torch.zeros((batch_size, n * n + 1), dtype=torch.int32, pin_memory=on_gpu)
        forward = Graph(self._forward) if on_gpu else self._forward

        @torch.inference_mode()
        def launch() -> Callable[[], list[np.ndarray]]:
            with torch.cuda.stream(self._stream):
                packed = forward(buffer.to(self.device, non_blocking=True))
                packed = packed.to("cpu", non_blocking=True)  # into page-locked memory
                done = self._stream and self._stream.record_event()
            return functools.partial(finish, packed, done)

        def finish(packed: torch.Tensor, done: torch.cuda.Event | None) -> list[np.ndarray]:
            if done:
                done.synchronize()
            parts = np.split(packed.float().numpy(), np.cumsum((n * n + 1, 1, 1)), 1)
            logits, value, score, ownership = parts
            return [logits, value[:, 0], score[:, 0], ownership.reshape(-1, n, n)]

        return buffer.numpy(), launch

    def _forward(self, positions: torch.Tensor) -> torch.Tensor:
        logits, value, score, ownership, _ = self._net(planes_of(positions, self.dtype))
        # One array: one transfer from the device.
        return torch.cat((logits, value[:, None], score[:, None], ownership.flatten(1)), 1)
