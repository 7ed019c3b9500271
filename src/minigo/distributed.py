"""What the ranks that torchrun starts do together; without it there is one, and nothing to do.

A rank is a device with its players and their games. Gradients, weights and few numbers cross.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from msgspec.structs import replace

from .checkpoint import SUFFIX
from .config import Recipe
from .machine import choose_device, list_cores, write_whole


def world() -> tuple[int, int]:
    """Return the number of this rank, from 0, and how many there are."""
    is_alone = not (dist.is_available() and dist.is_initialized())
    return (0, 1) if is_alone else (dist.get_rank(), dist.get_world_size())


@contextlib.contextmanager
def joined(recipe: Recipe) -> Iterator[tuple[Recipe, int]]:
    """Be a rank if torchrun started this, with its cores and card; yield its number, too."""
    if not (dist.is_available() and dist.is_torchelastic_launched()):
        yield recipe, 0
        return
    local, num_local = (int(os.environ[name]) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    if (cores := list_cores()[local::num_local]) and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    backend = "gloo"
    if choose_device(recipe.device) != "cpu":
        recipe, backend = replace(recipe, device=f"cuda:{local}"), "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(choose_device(recipe.device))
    dist.init_process_group(backend, timeout=timedelta(days=1))  # torchrun sees who is dead
    try:
        yield recipe, dist.get_rank()
    except RuntimeError as error:  # gloo's, NCCL's
        raise ValueError(f"rank {dist.get_rank()} lost another: {error}") from None
    finally:
        dist.destroy_process_group()


def gather(*numbers: float) -> np.ndarray:
    """Return the numbers that each rank has, a row each."""
    rows = [numbers] * world()[1]
    if len(rows) > 1:
        dist.all_gather_object(rows, numbers)
    return np.array(rows)


@torch.no_grad()
def average_ranks(tensors: Iterable[torch.Tensor]) -> None:
    """Make tensors of floats the means over the ranks, whose batch norms differ, in one message."""
    if (num_ranks := world()[1]) > 1:
        tensors = [tensor for tensor in tensors if tensor.is_floating_point()]
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        parts = (flat / num_ranks).split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


def copy_from_first(folder: Path, names: Iterable[str]) -> None:
    """Put files of rank 0's folder, which it names, in place of the other ranks' checkpoints."""
    rank, num_ranks = world()
    if num_ranks > 1:
        content = [None if rank else {name: (folder / name).read_bytes() for name in names}]
        dist.broadcast_object_list(content)
        if rank:
            for path in folder.glob(f"*{SUFFIX}"):
                path.unlink()
            for name, data in content[0].items():
                write_whole(folder / name, data)
