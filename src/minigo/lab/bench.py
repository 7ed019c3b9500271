"""`minigo bench`: speeds as numbers and as ratios within one run; changes nothing, judges nothing.

DESCRIPTION says what is measured and how the keys read. Times are wall-clock.
"""

import functools
import importlib.metadata
import importlib.util
import json as json_module
import platform
import queue
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from msgspec.structs import replace
from torch.utils.flop_counter import FlopCounterMode

from .._board import NUM_PLANES, Board
from .._rollouts import random_playouts
from ..config import Recipe, Rules, SearchConfig, SelfplayConfig, TrainConfig
from ..evaluator import Evaluation, make_evaluator
from ..machine import is_bfloat16_fast, list_cores, pin_to_core
from ..network import PolicyValueNet
from ..play.program import GtpProgram
from ..record import GameRecord
from ..replay import Replay
from ..search import Search
from ..selfplay import SelfPlay
from ..train import AveragedWeights, make_optimizer, train

DESCRIPTION = """\
Every figure is a median of several repeats, after a first one that doesn't count. What is compared
takes turns, so trust ratios more than numbers on a machine that does other things, too. All of it
takes under five minutes on two cores.

board     random playouts on one core: legal moves but one's own eyes, positional superko
tree      128 games in lockstep, 32 simulations a move, with an evaluator that takes no time
net       evaluations by the default back end, by PyTorch with folded batch norms ("torch") and by
          bare PyTorch ("eager_fp32"), one thread; two threads against one; the network's FLOP/s
          over those of a large matrix product in PyTorch. 19x19 at two batch sizes, for time's sake
selfplay  whole games, Gumbel root, 16 simulations, 64 games a process, a process pinned to each
          core, next to the bare network in as many processes. Games per hour are of games that
          go on to the last move that the recipe allows. The shares are of a process's time;
          waiting is when something else had its core
train     batches of 256, all heads, with a thread per core; one thread next to it
gtp       one search, 1 leaf and 8 leaves at a time (as `minigo gtp` has by default, and from 256
          visits on), and the seconds until `minigo gtp` gives its first answer and its first move

--json ends with one flat object: machine, versions, evaluator and settings as text, then numbers.
A key is what was measured, with its unit (_per_s, _per_hour, _s, _gflop_per_s, _bytes_per_node;
_over_, _share: a ratio without one), and then what with: the network, the board, b32 for a batch
of 32.

  board_playouts_per_s_9x9          tree_simulations_per_s_9x9      tree_bytes_per_node_9x9
  net_matmul_gflop_per_s_f32        net_matmul_gflop_per_s_bf16 (where the processor has it)
  net_evals_per_s_b6c96_9x9_b32     net_torch_evals_per_s_...       net_eager_fp32_evals_per_s_...
  net_speedup_over_eager_fp32_...   net_flops_over_matmul_...
  net_two_over_one_thread_b6c96_9x9_b32
  selfplay_simulations_per_s_b6c64_9x9 (all processes)              selfplay_moves_per_s_...
  selfplay_net_evals_per_s_...      selfplay_games_per_hour_...     selfplay_processes
  selfplay_over_net                 selfplay_two_over_one_process
  selfplay_net_two_over_one_process
  selfplay_network_share, selfplay_tree_share, selfplay_python_share, selfplay_waiting_share
  train_samples_per_s_b6c96_9x9     train_one_thread_samples_per_s_...
  train_compiled_samples_per_s_... (with --compile)
  train_wait_share                  train_threads
  gtp_simulations_per_s_9x9         gtp_one_leaf_simulations_per_s_...
  gtp_first_answer_s                gtp_first_move_s
"""
SIZES = (9, 19)
REPEATS, NET_REPEATS = 5, 3
REPEAT_S = 0.12  # at least, for one repeat
BACKENDS = ("auto", "torch")
NETWORKS = ("b4c32", "b6c64", "b6c96", "b10c128")
BATCHES = {9: (1, 8, 32, 128), 19: (1, 32)}
MATRIX = 1024  # width of the matrices whose product is a yardstick
TREES, SIMULATIONS = 128, 32  # of the tree benchmark
RECIPE = Recipe(
    network="b6c64",
    search=SearchConfig(root="gumbel", simulations=16),
    selfplay=SelfplayConfig(games_at_once=64),
)
SELFPLAY_NETWORKS = ("b6c64", "b6c96")
SELFPLAY_S = 1.0  # each repeat, of bare network and of self-play
TRAIN_STEPS = {"b4c32": 8, "b6c64": 4, "b6c96": 2}  # each repeat
TRAIN_REPEATS = 3
LEAVES, GTP_VISITS, GTP_REPEATS = 8, 256, 3

