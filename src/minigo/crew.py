"""Processes that work for this one, each on a core, gone when it is gone; the lock of a folder.

And Ctrl-C, which ends this one for certain.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path

from filelock import FileLock, Timeout

from .machine import format_error, keep_big_buffers, pin_to_core

STOP_S = 10.0  # from SIGTERM to SIGKILL
LOW_PRIORITY = 10  # niceness of who leaves nine tenths of a core to others who want it


class Crew:
    """Processes that call `work(*item)` for the items they are given, one at a time each.

    However this process ends, they end, too: SIGTERM unwinds them, so that files are closed and
    programs quit. Ctrl-C is for this process alone. `niceness`: how readily they make room;
    `first_core`: the number of that of the first one.
    """

    def __init__(self, work: Callable, size: int, niceness: int = 0, first_core: int = 0) -> None:
        context = get_context("spawn")  # a forked child would share this one's threads and CUDA
        self.idle: list[Connection] = []
        self._busy: dict[Connection, tuple] = {}  # with the item
        self._processes = []
        for core in range(first_core, first_core + size):
            pipe, end = context.Pipe()
            process = context.Process(target=_serve, args=(work, core, niceness, end), daemon=True)
            process.start()
            end.close()
            self.idle.append(pipe)
            self._processes.append(process)

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *exception) -> None:
        """End all, whatever they do."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join(STOP_S)
            process.kill()
        for pipe in (*self.idle, *self._busy):
            pipe.close()

    def give(self, *item) -> None:
        """Have one of the `idle` call `work(*item)`."""
        pipe = self.idle.pop(0)
        pipe.send(item)
        self._busy[pipe] = item

    def wait(self, timeout_s: float | None = None) -> list[tuple[tuple, object]]:
        """Return the items that are done by now, each with what `work` returned; wait for one.

        Raises ValueError, in one line, for what went wrong in one.
        """
        done = []
        for pipe in wait(list(self._busy), timeout_s):
            try:
                answer, error = pipe.recv()
            except (EOFError, ConnectionResetError):
                raise ValueError("a process died; its message, if any, is above") from None
            if error:
                raise ValueError(error)
            done.append((self._busy.pop(pipe), answer))
            self.idle.append(pipe)
        return done


def _serve(work: Callable, core: int, niceness: int, pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    threading.Thread(target=_follow_parent, daemon=True).start()
    pin_to_core(core)
    if hasattr(os, "nice"):  # not on Windows
        os.nice(niceness)
    keep_big_buffers()
    while True:
        item = pipe.recv()
        try:
            answer = work(*item), ""
        except (ValueError, OSError, ImportError) as error:
            answer = None, format_error(error)
        pipe.send(answer)


def _follow_parent() -> None:
    """End this process once the one that started it is dead."""
    parent_process().join()
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(STOP_S)
    os._exit(1)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run's folder; a second run in it is refused. The lock goes with the process."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder / "lock").acquire(timeout=0)
    except Timeout:
        raise ValueError(f"another run is at work in {folder}") from None
    with lock:
        yield


@contextlib.contextmanager
def remembered_interrupts() -> Iterator[list]:
    """Yield a list that fills with each Ctrl-C, besides the exception that it raises.

    Python drops the exception where the signal comes in a finaliser or in some library's callback,
    and the run would go on.
    """
    interrupts, handler = [], signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    with contextlib.ExitStack() as stack:
        if is_main and callable(handler):  # under nohup it is not: Ctrl-C is ignored there
            signal.signal(signal.SIGINT, lambda *args: interrupts.append(args) or handler(*args))
            stack.callback(signal.signal, signal.SIGINT, handler)
        yield interrupts
