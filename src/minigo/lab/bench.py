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
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from msgspec.structs import replace
from torch.utils.flop_counter import FlopCounterMode

from .. import loop
from .._board import NUM_PLANES, Board, random_playouts
from ..config import Recipe, SearchConfig, SelfplayConfig, TrainConfig
from ..crew import Crew
from ..evaluator import Evaluation, make_evaluator
from ..learner import Learner
from ..machine import is_bfloat16_fast, list_cores
from ..network import PolicyValueNet, planes_of
from ..play.program import GtpProgram
from ..record import GameRecord
from ..search import Search
from ..selfplay import SelfPlay
from ..window import Window

DESCRIPTION = """\
Medians of several repeats, after a first one that doesn't count. What is compared takes turns, so
trust ratios more than numbers. All of it takes under five minutes on two cores.

board     random playouts on one core
tree      search with an evaluator that takes no time
net       evaluations by the default back end, by PyTorch and by eager PyTorch; matrix products
selfplay  whole games in a process on each core, next to the bare network in as many processes
train     games to positions to batches; batches of 128, all heads, with a thread per core and one
run       half a minute of learning by self-play
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
GAMES = 16  # of self-play, to learn from
RUN_MINUTES = 0.5
TRAIN_REPEATS = 3
GTP_VISITS, GTP_REPEATS = 256, 3

Figures = dict[str, float]  # by their keys: what was measured, the unit, and what with


def run(sections: list[str], json: bool = False, compile: bool = False) -> None:
    """Measure the named sections, all if none is named, and print each figure with its key.

    With `json`, the last line is one flat object of all of them; `compile`: see `bench_train`.
    """
    train = functools.partial(bench_train, compile)
    functions = {"board": bench_board, "tree": bench_tree, "net": bench_net}
    functions |= {"selfplay": bench_selfplay, "train": train, "run": bench_run, "gtp": bench_gtp}
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

    def begin(self, positions: np.ndarray) -> Callable[[], Evaluation]:
        return lambda: Evaluation(*(array[: len(positions)] for array in self._arrays))


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
    for name in ("f32", "bf16") if is_bfloat16_fast(torch.device("cpu")) else ("f32",):
        (rate,) = measure(multiply := _matmul(name))  # the last one is the fastest
        yield {f"net_matmul_gflop_per_s_{name}": rate * 2 * MATRIX**3 / 1e9}
    for size, batches in BATCHES.items():
        for name in NETWORKS:
            for batch in batches:
                found = _bench_network(name, size, batch, multiply)
                yield {f"net_{k}_{name}_{size}x{size}_b{batch}": v for k, v in found.items()}
    net, positions, rates = PolicyValueNet("b6c96"), _random_positions(32, 9), []
    for threads in (1, 2):
        evaluator = make_evaluator(net, 9, "cpu", max_batch=32, threads=threads)
        rates += measure(functools.partial(evaluator.evaluate, positions))
    yield {"net_two_over_one_thread_b6c96_9x9_b32": rates[1] / rates[0]}


def _matmul(name: str = "") -> Callable[[], object]:
    """Return a product of matrices, by default of the numbers that networks are trained in."""
    name = name or ("bf16" if is_bfloat16_fast(torch.device("cpu")) else "f32")
    matrix = torch.ones(MATRIX, MATRIX, dtype={"f32": torch.float32, "bf16": torch.bfloat16}[name])
    return functools.partial(torch.matmul, matrix, matrix)


def _random_positions(batch: int, size: int) -> np.ndarray:
    positions = np.random.default_rng(1).integers(
        1 << 18, size=(batch, size**2 + 1), dtype=np.int32
    )
    positions[:, -1] = 0  # komi
    return positions


def _bench_network(name: str, size: int, batch: int, multiply: Callable[[], object]) -> Figures:
    """Compare the back ends and bare PyTorch with one another and with a matrix product."""
    net, positions = PolicyValueNet(name).eval(), _random_positions(batch, size)
    planes = planes_of(torch.from_numpy(positions))
    evaluators = [make_evaluator(net, size, "cpu", b, max_batch=batch) for b in ("auto", "torch")]
    works = [functools.partial(evaluator.evaluate, positions) for evaluator in evaluators]
    works += functools.partial(net, planes), multiply
    with torch.no_grad():
        default, folded, eager, matmul = measure(*works, repeats=NET_REPEATS)
    return {
        "evals_per_s": batch * default,
        "torch_evals_per_s": batch * folded,
        "eager_fp32_evals_per_s": batch * eager,
        "speedup_over_eager_fp32": default / eager,
        "flops_over_matmul": batch * default * _flops(net, size) / (matmul * 2 * MATRIX**3),
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
    parts = ((evaluator, "begin", "network"), (search, "play", "moves"))
    parts += tuple((search, name, "search") for name in ("begin", "end", "play"))
    for target, name, part in parts:
        setattr(target, name, functools.partial(_timed, sums, part, getattr(target, name)))
    return selfplay, sums


def _timed(sums: Counter, part: str, method: Callable, *arguments):
    """Call a method; add up its processor time, and the rows of its first argument."""
    start_s = time.process_time()
    result = method(*arguments)
    sums[f"{part}_s"] += time.process_time() - start_s
    sums[f"{part}_rows"] += np.atleast_1d(arguments[0]).shape[0] if arguments else 0
    return result


def _selfplay_round(recipe: Recipe, duration_s: float) -> list[float]:
    """Return bare evaluations/s; of self-play evaluations/s, moves/s, and shares of its time: in
    the network, in the tree, in Python."""
    selfplay, sums = _start_selfplay(recipe)
    positions = _random_positions(recipe.selfplay.games_at_once, recipe.size)
    net = _repeat(lambda: selfplay.search.evaluator.evaluate(positions), duration_s)
    sums.clear()
    start_s, start_process_s = time.perf_counter(), time.process_time()
    _repeat(lambda: list(selfplay.step()), duration_s)
    spent_s, elapsed_s = time.process_time() - start_process_s, time.perf_counter() - start_s
    network_s, search_s = sums["network_s"], sums["search_s"]
    shares = network_s, search_s - network_s, spent_s - search_s
    counts = sums["network_rows"], sums["moves_rows"]
    return [len(positions) * net, *(x / elapsed_s for x in (*counts, *shares))]


def bench_train(compile: bool = False) -> Iterator[Figures]:
    """Measure training with all threads, with one and, if `compile`, with torch.compile."""
    torch.set_num_threads(1)
    windows = {}
    for size in SIZES:
        records, windows[size] = play_games(size), Window([size], np.random.default_rng(1))
        windows[size].add(records)
        works = (
            functools.partial(windows[size].add, records),
            functools.partial(_draw, windows[size]),
        )
        num_positions, (renders, samples) = len(windows[size]), measure(*works)
        yield {
            f"render_positions_per_s_{size}x{size}": num_positions * renders,
            f"window_samples_per_s_{size}x{size}": TrainConfig().batch_size * samples,
        }
    num_threads, waits = len(list_cores()), []
    variants = {"train": (TrainConfig(), num_threads), "train_one_thread": (TrainConfig(), 1)}
    if compile:  # the last variant is on one thread: it is compared with a matrix product
        variants["train_compiled"] = TrainConfig(compile=True), num_threads
        variants["train_compiled_one_thread"] = TrainConfig(compile=True), 1
    for name, num_steps in TRAIN_STEPS.items():
        learners = {k: Learner(PolicyValueNet(name), v[0], "cpu") for k, v in variants.items()}
        reports = {key: [] for key in variants}
        for repeat in range(1 + TRAIN_REPEATS):
            for key, (config, threads) in variants.items():
                torch.set_num_threads(threads)
                batches = iter(functools.partial(windows[9].sample, config.batch_size), None)
                steps = num_steps if repeat else 1  # which doesn't count
                learners[key].train(batches, steps, float)
                reports[key].append(learners[key].report())
        torch.set_num_threads(1)
        (matmul,) = measure(_matmul())
        flops = 3 * _flops(PolicyValueNet(name), 9) / (2 * MATRIX**3)  # backward: twice as many
        for key, (_, *found) in reports.items():
            rate = statistics.median(report.samples_per_s for report in found)
            yield {f"{key}_samples_per_s_{name}_9x9": rate}
        yield {f"train_flops_over_matmul_{name}": flops * rate / matmul}
        waits += [report.wait_s / report.elapsed_s for report in reports["train"][1:]]
    yield {"train_wait_share": statistics.median(waits), "train_threads": num_threads}


def play_games(size: int) -> list[GameRecord]:
    """Return games of a network that knows nothing."""
    recipe = replace(RECIPE, size=size, selfplay=SelfplayConfig(games_at_once=GAMES))
    selfplay, records = (
        SelfPlay(ConstantEvaluator(size, GAMES), recipe, np.random.default_rng(1)),
        [],
    )
    while len(records) < GAMES:
        records += selfplay.step()
    return records


def _draw(window: Window) -> None:
    planes_of(window.sample(TrainConfig().batch_size).positions)


def _flops(net: PolicyValueNet, size: int) -> int:
    """Return the floating point operations of one evaluation."""
    with FlopCounterMode(display=False) as counter:
        net.eval()(torch.zeros(1, NUM_PLANES, size, size))
    return counter.get_total_flops()


def bench_run() -> Iterator[Figures]:
    """Learn for half a minute, on all cores, and say what the learner's share of the time was."""
    recipe = replace(RECIPE, network="b4c32", minutes=RUN_MINUTES, games_per_cycle=64)
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        loop.run(recipe, "bench", Path(folder), rows.append)
    last = rows[-1]
    yield {f"run_{k}_per_s": last[k] / last["elapsed_s"] for k in ("games", "positions")}
    yield {"run_samples_per_s": last["step"] * recipe.training.batch_size / last["elapsed_s"]}
    yield {"learner_share": statistics.mean(row["learner_share"] for row in rows)}


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