Row = tuple[str, dict[str, float]]  # what with ("9x9"), and figures by what was measured


def run(sections: list[str], json: bool = False, compile: bool = False) -> None:
    """Measure the named sections, all if none is named, and print a table for each.

    With `json`, the last line is one flat object of all figures; `compile`: see `bench_train`.
    """
    functions = {
        "board": bench_board,
        "tree": bench_tree,
        "net": bench_net,
        "selfplay": bench_selfplay,
        "train": functools.partial(bench_train, compile),
        "gtp": bench_gtp,
    }
    for section in sections:
        if section not in functions:
            raise ValueError(f"{section!r} is not one of {', '.join(functions)}")
    figures: dict[str, str | float] = describe_machine()
    print("\n".join(f"{key:12}{value}" for key, value in figures.items()))
    for section in sections or functions:
        print(f"\n{section}", flush=True)
        figures |= _print_rows(section, functions[section]())
    if json:
        print(json_module.dumps(figures))


def _print_rows(section: str, rows: Iterator[Row]) -> dict[str, float]:
    """Print rows as they come, a heading where their columns change; return the figures by key."""
    figures, columns = {}, ()
    for name, values in rows:
        values = {key: float(f"{value:.4g}") for key, value in values.items()}
        figures |= {f"{key}_{name}" if name else key: value for key, value in values.items()}
        if not name:
            print("\n".join(f"  {key:40}{value:>12,.6g}" for key, value in values.items()))
            continue
        titles = [_shorten(key.removeprefix(f"{section}_")) for key in values]
        if columns != (columns := tuple(values)):
            print(f"  {'':16}" + "".join(f"  {title}" for title in titles))
        cells = zip(values.values(), titles, strict=True)
        text = "".join(f"  {value:>{len(title)},.6g}" for value, title in cells)
        print(f"  {name:16}{text}", flush=True)
    return figures


def _shorten(key: str) -> str:
    return key.replace("_per_", "/").replace("_over_", "/").replace("simulations", "sims")


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
        "settings": f"medians of {NET_REPEATS} to {REPEATS} repeats; see `minigo bench --help`",
    }


def measure(*works: Callable[[], object], repeats: int = 0) -> list[float]:
    """Return how often a second each of `works` can be done: medians, after a first time.

    They take turns, so that what else the machine does changes their ratios little.
    """
    rates = [[] for _ in works]
    for work in works:
        work()
    for _ in range(repeats or REPEATS):
        for work, results in zip(works, rates, strict=True):
            start_s, count = time.perf_counter(), 0
            while (elapsed_s := time.perf_counter() - start_s) < REPEAT_S or not count:
                work()
                count += 1
            results.append(count / elapsed_s)
    return [statistics.median(results) for results in rates]


def bench_board() -> Iterator[Row]:
    for size, count in zip(SIZES, (1000, 200), strict=True):
        (rate,) = measure(functools.partial(random_playouts, Board(size), count, 1))
        yield f"{size}x{size}", {"board_playouts_per_s": count * rate}


class ConstantEvaluator:
    """Knows nothing in no time: what is left is the tree."""

    def __init__(self, size: int, max_batch: int):
        n = size
        shapes = ((max_batch, n * n + 1), (max_batch,), (max_batch,), (max_batch, n, n))
        self._arrays = [np.zeros(shape, np.float32) for shape in shapes]

    def evaluate(self, planes: np.ndarray) -> Evaluation:
        return Evaluation(*(array[: len(planes)] for array in self._arrays))


