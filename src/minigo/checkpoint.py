"""A network with how it was made, in and out of one file, whole or not at all; no training.

A checkpoint is a PyTorch file of plain values, so that reading a stranger's runs none of his code.
"""

import io
import json
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch

from ._board import PLANE_NAMES
from .machine import write_whole
from .network import PolicyValueNet

_FORMAT = "minigo checkpoint 1"
_FIELDS = {"network": str, "weights": dict, "info": dict, "state": (dict, type(None))}
# What reading makes of a file that is none of PyTorch's.
_ERRORS = (zipfile.BadZipFile, pickle.PickleError, LookupError, RuntimeError, TypeError)
_ERRORS += (AttributeError, ValueError, OSError, EOFError)
_PACKAGE = Path(__file__).parent
# Where shipped networks are: in an installed package, in a clone of the repository.
_FOLDERS = (_PACKAGE / "checkpoints", _PACKAGE.parent.parent / "checkpoints")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a checkpoint file holds."""

    path: Path
    network: str  # such as "b6c64"
    weights: dict[str, torch.Tensor]  # float32, those to play with: averaged over training
    info: dict  # how it was made and how strong it was measured
    state: dict | None  # for going on with training; None where the file is for play only


def save_checkpoint(
    path: str | Path,
    *,
    network: str,
    weights: dict[str, torch.Tensor],
    info: dict,
    state: dict | None = None,
    half: bool = False,
) -> None:
    """Write a checkpoint; a process killed on the way leaves the old file as it was.

    info: what JSON can hold. `half` stores the weights as float16: half the size, and as strong.
    Raises OSError where the file can't be written.
    """
    path = Path(path)
    dtype = torch.float16 if half else torch.float32
    content = {
        "format": _FORMAT,
        "planes": list(PLANE_NAMES),
        "network": network,
        "weights": _convert(weights, dtype),
        "info": json.loads(json.dumps(info)),  # fails here, not when the file is read
        "state": state,
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)  # into a file it would turn a full disk into a RuntimeError
    write_whole(path, buffer.getbuffer())


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint by path or shipped name, onto the CPU.

    Raises ValueError with one line that names the file if it isn't whole or isn't a checkpoint.
    """
    path = find_checkpoint(path)
    content = _read(path)
    if content.get("format") != _FORMAT:
        found = content.get("format", "no format")
        raise ValueError(f"{path}: not a checkpoint that this minigo reads ({found!r})")
    for field, types in _FIELDS.items():
        if not isinstance(content.get(field), types):
            raise ValueError(f"{path}: damaged checkpoint: {field} is {content.get(field)!r:.40}")
    if content.get("planes") != list(PLANE_NAMES):
        raise ValueError(f"{path}: made by a minigo with other input planes; train it anew")
    weights = _convert(content["weights"], torch.float32)
    return Checkpoint(path, content["network"], weights, content["info"], content["state"])


def load_network(checkpoint: Checkpoint) -> PolicyValueNet:
    """Build a checkpoint's network with its weights, for play."""
    net = PolicyValueNet(checkpoint.network)
    try:
        net.load_state_dict(checkpoint.weights)
    except RuntimeError:
        raise ValueError(f"{checkpoint.path}: weights of no {checkpoint.network}") from None
    return net.eval()


def start_from(net: PolicyValueNet, source: str | Path) -> None:
    """Give `net` the weights of a checkpoint, by path or shipped name, of a network of its kind."""
    start = load_checkpoint(source)
    if start.network != net.name:
        raise ValueError(f"{start.path} is a {start.network}, not a {net.name}")
    net.load_state_dict(start.weights)


def cycle_path(networks: Path, cycle: int) -> Path:
    """Return where the network is that a cycle of a run ended with; cycle 0: its first weights."""
    return networks / f"cycle-{cycle:04d}.pt"


def newest_cycle(networks: Path, cycle: int) -> int:
    """Return the newest cycle that has a network: from `cycle` on, which has one; -1: of all."""
    if cycle < 0:
        cycle = max((int(path.stem[6:]) for path in networks.glob("cycle-*.pt")), default=0)
    while cycle_path(networks, cycle + 1).exists():
        cycle += 1
    return cycle


def find_checkpoint(name: str | Path) -> Path:
    """Return the file that `name` is the path of, else the shipped network of that name."""
    path = Path(name)
    if path.is_dir():
        raise ValueError(f"{path}: a folder, not a checkpoint")
    if path.exists():
        return path
    shipped = list_shipped()
    if str(name) in shipped:
        return shipped[str(name)]
    names = ", ".join(shipped) or "none"
    raise ValueError(f"{name}: no such file, and no shipped network (there are: {names})")


def list_shipped() -> dict[str, Path]:
    """Return the files of the networks that ship with minigo, by name."""
    return {path.stem: path for folder in _FOLDERS for path in sorted(folder.glob("*.pt"))}


def _read(path: Path) -> dict:
    """Return the dictionary in a file of `torch.save`, every byte of it checked."""
    try:
        # PyTorch wouldn't look at the checksums: a flipped bit would just play badly.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        content = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except _ERRORS:
        raise ValueError(f"{path}: not a checkpoint, or not a whole one") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: not a checkpoint, or not a whole one")
    return content


def _convert(weights: dict[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return copies on the CPU: matrices as `dtype`; the rest is small, and too large for half."""
    return {
        name: weight.detach().to("cpu", dtype if weight.dim() > 1 else None, copy=True)
        for name, weight in weights.items()
    }
