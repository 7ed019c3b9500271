"""`minigo bench`: speeds as numbers and as ratios within one run; changes nothing, judges nothing.

docs/results.md says what each figure means. Times are wall-clock.
"""

import functools
import importlib.metadata
import json as json_module
import platform
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from msgspec.structs import replace
from torch.utils.flop_counter import FlopCounterMode

from .._board import NUM_PLANES, Board, random_playouts
from ..config import Recipe, SearchConfig, TrainConfig
from ..crew import Crew
from ..evaluator import Evaluation, make_evaluator
from ..learner import Learner
from ..machine import is_bfloat16_fast, list_cores
from ..network import PolicyValueNet
from ..play.program import GtpProgram
from ..replay import Replay
from ..search import Search
from ..selfplay import SelfPlay

DESCRIPTION = """\
Medians of several repeats, after a first one that doesn't count. What is compared takes turns, so
trust ratios more than numbers. All of it takes under five minutes on two cores.

board     random playouts on one core
tree      search with an evaluator that takes no time
net       evaluations by the default back end, by PyTorch and by eager PyTorch; matrix products
selfplay  whole games in a process on each core, next to the bare network in as many processes
train     batches of 128, all heads, with a thread per core; one thread next to it
gtp       one search, 8 leaves and 1 leaf at a time; how soon `minigo gtp` answers and moves

docs/results.md says under "Speed" what each key means, and what was reached.
"""
SIZES = (9, 19)
REPEATS, NET_REPEATS = 5, 3
REPEAT_S = 0.12  # at least, for one repeat
NETWORKS = ("b4c32", "b6c64", "b6c96", "b10c128")
BATCHES = {9: (1, 8, 32, 128), 19: (1, 32)}
MATRIX = 1024  # width of the matrices whose product is a yardstick
TREES, SIMULATIONS = 128, 32  # of the tree benchmark
RECIPE = Recipe(network="b6c64", search=SearchConfig(root="gumbel", simulations=16))
SELFPLAY_NETWORKS = ("b6c64", "b6c96")
SELFPLAY_S = 1.0  # each repeat, of bare network and of self-play
TRAIN_STEPS = {"b4c32": 8, "b6c64": 4, "b6c96": 2}  # each repeat
TRAIN_POSITIONS = 1000  # from self-play, to learn from
TRAIN_REPEATS = 3
GTP_VISITS, GTP_REPEATS = 256, 3

Figures = dict[str, float]  # by their keys: what was measured, the unit, and what with


def run(sections: list[str], json: bool = False, compile: bool = False) -> None:
    """Measure the named sections, all if none is named, and print each figure with its key.

    With `json`, the last line is one flat object of all of them; `compile`: see `bench_train`.
    """
    train = functools.partial(bench_train, compile)
    functions = {"board": bench_board, "tree": bench_tree, "net": bench_net}
    functions |= {"selfplay": bench_selfplay, "train": train, "gtp": bench_gtp}
    if unknown := [section for section in sections if section not in functions]:
        raise ValueError(f"{unknown[0]!r} is not one of {', '.join(functions)}")
    report: dict[str, str | float] = describe_machine()
    print("\n".join(f"{key:12}{value}" for key, value in report.items()))
    for section in sections or functions:
        print(f"\n{section}")
        for figures in functions[section]():
            for key, value in figures.items():
                report[key] = float(f"{value:.4g}")
                print(f"  {key:50}{report[key]:>12,.6g}", flush=True)
    if json:
        print(json_module.dumps(report))


def describe_machine() -> dict[str, str]:
    """Say what the figures were measured on and with."""
    versions = {package.name: package.version for package in importlib.metadata.distributions()}
    packages = ("minigo", "numpy", "torch", "openvino")
    cpuinfo = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", cpuinfo.read_text() if cpuinfo.exists() else "")
    processor = models[0] if models else platform.processor() or platform.machine()
    return {
        "machine": f"{processor}, {len(list_cores())} cores, Python {platform.python_version()}",
        "versions": ", ".join(f"{name} {versions.get(name, 'missing')}" for name in packages),
        "evaluator": make_evaluator(PolicyValueNet("b1c8"), 9).name,
        "settings": f"medians of {NET_REPEATS} to {REPEATS} repeats; see docs/results.md",
    }


