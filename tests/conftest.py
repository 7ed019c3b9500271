"""What several test files share: seeded randomness; GPU tests are skipped where there is none."""

import math
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import minigo
from minigo._board import NUM_PLANES, Board, unpack
from minigo._tree import Forest
from minigo.config import Rules
from minigo.coords import BLACK

# One thread for PyTorch, here and in the programs that tests start: tiny networks need no more,
# and several processes with a thread per core hold each other up.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["PYTHONPATH"] = str(Path(minigo.__file__).parents[1])  # wherever such a program runs
# Some tests send Ctrl-C, which a shell that starts pytest in the background has it ignore.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


@pytest.fixture(scope="session")
def network(tmp_path_factory) -> str:
    """Return the path of a tiny network, as if of 5x5."""
    return str(save_network(tmp_path_factory.mktemp("networks") / "tiny.safetensors", size=5))


@pytest.fixture
def one_thread():
    torch = pytest.importorskip("torch")
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def save_network(path: Path, name: str = "b1c8", **info) -> Path:
    """Save a network with random weights, the same each time, and return its path."""
    torch = pytest.importorskip("torch")
    from minigo.architecture import Network
    from minigo.checkpoint import save_checkpoint
    from minigo.network import PolicyValueNet, as_arrays

    torch.manual_seed(1)
    network = Network(name, as_arrays(PolicyValueNet(name).state_dict()))
    save_checkpoint(path, network, info)
    return path


def planes_of(positions: np.ndarray) -> np.ndarray:
    """Return the planes (B, C, N, N) of positions (B, A)."""
    size = math.isqrt(positions.shape[1])
    planes = np.empty((len(positions), NUM_PLANES, size, size), np.float32)
    unpack(positions, planes)
    return planes


def from_diagram(text: str, to_play: int = BLACK, rules: Rules | None = None) -> Board:
    """Set up a board: rows of `X` (Black), `O` (White) and `.`, as `str(board)` writes them."""
    marks = text.split()
    board = Board(math.isqrt(len(marks)), rules or Rules(), to_play)
    board.place(*([i for i, mark in enumerate(marks) if mark == color] for color in "XO"))
    return board


def side_by_side(text: str) -> list[str]:
    """Part diagrams that stand side by side, such as what is and what becomes of it."""
    rows = [row.strip().split("   ") for row in text.strip().splitlines()]
    return ["\n".join(column) for column in zip(*rows, strict=True)]


def check_forest(forest: Forest) -> None:
    """Assert that the visits, values and priors of every node are the sums that they should be."""
    fresh, waiting, expanded, terminal = range(4)  # NodeState in _tree.pxd
    for tree in range(len(forest.boards)):
        nodes, edges = forest.arrays(tree)
        visits, values, parents = nodes["visits"], nodes["value_sum"], nodes["parent"]
        assert (nodes["state"] != waiting).all() and (nodes["pending"] == 0).all()
        assert ((visits == 0) == (nodes["state"] == fresh)).all()
        below = [np.bincount(parents[1:], x[1:], len(nodes)) for x in (visits, values)]
        is_expanded = nodes["state"] == expanded
        assert (visits == 1 + below[0])[is_expanded].all()
        assert (abs(values - nodes["value"] + below[1]) < 1e-6 * visits)[is_expanded].all()
        for index in np.flatnonzero(is_expanded).tolist():
            first, num_edges = nodes[["first_edge", "num_edges"]][index]
            children = edges["child"][first : first + num_edges]
            children = children[children >= 0]
            assert (parents[children] == index).all() and (visits[children] > 0).all()
            assert abs(edges["prior"][first : first + num_edges].sum() - 1) < 1e-4


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu"):
        torch = pytest.importorskip("torch")  # only here: the tests of the rules run without it
        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


def kill_with_children(process: subprocess.Popen) -> None:
    """Kill a program that has started others, and assert that these end, too."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert children
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_until(lambda: not any(Path("/proc", child).exists() for child in children), 10)


def wait_until(is_so: Callable[[], bool], timeout_s: float = 90.0) -> None:
    """Wait for a condition: where it doesn't come, the traceback's line says which."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, is_so
        time.sleep(0.05)