def bench_tree() -> Iterator[Row]:
    for size in SIZES:
        rng = np.random.default_rng(1)
        evaluator = ConstantEvaluator(size, TREES)
        search = Search(evaluator, SearchConfig(), [Board(size) for _ in range(TREES)], rng)
        (rate,) = measure(functools.partial(_move_all, search, rng))
        num_bytes, num_nodes = search.forest.memory_bytes()
        yield (
            f"{size}x{size}",
            {
                "tree_simulations_per_s": TREES * SIMULATIONS * rate,
                "tree_bytes_per_node": num_bytes / max(num_nodes, 1),
            },
        )


def _move_all(search: Search, rng: np.random.Generator) -> None:
    search.run(SIMULATIONS)
    for tree, board in enumerate(search.boards):
        if board.is_over:
            search.reset(tree, Board(board.size))
        else:
            visits = search.forest.moves(tree)["visits"]
            search.play(tree, int(rng.choice(np.flatnonzero(visits == visits.max()))))


def bench_net() -> Iterator[Row]:
    dtypes = {"f32": torch.float32, "bf16": torch.bfloat16}
    if not is_bfloat16_fast(torch.device("cpu")):
        del dtypes["bf16"]
    torch.set_num_threads(1)
    for name, dtype in dtypes.items():
        matrix = torch.ones(MATRIX, MATRIX, dtype=dtype)
        multiply = functools.partial(torch.matmul, matrix, matrix)  # the last one is the fastest
        (rate,) = measure(multiply)
        yield "", {f"net_matmul_gflop_per_s_{name}": rate * 2 * MATRIX**3 / 1e9}
    for size, batches in BATCHES.items():
        for name in NETWORKS:
            yield from _bench_network(name, size, batches, multiply)
    yield from _bench_threads("b6c96", 9, 32)


def _random_planes(batch: int, size: int) -> np.ndarray:
    return np.random.default_rng(1).random((batch, NUM_PLANES, size, size), np.float32)


def _bench_network(
    name: str, size: int, batches: tuple[int, ...], multiply: Callable[[], object]
) -> Iterator[Row]:
    net = PolicyValueNet(name).eval()
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, NUM_PLANES, size, size))
    for batch in batches:
        planes = _random_planes(batch, size)
        evaluators = [make_evaluator(net, size, "cpu", b, max_batch=batch) for b in BACKENDS]
        works = [functools.partial(evaluator.evaluate, planes) for evaluator in evaluators]
        with torch.no_grad():
            works.append(functools.partial(net, torch.from_numpy(planes)))
            *rates, matmul = measure(*works, multiply, repeats=NET_REPEATS)
        default, folded, eager = (batch * rate for rate in rates)
        flops = default * counter.get_total_flops()
        figures = {
            "net_evals_per_s": default,
            "net_torch_evals_per_s": folded,
            "net_eager_fp32_evals_per_s": eager,
            "net_speedup_over_eager_fp32": default / eager,
            "net_flops_over_matmul": flops / (matmul * 2 * MATRIX**3),
        }
        yield f"{name}_{size}x{size}_b{batch}", figures


def _bench_threads(name: str, size: int, batch: int) -> Iterator[Row]:
    """Two threads over one."""
    net, planes = PolicyValueNet(name), _random_planes(batch, size)
    rates = []
    for threads in (1, 2):
        evaluator = make_evaluator(net, size, "cpu", max_batch=batch, threads=threads)
        rates += measure(functools.partial(evaluator.evaluate, planes))
    yield f"{name}_{size}x{size}_b{batch}", {"net_two_over_one_thread": rates[1] / rates[0]}