def measure(*works: Callable[[], object], repeats: int = 0) -> list[float]:
    """Return how often a second each of `works` can be done: medians, after a first time.

    They take turns, so that what else the machine does changes their ratios little.
    """
    for work in works:
        work()
    rates = [[_repeat(work, REPEAT_S) for work in works] for _ in range(repeats or REPEATS)]
    return np.median(rates, axis=0).tolist()


def _repeat(work: Callable[[], object], duration_s: float) -> float:
    """Do `work` for so long, at least once; return how often a second."""
    start_s, count = time.perf_counter(), 0
    while (elapsed_s := time.perf_counter() - start_s) < duration_s or not count:
        work()
        count += 1
    return count / elapsed_s


def bench_board() -> Iterator[Figures]:
    for size, count in zip(SIZES, (1000, 200), strict=True):
        (rate,) = measure(functools.partial(random_playouts, Board(size), count, 1))
        yield {f"board_playouts_per_s_{size}x{size}": count * rate}


class ConstantEvaluator:
    """Knows nothing in no time: what is left is the tree."""

    def __init__(self, size: int, max_batch: int):
        shapes = ((size * size + 1,), (), (), (size, size))
        self._arrays = [np.zeros((max_batch, *shape), np.float32) for shape in shapes]

    def evaluate(self, planes: np.ndarray) -> Evaluation:
        return Evaluation(*(array[: len(planes)] for array in self._arrays))


def bench_tree() -> Iterator[Figures]:
    for size in SIZES:
        rng, boards = np.random.default_rng(1), [Board(size)] * TREES
        search = Search(ConstantEvaluator(size, TREES), SearchConfig(), boards, rng)
        (rate,) = measure(functools.partial(_move_all, search))
        num_bytes, num_nodes = search.forest.memory_bytes()
        yield {
            f"tree_simulations_per_s_{size}x{size}": TREES * SIMULATIONS * rate,
            f"tree_bytes_per_node_{size}x{size}": num_bytes / max(num_nodes, 1),
        }


def _move_all(search: Search) -> None:
    search.run(SIMULATIONS)
    for tree, board in enumerate(search.boards):
        if board.is_over:
            search.reset(tree, Board(board.size))
        else:
            visits = search.forest.moves(tree)["visits"]
            search.play(tree, int(search.rng.choice(np.flatnonzero(visits == visits.max()))))


def bench_net() -> Iterator[Figures]:
    torch.set_num_threads(1)
    dtypes = {"f32": torch.float32, "bf16": torch.bfloat16}
    for name in dtypes if is_bfloat16_fast(torch.device("cpu")) else ("f32",):
        matrix = torch.ones(MATRIX, MATRIX, dtype=dtypes[name])
        multiply = functools.partial(torch.matmul, matrix, matrix)  # the last one is the fastest
        (rate,) = measure(multiply)
        yield {f"net_matmul_gflop_per_s_{name}": rate * 2 * MATRIX**3 / 1e9}
    for size, batches in BATCHES.items():
        for name in NETWORKS:
            for batch in batches:
                found = _bench_network(name, size, batch, multiply)
                yield {f"net_{k}_{name}_{size}x{size}_b{batch}": v for k, v in found.items()}
    net, planes, rates = PolicyValueNet("b6c96"), _random_planes(32, 9), []
    for threads in (1, 2):
        evaluator = make_evaluator(net, 9, "cpu", max_batch=32, threads=threads)
        rates += measure(functools.partial(evaluator.evaluate, planes))
    yield {"net_two_over_one_thread_b6c96_9x9_b32": rates[1] / rates[0]}


def _random_planes(batch: int, size: int) -> np.ndarray:
    return np.random.default_rng(1).random((batch, NUM_PLANES, size, size), np.float32)


