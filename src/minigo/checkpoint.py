"""A network with how it was made, in and out of one file, whole or not at all; no training.

A checkpoint is a safetensors file: arrays, and a header in JSON. Reading a stranger's runs none of
his code, and takes no PyTorch. Its name ends in SUFFIX where minigo chooses it.
"""

import json
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ._board import PLANE_NAMES
from .architecture import Network, fold, parse_network
from .coords import MIN_SIZE
from .machine import write_whole
from .openvino_backend import make_model

SUFFIX = ".safetensors"
_FORMAT = "minigo checkpoint 2"
_STATE = "state."  # begins the names of the arrays that are part of the state
_FIELDS = {"network": str, "info": dict, "state": (dict, type(None))}
_PACKAGE = Path(__file__).parent
# Where shipped networks are: in an installed package, in a clone of the repository.
_FOLDERS = (_PACKAGE / "checkpoints", _PACKAGE.parent.parent / "checkpoints")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a checkpoint file holds."""

    path: Path
    network: str  # such as "b6c64"
    weights: dict[str, np.ndarray]  # float32, those to play with: averaged over training
    info: dict  # how it was made and how strong it was measured
    state: dict | None  # for going on with training; None where the file is for play only


def save_checkpoint(
    path: str | Path, network: Network, info: dict, state: dict | None = None, half: bool = False
) -> None:
    """Write a checkpoint; a process killed on the way leaves the old file as it was.

    info: what JSON can hold; state: that, or arrays, by name. `half` stores the weights as float16:
    half the size, and as strong. Raises OSError where the file can't be written.
    """
    arrays = _convert(network.weights, np.float16 if half else np.float32)
    values = state and {**state}
    for name in [name for name, value in (state or {}).items() if isinstance(value, np.ndarray)]:
        arrays[_STATE + name] = values.pop(name)
    header = {"format": _FORMAT, "planes": list(PLANE_NAMES), "network": network.name}
    text = json.dumps(header | {"info": info, "state": values})
    metadata = {"minigo": text, "crc32": _checksum(text, arrays)}
    write_whole(Path(path), save(arrays, metadata))


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint by path or shipped name.

    Raises ValueError with one line that names the file if it isn't whole or isn't a checkpoint.
    """
    path = find_checkpoint(path)
    header, arrays = _read(path)
    if header.get("format") != _FORMAT:
        found = header.get("format", "no format")
        raise ValueError(f"{path}: not a checkpoint that this minigo reads ({found!r})")
    for field, types in _FIELDS.items():
        if not isinstance(header.get(field), types):
            raise ValueError(f"{path}: damaged checkpoint: {field} is {header.get(field)!r:.40}")
    if header.get("planes") != list(PLANE_NAMES):
        raise ValueError(f"{path}: made by a minigo with other input planes; train it anew")
    state = header["state"]
    for name in [name for name in arrays if name.startswith(_STATE)]:
        state[name.removeprefix(_STATE)] = arrays.pop(name)
    return Checkpoint(path, header["network"], _convert(arrays, np.float32), header["info"], state)


def load_network(checkpoint: Checkpoint) -> Network:
    """Return a checkpoint's network, for play. Raises ValueError unless its weights are of one."""
    weights, network = checkpoint.weights, Network(checkpoint.network, checkpoint.weights)
    blocks = {name.split(".")[1] for name in weights if name.startswith("blocks.")}
    try:
        if (len(blocks), len(weights["stem.weight"])) != parse_network(network.name):
            raise ValueError
        with suppress(ImportError):  # where only PyTorch plays
            make_model(fold(network, MIN_SIZE), MIN_SIZE, 1)  # shapes have to fit
    except (LookupError, RuntimeError, TypeError, ValueError):
        raise ValueError(f"{checkpoint.path}: weights of no {network.name}") from None
    return network


def cycle_path(networks: Path, cycle: int) -> Path:
    """Return where the network is that a cycle of a run ended with; cycle 0: its first weights."""
    return networks / f"cycle-{cycle:04d}{SUFFIX}"


def newest_cycle(networks: Path, cycle: int) -> int:
    """Return the newest cycle with a network, gone to from `cycle`, which has one; -1: of all."""
    if cycle < 0:
        cycle = max((int(path.stem[6:]) for path in networks.glob(f"cycle-*{SUFFIX}")), default=0)
    while cycle_path(networks, cycle + 1).exists():
        cycle += 1
    return cycle


def find_checkpoint(name: str | Path) -> Path:
    """Return the file that `name` is the path of, else the shipped network of that name."""
    path = Path(name)
    if path.exists() and not path.is_dir():
        return path
    shipped = list_shipped()
    if str(name) in shipped:
        return shipped[str(name)]
    if path.is_dir():
        raise ValueError(f"{path}: a folder, not a checkpoint")
    names = ", ".join(shipped) or "none"
    raise ValueError(f"{name}: no such file, and no shipped network (there are: {names})")


def list_shipped() -> dict[str, Path]:
    """Return the files of the networks that ship with minigo, by name."""
    return {path.stem: path for folder in _FOLDERS for path in sorted(folder.glob(f"*{SUFFIX}"))}


def _read(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """Return the header and the arrays of a file, every byte of it checked."""
    try:
        with safe_open(path, "np") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata["crc32"] != _checksum(metadata["minigo"], arrays):
            raise ValueError
        return {**json.loads(metadata["minigo"])}, arrays
    except (SafetensorError, OSError, LookupError, ValueError, TypeError):
        old = " (an older minigo's .pt is no longer read)" if path.suffix == ".pt" else ""
        raise ValueError(f"{path}: not a checkpoint, or not a whole one{old}") from None


def _checksum(text: str, arrays: dict[str, np.ndarray]) -> str:
    crc = zlib.crc32(text.encode())
    for name in sorted(arrays):
        crc = zlib.crc32(arrays[name].tobytes(), zlib.crc32(name.encode(), crc))
    return f"{crc:08x}"


def _convert(weights: dict[str, np.ndarray], dtype: type) -> dict[str, np.ndarray]:
    """Return matrices as `dtype`; the rest is small, and too large for half."""
    is_small = lambda name, w: w.ndim < 2 or "norm.running_" in name  # noqa: E731
    return {name: w if is_small(name, w) else w.astype(dtype) for name, w in weights.items()}