class Timer:
    """Stands in for another object, and adds up the processor time that its methods take."""

    def __init__(self, target: object, *methods: str):
        self._target, self._methods = target, methods
        self.clear()

    def clear(self) -> None:
        self.spent_s, self.num_rows, self.num_calls = 0.0, 0, dict.fromkeys(self._methods, 0)

    def __getattr__(self, name: str):
        method = getattr(self._target, name)
        return functools.partial(self._call, name, method) if name in self._methods else method

    def _call(self, name: str, method: Callable, *arguments):
        start_s = time.process_time()
        result = method(*arguments)
        self.spent_s += time.process_time() - start_s
        self.num_calls[name] += 1
        if isinstance(result, Evaluation):
            self.num_rows += len(result.value)
        return result


def bench_selfplay() -> Iterator[Row]:
    num_cores = len(list_cores())
    for network in SELFPLAY_NETWORKS:
        recipe = replace(RECIPE, network=network)
        figures = _run_selfplay(recipe, num_cores)
        yield f"{network}_9x9", {k: v for k, v in figures.items() if "_per_" in k}
        if network != RECIPE.network:
            continue
        shares = {key: value for key, value in figures.items() if "_per_" not in key}
        if num_cores == 2:
            single = _run_selfplay(recipe, 1)
            for key, name in (
                ("selfplay_two_over_one_process", "selfplay_simulations_per_s"),
                ("selfplay_net_two_over_one_process", "selfplay_net_evals_per_s"),
            ):
                shares[key] = figures[name] / single[name]
        yield "", {"selfplay_processes": num_cores} | shares


def _run_selfplay(recipe: Recipe, num_processes: int) -> dict[str, float]:
    """Return figures of all processes together: sums of rates, means of shares."""
    context = get_context("spawn")
    results, barrier = context.Queue(), context.Barrier(num_processes)
    processes = [
        context.Process(
            target=_selfplay_worker,
            args=(worker, recipe, REPEATS, SELFPLAY_S, barrier, results),
            daemon=True,
        )
        for worker in range(num_processes)
    ]
    for process in processes:
        process.start()
    workers = []  # (repeats, figures) each
    while len(workers) < num_processes:
        try:
            workers.append(results.get(timeout=1))
        except queue.Empty:
            if any(process.exitcode for process in processes):
                raise ValueError("a self-play process died; its message is above") from None
    for process in processes:
        process.join()
    repeats = np.sum(workers, axis=0)
    net, selfplay, moves, network, tree, python = np.median(repeats, axis=0)
    longest_game = recipe.selfplay.max_moves_per_point * recipe.size**2
    shares = np.array([network, tree, python]) / num_processes
    return {
        "selfplay_simulations_per_s": selfplay,
        "selfplay_net_evals_per_s": net,
        "selfplay_moves_per_s": moves,
        "selfplay_games_per_hour": 3600 * moves / longest_game,
        "selfplay_over_net": float(np.median(repeats[:, 1] / repeats[:, 0])),
        "selfplay_network_share": shares[0],
        "selfplay_tree_share": shares[1],
        "selfplay_python_share": shares[2],
        "selfplay_waiting_share": max(0.0, 1 - shares.sum()),
    }


def _selfplay_worker(worker: int, recipe: Recipe, repeats: int, s: float, barrier, results) -> None:
    """Send, for each repeat: bare evaluations/s, evaluations/s and moves/s in self-play, and the
    shares of its time in the network, in the tree, in Python."""
    pin_to_core(worker)
    torch.manual_seed(1)
    num_games, size = recipe.selfplay.games_at_once, recipe.size
    evaluator = make_evaluator(PolicyValueNet(recipe.network), size, max_batch=num_games)
    planes = np.zeros((num_games, NUM_PLANES, size, size), np.float32)
    counter = Timer(evaluator, "evaluate")
    selfplay = SelfPlay(counter, recipe, np.random.default_rng(worker))
    forest = selfplay.search.forest = Timer(selfplay.search.forest, "select", "expand", "advance")
    figures = []
    for _ in range(repeats + 1):
        num_batches, elapsed_s = _repeat(barrier, lambda: evaluator.evaluate(planes), s)
        net = num_batches * num_games / elapsed_s
        counter.clear()
        forest.clear()
        start_s = time.process_time()
        _, elapsed_s = _repeat(barrier, lambda: list(selfplay.step()), s)
        python_s = time.process_time() - start_s - counter.spent_s - forest.spent_s
        sums = counter.num_rows, forest.num_calls["advance"], counter.spent_s, forest.spent_s
        figures.append([net, *(np.array([*sums, python_s]) / elapsed_s)])
    results.put(np.array(figures[1:]))