def _bench_network(name: str, size: int, batch: int, multiply: Callable[[], object]) -> Figures:
    """Compare the back ends and bare PyTorch with one another and with a matrix product."""
    net, planes = PolicyValueNet(name).eval(), _random_planes(batch, size)
    with FlopCounterMode(display=False) as counter:
        net(torch.from_numpy(planes))
    evaluators = [make_evaluator(net, size, "cpu", b, max_batch=batch) for b in ("auto", "torch")]
    works = [functools.partial(evaluator.evaluate, planes) for evaluator in evaluators]
    works += functools.partial(net, torch.from_numpy(planes)), multiply
    with torch.no_grad():
        default, folded, eager, matmul = measure(*works, repeats=NET_REPEATS)
    return {
        "evals_per_s": batch * default,
        "torch_evals_per_s": batch * folded,
        "eager_fp32_evals_per_s": batch * eager,
        "speedup_over_eager_fp32": default / eager,
        "flops_over_matmul": default * counter.get_total_flops() / (matmul * 2 * MATRIX**3),
    }


def bench_selfplay() -> Iterator[Figures]:
    num_cores = len(list_cores())
    for network in SELFPLAY_NETWORKS:
        recipe = replace(RECIPE, network=network)
        speeds, shares = _run_selfplay(recipe, num_cores)
        yield {f"selfplay_{key}_{network}_9x9": speed for key, speed in speeds.items()}
        if network != RECIPE.network:
            continue
        if num_cores == 2:
            single, _ = _run_selfplay(recipe, 1)
            for part, key in (("", "simulations_per_s"), ("net_", "net_evals_per_s")):
                shares[f"{part}two_over_one_process"] = speeds[key] / single[key]
        yield {f"selfplay_{key}": share for key, share in shares.items()}


def _run_selfplay(recipe: Recipe, num_processes: int) -> tuple[Figures, Figures]:
    """Return the speeds of all processes together, and the mean shares of a process's time."""
    rounds = []
    with Crew(_selfplay_round, num_processes) as crew:
        for _ in range(1 + REPEATS):
            for _ in range(num_processes):
                crew.give(recipe, SELFPLAY_S)
            while len(crew.idle) < num_processes:
                rounds += [answer for _, answer in crew.wait()]
    sums = np.array(rounds).reshape(1 + REPEATS, num_processes, -1).sum(1)[1:]
    net, simulations, moves, *parts = np.median(sums, axis=0)
    longest_game = recipe.selfplay.max_moves_per_point * recipe.size**2
    speeds = {"simulations_per_s": simulations, "net_evals_per_s": net, "moves_per_s": moves}
    speeds["games_per_hour"] = 3600 * moves / longest_game
    shares = {"processes": num_processes, "over_net": np.median(sums[:, 1] / sums[:, 0])}
    parts.append(max(0.0, num_processes - sum(parts)))
    for name, part in zip(("network", "tree", "python", "waiting"), parts, strict=True):
        shares[f"{name}_share"] = part / num_processes
    return speeds, shares


@functools.cache
def _start_selfplay(recipe: Recipe) -> tuple[SelfPlay, Counter]:
    """Begin the games that a process goes on with round after round; the counter is `_timed`'s."""
    net, num_games = PolicyValueNet(recipe.network), recipe.selfplay.games_at_once
    evaluator = make_evaluator(net, recipe.size, max_batch=num_games)
    selfplay, sums = SelfPlay(evaluator, recipe, np.random.default_rng(1)), Counter()
    search = selfplay.search
    for target, name in ((evaluator, "evaluate"), (search, "simulate"), (search, "play")):
        setattr(target, name, functools.partial(_timed, sums, name, getattr(target, name)))
    return selfplay, sums


def _timed(sums: Counter, name: str, method: Callable, *arguments):
    """Call a method; add up its processor time, and the rows of its first argument."""
    start_s = time.process_time()
    result = method(*arguments)
    sums[f"{name}_s"] += time.process_time() - start_s
    sums[f"{name}_rows"] += np.atleast_1d(arguments[0]).shape[0]
    return result


