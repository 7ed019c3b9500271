"""`minigo bench`: speeds as numbers and as ratios within one run; changes nothing, judges nothing.

Keys name what was measured, the unit, the network, the size of the board and the batch (b32).
Times are wall-clock; a figure is the median of several repeats.
"""

import functools
import importlib.metadata
import json as json_module
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from ._board import NUM_PLANES, Board, random_playouts
from .config import Recipe, Rules, SearchConfig, SelfplayConfig, TrainConfig
from .evaluator import Evaluation, Evaluator, make_evaluator
from .network import PolicyValueNet
from .record import GameRecord
from .replay import Replay
from .search import Search
from .selfplay import SelfPlay, list_cores, pin_to_core
from .train import AveragedWeights, make_optimizer, train

REPEATS = 5
REPEAT_S = 0.15  # at least, for one repeat
BACKENDS = ("auto", "torch")
NETWORKS = ("b4c32", "b6c64", "b6c96", "b10c128")
TREES, SIMULATIONS = 128, 32  # of the tree benchmark
RECIPE = Recipe(
    network="b6c64",
    search=SearchConfig(root="gumbel", simulations=16),
    selfplay=SelfplayConfig(games_at_once=64),
)
SELFPLAY_S = 4.0  # each of bare network and self-play

Figures = Iterator[tuple[str, float]]


def run(sections: list[str], json: bool = False) -> None:
    """Measure the named sections, all if none is named, and print a table for each.

    With `json`, the last line is one flat object of all figures.
    """
    functions = {
        "board": bench_board,
        "tree": bench_tree,
        "net": bench_net,
        "selfplay": bench_selfplay,
        "train": bench_train,
    }
    figures: dict[str, str | float] = describe_machine()
    print("\n".join(f"{key:54}{value}" for key, value in figures.items()))
    for section in sections or functions:
        if section not in functions:
            raise ValueError(f"{section!r} is not one of {', '.join(functions)}")
        print(f"\n{section}")
        for key, value in functions[section]():
            figures[key] = float(f"{value:.4g}")
            print(f"  {key:52}{figures[key]:>12,.6g}", flush=True)
    if json:
        print(json_module.dumps(figures))


def describe_machine() -> dict[str, str]:
    """Say what the figures were measured on and with."""
    versions = []
    for package in ("minigo", "numpy", "torch", "openvino"):
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"no {package}")
    cpuinfo = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", cpuinfo.read_text() if cpuinfo.exists() else "")
    processor = models[0] if models else platform.processor() or platform.machine()
    return {
        "machine": f"{processor}, {len(list_cores())} cores, Python {platform.python_version()}",
        "versions": ", ".join(versions),
        "evaluator": make_evaluator(PolicyValueNet("b1c8"), 9).name,
    }


def measure(*works: Callable[[], object]) -> list[float]:
    """Return how often a second each of `works` can be done: medians, after a first time.

    They take turns, so that what else the machine does changes their ratios little.
    """
    rates = [[] for _ in works]
    for work in works:
        work()
    for _ in range(REPEATS):
        for work, results in zip(works, rates, strict=True):
            start_s, count = time.perf_counter(), 0
            while (elapsed_s := time.perf_counter() - start_s) < REPEAT_S or not count:
                work()
                count += 1
            results.append(count / elapsed_s)
    return [statistics.median(results) for results in rates]


def bench_board() -> Figures:
    """Random playouts to two passes, no own eye filled, positional superko; one core."""
    for size, count in ((9, 1000), (19, 200)):
        (rate,) = measure(functools.partial(random_playouts, size, count, 1))
        yield f"board_playouts_per_s_{size}x{size}", count * rate


class ConstantEvaluator:
    """Knows nothing in no time: what is left is the tree."""

    def __init__(self, size: int, max_batch: int):
        n = size
        shapes = ((max_batch, n * n + 1), (max_batch,), (max_batch,), (max_batch, n, n))
        self._arrays = [np.zeros(shape, np.float32) for shape in shapes]

    def evaluate(self, planes: np.ndarray) -> Evaluation:
        return Evaluation(*(array[: len(planes)] for array in self._arrays))


def bench_tree() -> Figures:
    """128 games in lockstep, 32 simulations a move: all but the network; one core."""
    for size in (9, 19):
        rng = np.random.default_rng(1)
        evaluator = ConstantEvaluator(size, TREES)
        search = Search(evaluator, SearchConfig(), [Board(size) for _ in range(TREES)], rng)
        (rate,) = measure(functools.partial(_move_all, search, rng))
        yield f"tree_simulations_per_s_{size}x{size}", TREES * SIMULATIONS * rate
        num_bytes, num_nodes = search.forest.memory_bytes()
        yield f"tree_bytes_per_node_{size}x{size}", num_bytes / max(num_nodes, 1)


def _move_all(search: Search, rng: np.random.Generator) -> None:
    search.run(SIMULATIONS)
    for tree, board in enumerate(search.boards):
        if board.is_over:
            search.reset(tree, Board(board.size))
        else:
            visits = search.forest.visits(tree)
            search.play(tree, int(rng.choice(np.flatnonzero(visits == visits.max()))))


def bench_net() -> Figures:
    """Evaluations per second, one thread: the default back end, PyTorch's, bare PyTorch."""
    for name in NETWORKS:
        yield from _bench_net(name, 9, (1, 8, 32, 128))
    for name in NETWORKS[2:]:
        yield from _bench_net(name, 19, (1, 32))


