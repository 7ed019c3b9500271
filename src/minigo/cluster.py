"""What is done on the nodes of a Ray cluster, whatever it is: folders, tasks; without PyTorch."""

import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import ray

from . import __version__
from .checkpoint import find_checkpoint
from .crew import locked

CONNECT_S = 5.0  # for an address to answer
ROOM = "minigo-node-"  # how the names of nodes' folders begin


def connect(address: str) -> None:
    """Belong to a Ray cluster. Raises ValueError where none is: Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    try:
        if port.isdigit():
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
        ray.init(address, logging_level="error", log_to_driver=False)
    except (OSError, OverflowError, RuntimeError) as error:
        raise ValueError(f"no Ray cluster at {address}: {error}") from None


@contextmanager
def room(version: str) -> Iterator[Path]:
    """Have a folder on a node, if minigo is the same there; what the killed left is removed."""
    if version != __version__:
        raise ValueError(f"it has minigo {__version__}, not {version}")
    for lock in Path(tempfile.gettempdir()).glob(f"{ROOM}*/lock"):
        with suppress(OSError, ValueError), locked(lock.parent):
            shutil.rmtree(lock.parent)
    with tempfile.TemporaryDirectory(prefix=ROOM) as name, locked(Path(name)):
        yield Path(name)


class Tasks:
    """The cores of a cluster as a `crew.Crew`, for `work(version, networks, *item)`.

    networks: bytes by the names given here. What is lost with a node is done again.
    """

    def __init__(self, address: str, work: Callable, names: set[str]) -> None:
        networks = {name: name and find_checkpoint(name).read_bytes() for name in names}
        connect(address)
        self._work, self._networks = ray.remote(num_cpus=1, max_retries=-1)(work), ray.put(networks)
        self.busy: dict[ray.ObjectRef, tuple] = {}  # with the item

    def __enter__(self) -> "Tasks":
        return self

    def __exit__(self, *exception) -> None:
        ray.shutdown()

    @property
    def idle(self) -> int:
        """Count cores that have nothing to do; one may come yet where nothing is under way."""
        return max(not self.busy, int(ray.cluster_resources().get("CPU", 0)) - len(self.busy))

    def give(self, *item) -> None:
        """Have one of the `idle` work."""
        self.busy[self._work.remote(__version__, self._networks, *item)] = item

    def wait(self, timeout_s: float | None = None) -> list[tuple[tuple, object]]:
        """Return the items that are done, each with what `work` returned. Raises ValueError."""
        try:
            done = ray.wait([*self.busy], timeout=timeout_s)[0]
            return [(self.busy.pop(answer), ray.get(answer)) for answer in done]
        except ray.exceptions.RayError as error:
            raise ValueError(str(error).strip().splitlines()[-1]) from None