def _selfplay_round(recipe: Recipe, duration_s: float) -> list[float]:
    """Return bare evaluations/s; of self-play evaluations/s, moves/s, and shares of its time: in
    the network, in the tree, in Python."""
    selfplay, sums = _start_selfplay(recipe)
    planes = _random_planes(recipe.selfplay.games_at_once, recipe.size)
    net = _repeat(lambda: selfplay.search.evaluator.evaluate(planes), duration_s)
    sums.clear()
    start_s, start_process_s = time.perf_counter(), time.process_time()
    _repeat(lambda: list(selfplay.step()), duration_s)
    spent_s, elapsed_s = time.process_time() - start_process_s, time.perf_counter() - start_s
    search_s = sums["simulate_s"] + sums["play_s"]
    shares = sums["evaluate_s"], search_s - sums["evaluate_s"], spent_s - search_s
    counts = sums["evaluate_rows"], sums["play_rows"]
    return [len(planes) * net, *(x / elapsed_s for x in (*counts, *shares))]


def bench_train(compile: bool = False) -> Iterator[Figures]:
    """Measure training with all threads, with one and, if `compile`, with torch.compile."""
    evaluator = ConstantEvaluator(9, RECIPE.selfplay.games_at_once)
    replay = Replay([9], np.random.default_rng(1))
    selfplay = SelfPlay(evaluator, RECIPE, replay.rng)
    while len(replay) < TRAIN_POSITIONS:
        replay.add(selfplay.step())
    num_threads, waits = len(list_cores()), []
    variants = {"train": (TrainConfig(), num_threads), "train_one_thread": (TrainConfig(), 1)}
    if compile:
        variants["train_compiled"] = TrainConfig(compile=True), num_threads
    for name, num_steps in TRAIN_STEPS.items():
        learners = {k: Learner(PolicyValueNet(name), v[0], "cpu") for k, v in variants.items()}
        reports = {key: [] for key in variants}
        for repeat in range(1 + TRAIN_REPEATS):
            for key, (_, threads) in variants.items():
                torch.set_num_threads(threads)
                steps = num_steps if repeat else 1  # which doesn't count
                reports[key].append(learners[key].train(replay, steps, (0, 0)))
        for key, (_, *found) in reports.items():
            rate = statistics.median(report.samples_per_s for report in found)
            yield {f"{key}_samples_per_s_{name}_9x9": rate}
        waits.append(statistics.median(report.wait_share for report in reports["train"][1:]))
    torch.set_num_threads(1)
    yield {"train_wait_share": max(waits), "train_threads": num_threads}


def bench_gtp() -> Iterator[Figures]:
    for size in SIZES:
        for key, leaves in (("gtp", 8), ("gtp_one_leaf", 1)):
            evaluator = make_evaluator(PolicyValueNet("b6c64"), size, max_batch=leaves)
            rng, config = np.random.default_rng(1), SearchConfig(leaves=leaves)
            search = Search(evaluator, config, [Board(size)], rng)
            (rate,) = measure(functools.partial(_search_anew, search))
            yield {f"{key}_simulations_per_s_b6c64_{size}x{size}": GTP_VISITS * rate}
    first_answer_s, first_move_s = np.median([_time_gtp() for _ in range(GTP_REPEATS)], axis=0)
    yield {"gtp_first_answer_s": first_answer_s, "gtp_first_move_s": first_move_s}


def _search_anew(search: Search) -> None:
    search.reset(0, Board(search.boards[0].size))
    search.run(GTP_VISITS)


def _time_gtp() -> tuple[float, float]:
    """Return the seconds until a new `minigo gtp` answers, and until it has chosen a move."""
    start_s = time.perf_counter()
    with closing(GtpProgram(f"{sys.executable} -m minigo gtp 9x9")) as program:
        first_answer_s = time.perf_counter() - start_s
        program.ask("genmove black")
        return first_answer_s, time.perf_counter() - start_s