def _bench_net(name: str, size: int, batches: tuple[int, ...]) -> Figures:
    net = PolicyValueNet(name).eval()
    for batch in batches:
        planes = np.random.default_rng(1).random((batch, NUM_PLANES, size, size), np.float32)
        evaluators = [make_evaluator(net, size, backend=b, max_batch=batch) for b in BACKENDS]
        works = [functools.partial(evaluator.evaluate, planes) for evaluator in evaluators]
        with torch.no_grad():
            works.append(functools.partial(net, torch.from_numpy(planes)))
            default, folded, eager = (batch * rate for rate in measure(*works))
        key = f"{name}_{size}x{size}_b{batch}"
        yield f"net_evals_per_s_{key}", default
        yield f"net_torch_evals_per_s_{key}", folded
        yield f"net_eager_fp32_evals_per_s_{key}", eager
        yield f"net_speedup_over_eager_fp32_{key}", default / eager


class CountingEvaluator:
    """Counts the rows that another one evaluates, and the time it takes."""

    def __init__(self, evaluator: Evaluator):
        self.evaluator, self.num_rows, self.spent_s = evaluator, 0, 0.0

    def evaluate(self, planes: np.ndarray) -> Evaluation:
        start_s = time.perf_counter()
        evaluation = self.evaluator.evaluate(planes)
        self.spent_s += time.perf_counter() - start_s
        self.num_rows += len(planes)
        return evaluation


def bench_selfplay() -> Figures:
    """Simulations that reach the network, per second, in real self-play: b6c64, 16 a move.

    One process, then one for each core, against the bare network at the same batch in as many.
    """
    rates = {}
    for num_processes in sorted({1, len(list_cores())}):
        net, selfplay, share, moves = rates[num_processes] = _run_selfplay(num_processes)
    key = f"{RECIPE.network}_9x9"
    yield f"selfplay_processes_{key}", num_processes
    yield f"selfplay_simulations_per_s_{key}", selfplay
    yield f"selfplay_moves_per_s_{key}", moves
    yield f"selfplay_net_evals_per_s_{key}", net
    yield "selfplay_over_net", selfplay / net
    yield "selfplay_network_time_share", share / num_processes
    if num_processes == 2:
        yield "selfplay_two_over_one_process", selfplay / rates[1][1]


def _run_selfplay(num_processes: int) -> np.ndarray:
    """Return what all processes measured together: the sums of `_selfplay_worker`'s figures."""
    context = get_context("spawn")
    results, barrier = context.Queue(), context.Barrier(num_processes)
    processes = [
        context.Process(target=_selfplay_worker, args=(worker, barrier, results), daemon=True)
        for worker in range(num_processes)
    ]
    for process in processes:
        process.start()
    figures = [results.get(timeout=300) for _ in processes]
    for process in processes:
        process.join()
    return np.sum(figures, axis=0)


def _selfplay_worker(worker: int, barrier, results) -> None:
    """Send (bare evaluations/s, evaluations/s in self-play, network's share of time, moves/s)."""
    pin_to_core(worker)
    torch.manual_seed(1)
    num_games, size = RECIPE.selfplay.games_at_once, RECIPE.size
    evaluator = make_evaluator(PolicyValueNet(RECIPE.network), size, max_batch=num_games)
    planes = np.zeros((num_games, NUM_PLANES, size, size), np.float32)
    counter = CountingEvaluator(evaluator)
    selfplay = SelfPlay(counter, RECIPE, np.random.default_rng(worker))
    _repeat(barrier, lambda: evaluator.evaluate(planes), 0.5)
    num_batches, elapsed_s = _repeat(barrier, lambda: evaluator.evaluate(planes), SELFPLAY_S)
    net = num_batches * num_games / elapsed_s
    counter.num_rows, counter.spent_s = 0, 0.0
    num_steps, elapsed_s = _repeat(barrier, lambda: list(selfplay.step()), SELFPLAY_S)
    moves = num_steps * num_games / elapsed_s
    results.put((net, counter.num_rows / elapsed_s, counter.spent_s / elapsed_s, moves))


def _repeat(barrier, work: Callable[[], object], duration_s: float) -> tuple[int, float]:
    """Do `work` for so long, starting with the other processes; return how often, and seconds."""
    barrier.wait()
    start_s, count = time.perf_counter(), 0
    while (elapsed_s := time.perf_counter() - start_s) < duration_s:
        work()
        count += 1
    return count, elapsed_s


def bench_train() -> Figures:
    """Samples per second, all heads, batch 256, as many threads as cores."""
    replay = Replay(9, np.random.default_rng(1))
    replay.add(_random_games(100, 9))
    torch.set_num_threads(len(list_cores()))
    cfg, waits = TrainConfig(), []
    for name in NETWORKS[:3]:
        torch.manual_seed(1)
        net = PolicyValueNet(name)
        learner = (net, AveragedWeights(net, cfg.ema_decay), make_optimizer(net, cfg), replay, cfg)
        train(*learner, num_steps=1)
        reports = [train(*learner, num_steps=3, step=1 + 3 * i) for i in range(3)]
        yield f"train_samples_per_s_{name}_9x9", statistics.median(r.samples_per_s for r in reports)
        waits.append(statistics.median(report.wait_share for report in reports))
    yield "train_wait_share", max(waits)
    yield "train_threads", torch.get_num_threads()


def _random_games(count: int, size: int, num_moves: int = 60) -> Iterator[GameRecord]:
    rng = np.random.default_rng(1)
    for _ in range(count):
        board, moves = Board(size), []
        for _ in range(num_moves):
            moves.append(int(rng.choice(np.flatnonzero(board.legal_moves()))))
            board.play(moves[-1])
        score, owner = board.score(), board.area().ravel()
        yield GameRecord(
            size,
            Rules(),
            np.array(moves, np.int16),
            result=float(np.sign(score)),
            score=score,
            ownership=np.array([0, 1, -1], np.int8)[owner],
        )
