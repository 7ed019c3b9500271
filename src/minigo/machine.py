"""The machine under a process: cores, devices, memory kept for the next step, whole files."""

import contextlib
import ctypes
import errno
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

EXTRAS = {"torch": ("PyTorch", "train"), "ray": ("Ray", "ray")}  # what comes with which extra


def format_error(error: Exception) -> str:
    """Say in one line what went wrong, and in which file."""
    if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
        return "this takes {}: pip install 'minigo[{}]'".format(*EXTRAS[error.name])
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def secure_streams() -> None:
    """Open the standard streams that are closed, on nothing, and outlive the terminal of others."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:  # the next file would get its number
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            setattr(sys, name, open(number, "w" if number else "r"))  # noqa: SIM115
        stream = getattr(sys, name)
        stream.reconfigure(errors="backslashreplace")  # any name of a file can be printed
        for method in ("write", "flush"):
            setattr(stream, method, partial(_outlive, number, getattr(stream, method)))


def _outlive(number: int, call: Callable, *text: str) -> int | None:
    """Write to a stream, and nowhere from when its terminal has gone, as it may under nohup."""
    try:
        return call(*text)
    except OSError as error:
        if error.errno != errno.EIO and number < 2:  # that nobody hears it, is no error
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        return call(*text)


def sort_by_number(paths: Iterable[Path]) -> list[Path]:
    """Sort files by the numbers in their names, then by name: cycle 10,000 comes after 9,999."""
    return sorted(paths, key=lambda path: ([*map(int, re.findall(r"\d+", path.name))], path.name))


def list_cores() -> list[int]:
    """Return the numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def pin_to_core(worker: int) -> None:
    """Keep this process on one core: two that move about slow each other down."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {list_cores()[worker % len(list_cores())]})


def keep_big_buffers() -> None:
    """Have glibc keep freed memory for the next step, instead of giving it back and asking again.

    It made training on a CPU 1.1 to 1.7 times as fast. Nothing happens where there is no mallopt.
    """
    if os.name == "posix" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        for option, num_bytes in ((-3, 1 << 30), (-1, 1 << 30), (-2, 1 << 28)):  # as in malloc.h
            mallopt(option, num_bytes)


def cache_folder() -> Path:
    """Return where the user's programs keep what they could make again; it may be missing."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "minigo")


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file whole or not at all, whatever ends the process; an OSError has its name."""
    temporary = path.with_name(f".{path.name[:50]}.{os.getpid()}.tmp")
    content = content.encode() if isinstance(content, str) else content
    try:
        if path.exists() and not path.is_file():  # a device, which nothing may take the place of
            path.write_bytes(content)
            return
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        if hasattr(os, "O_DIRECTORY"):  # elsewhere a folder can't be opened
            folder = os.open(path.parent, os.O_DIRECTORY)
            os.fsync(folder)  # its new name
            os.close(folder)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        with contextlib.suppress(OSError):  # of its folder, too: the error above has the name
            temporary.unlink()


def choose_device(device: str) -> str:
    """Turn "auto", "cpu", "cuda" or "cuda:1" into one that is there; auto is CUDA if there is one.

    PyTorch takes a second to import: without a GPU's driver nobody asks it.
    """
    has_torch = importlib.util.find_spec("torch") is not None
    if device == "cpu" or (device == "auto" and not (has_torch and _has_gpu_driver())):
        return "cpu"
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if int(device.partition(":")[2] or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {device!r}: PyTorch finds no CUDA or no such card here")
    return device


def _has_gpu_driver() -> bool:
    for name in ("libcuda.so.1", "nvcuda.dll", "libamdhip64.so"):
        with contextlib.suppress(OSError):
            return bool(ctypes.CDLL(name))
    return False


def is_bfloat16_fast(device: "torch.device") -> bool:
    """Tell whether `device` has instructions for bfloat16; emulated, it is slower than float32.

    Of a CPU by functions of PyTorch that are private: where one is missing, it is a no.
    """
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    names = ("amx_tile", "avx512_bf16") if device.type == "cpu" else ()
    return any(getattr(torch.cpu, f"_is_{name}_supported", bool)() for name in names)