def _repeat(barrier, work: Callable[[], object], duration_s: float) -> tuple[int, float]:
    """Do `work` for so long, starting with the other processes; return how often, and seconds."""
    barrier.wait()
    start_s, count = time.perf_counter(), 0
    while (elapsed_s := time.perf_counter() - start_s) < duration_s:
        work()
        count += 1
    return count, elapsed_s


def bench_train(compile: bool = False) -> Iterator[Row]:
    replay = Replay([9], np.random.default_rng(1))
    replay.add(_random_games(100, 9))
    num_threads, cfg = len(list_cores()), TrainConfig()
    waits = []
    for name, steps in TRAIN_STEPS.items():
        variants = {"train": (cfg, num_threads), "train_one_thread": (cfg, 1)}
        if compile:
            variants["train_compiled"] = replace(cfg, compile=True), num_threads
        reports = _train_in_turn(name, replay, list(variants.values()), steps)
        rates = [statistics.median(r.samples_per_s for r in variant) for variant in reports]
        keys = [f"{key}_samples_per_s" for key in variants]
        yield f"{name}_9x9", dict(zip(keys, rates, strict=True))
        waits.append(statistics.median(report.wait_share for report in reports[0]))
    yield "", {"train_wait_share": max(waits), "train_threads": num_threads}


def _train_in_turn(name: str, replay: Replay, variants: list[tuple[TrainConfig, int]], steps: int):
    """Train a network for each of `variants`, settings and threads; return the reports of each."""
    learners, reports = [], [[] for _ in variants]
    for cfg, _ in variants:
        torch.manual_seed(1)
        net = PolicyValueNet(name)
        learners.append((net, AveragedWeights(net), make_optimizer(net, cfg)))
    for repeat in range(1 + TRAIN_REPEATS):
        for learner, (cfg, threads), results in zip(learners, variants, reports, strict=True):
            torch.set_num_threads(threads)
            report = train(*learner, replay, cfg, num_steps=steps if repeat else 1)
            results += [report] * bool(repeat)
    torch.set_num_threads(1)
    return reports


def bench_gtp() -> Iterator[Row]:
    for size in SIZES:
        rates = []
        for leaves in (LEAVES, 1):
            evaluator = make_evaluator(PolicyValueNet("b6c64"), size, max_batch=leaves)
            rng, config = np.random.default_rng(1), SearchConfig(leaves=leaves)
            search = Search(evaluator, config, [Board(size)], rng)
            rates += measure(functools.partial(_search_anew, search, GTP_VISITS))
        keys = "gtp_simulations_per_s", "gtp_one_leaf_simulations_per_s"
        yield f"b6c64_{size}x{size}", {k: GTP_VISITS * r for k, r in zip(keys, rates, strict=True)}
    times = [_time_gtp() for _ in range(GTP_REPEATS)]
    first_answer_s, first_move_s = (
        statistics.median(column) for column in zip(*times, strict=True)
    )
    yield "", {"gtp_first_answer_s": first_answer_s, "gtp_first_move_s": first_move_s}


def _search_anew(search: Search, simulations: int) -> None:
    search.reset(0, Board(search.boards[0].size))
    search.run(simulations)


def _time_gtp() -> tuple[float, float]:
    """Return the seconds until a new `minigo gtp` answers, and until it has chosen a move."""
    start_s = time.perf_counter()
    program = GtpProgram(f"{sys.executable} -m minigo gtp 9x9")
    first_answer_s = time.perf_counter() - start_s
    try:
        program.ask("genmove black")
        return first_answer_s, time.perf_counter() - start_s
    finally:
        program.close()


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
