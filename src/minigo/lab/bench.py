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
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from msgspec.structs import replace
from torch.utils.flop_counter import FlopCounterMode

from .. import loop
from .._board import NUM_PLANES, Board, random_playouts
from ..checkpoint import load_checkpoint, load_network
from ..config import Recipe, SearchConfig, SelfplayConfig, TrainConfig
from ..crew import Crew
from ..evaluator import Evaluation, Evaluator, make_evaluator
from ..learner import Learner
from ..machine import choose_device, is_bfloat16_fast, keep_big_buffers, list_cores
from ..network import PolicyValueNet, planes_of
from ..openvino_backend import calibration_positions
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
# Rows of a batch, by device and board size.
BATCHES = {"cpu": {9: (1, 8, 32, 128), 19: (1, 32)}}
BATCHES["cuda"] = {9: (64, 256, 512, 1024, 2048), 19: (64, 256)}
SHIPPED = ("9x9", "9x9-human")  # whose answers are compared with exact ones
MATRIX = {"cpu": 1024, "cuda": 8192}  # width of those whose product is a yardstick
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


def run(
    sections: list[str], json: bool = False, compile: bool = False, device: str = "auto"
) -> None:
    """Measure the named sections, all if none is named, and print each figure with its key.

    With `json`, the last line is one flat object of all of them; `compile`: see `bench_train`.
    """
    bound = choose_device(device)
    functions = {"board": bench_board, "tree": bench_tree}
    functions["net"] = functools.partial(bench_net, bound)
    functions["selfplay"] = functools.partial(bench_selfplay, bound)
    functions["train"] = functools.partial(bench_train, bound, compile)
    functions["run"] = functools.partial(bench_run, bound)
    functions["gtp"] = bench_gtp
    if unknown := [section for section in sections if section not in functions]:
        raise ValueError(f"{unknown[0]!r} is not one of {', '.join(functions)}")
    report: dict[str, str | float] = describe_machine(bound)
    print("\n".join(f"{key:12}{value}" for key, value in report.items()))
    for section in sections or functions:
        print(f"\n{section}")
        for figures in functions[section]():
            for key, value in figures.items():
                report[key] = float(f"{value:.4g}")
                print(f"  {key:50}{report[key]:>12,.6g}", flush=True)
    if json:
        print(json_module.dumps(report))


def describe_machine(device: torch.device) -> dict[str, str]:
    """Say what the figures were measured on and with."""
    versions = {package.name: package.version for package in importlib.metadata.distributions()}
    packages = ("minigo", "numpy", "torch", "openvino")
    cpuinfo = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", cpuinfo.read_text() if cpuinfo.exists() else "")
    processor = models[0] if models else platform.processor() or platform.machine()
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        processor += f", {card.name}, {card.multi_processor_count} multiprocessors"
    return {
        "machine": f"{processor}, {len(list_cores())} cores, Python {platform.python_version()}",
        "versions": ", ".join(f"{name} {versions.get(name, 'missing')}" for name in packages),
        "evaluator": make_evaluator(PolicyValueNet("b1c8"), 9, str(device)).name,
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
        arrays = [search.forest.arrays(tree) for tree in range(TREES)]
        num_bytes = sum(nodes.nbytes + edges.nbytes for nodes, edges in arrays)
        num_nodes = sum(len(nodes) for nodes, _ in arrays)
        yield {
            f"tree_simulations_per_s_{size}x{size}": TREES * SIMULATIONS * rate,
            f"tree_bytes_per_node_{size}x{size}": num_bytes / max(num_nodes, 1),
        }


def _move_all(search: Search) -> None:
    search.run(SIMULATIONS)
    for tree, board in enumerate(search.boards):
        if board.is_over:
            search.forest.reset(tree, Board(board.size))
        else:
            visits = search.forest.moves(tree)["visits"]
            best = np.flatnonzero(visits == visits.max())
            search.forest.advance(tree, int(search.rng.choice(best)))


def bench_net(device: torch.device) -> Iterator[Figures]:
    torch.set_num_threads(1)
    for name in _number_types(device):
        (rate,) = measure(multiply := _matmul(device, name))  # the last one is the fastest
        yield {f"net_matmul_gflop_per_s_{name}": rate * 2 * MATRIX[device.type] ** 3 / 1e9}
    if device.type == "cuda":
        yield bench_copies(device)
    for size, batches in BATCHES[device.type].items():
        for name in NETWORKS:
            for batch in batches:
                found = _bench_network(name, size, batch, device, multiply)
                yield {f"net_{k}_{name}_{size}x{size}_b{batch}": v for k, v in found.items()}
    for name in SHIPPED:
        yield {f"net_{k}_{name}": v for k, v in _compare_answers(name, device).items()}


def _number_types(device: torch.device) -> list[str]:
    """Return what networks are computed in on a device, the fastest last."""
    return ["f32", *(["bf16"] if is_bfloat16_fast(device) else [])]


def _matmul(device: torch.device, name: str) -> Callable[[], object]:
    """Return what multiplies large matrices, to the end."""
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[name]
    matrix = torch.randn(MATRIX[device.type], MATRIX[device.type], device=device).to(dtype)
    return functools.partial(_finish, functools.partial(torch.matmul, matrix, matrix), device)


def _finish(work: Callable[[], object], device: torch.device) -> None:
    """Do something, and wait until the device has."""
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def bench_copies(device: torch.device) -> Figures:
    """Measure copies of 256 MiB on a card, to it and from it, in page-locked memory."""
    here, there = torch.empty(1 << 28, dtype=torch.uint8, device=device), {}
    host = torch.empty(1 << 28, dtype=torch.uint8, pin_memory=True)
    pairs = {"copy": (here, here.clone()), "h2d": (host, here), "d2h": (here, host)}
    for name, (source, target) in pairs.items():
        (rate,) = measure(functools.partial(_finish, lambda t=target, s=source: t.copy_(s), device))
        there[f"net_{name}_gb_per_s"] = rate * len(source) * (2 if name == "copy" else 1) / 1e9
    return there


def _compare_answers(name: str, device: torch.device) -> Figures:
    """Return how far the default back end is from PyTorch in float32, for a shipped network."""
    net, size = load_network(load_checkpoint(name)), 9
    positions = calibration_positions(size)
    with torch.no_grad():
        logits, value, *_ = net(planes_of(torch.from_numpy(positions)))
    answers = make_evaluator(net, size, str(device), max_batch=64).evaluate(positions)
    exact, ours = logits.log_softmax(1), torch.from_numpy(answers.logits).log_softmax(1)
    return {
        "kl_nats": (exact.exp() * (exact - ours)).sum(1).mean().item(),
        "value_error": (value - torch.from_numpy(answers.value)).abs().mean().item(),
    }


def _random_positions(batch: int, size: int) -> np.ndarray:
    positions = np.random.default_rng(1).integers(
        1 << 18, size=(batch, size**2 + 1), dtype=np.int32
    )
    positions[:, -1] = 0  # komi
    return positions


def _bench_network(
    name: str, size: int, batch: int, device: torch.device, multiply: Callable[[], object]
) -> Figures:
    """Compare the back ends and bare PyTorch with one another and with a matrix product."""
    net, positions = PolicyValueNet(name).eval(), _random_positions(batch, size)
    planes, eager = planes_of(torch.from_numpy(positions)).to(device), net.to(device)
    works = []
    for backend in ("auto", "torch"):
        evaluator = make_evaluator(net, size, str(device), backend, max_batch=batch)
        works.append(functools.partial(evaluator.evaluate, positions))
    works += functools.partial(_finish, functools.partial(eager, planes), device), multiply
    with torch.no_grad():
        default, folded, eager, matmul = measure(*works, repeats=NET_REPEATS)
    flops = batch * _flops(PolicyValueNet(name), size) / (2 * MATRIX[device.type] ** 3)
    return {
        "evals_per_s": batch * default,
        "torch_evals_per_s": batch * folded,
        "eager_fp32_evals_per_s": batch * eager,
        "speedup_over_eager_fp32": default / eager,
        "flops_over_matmul": default * flops / matmul,
    }


def bench_selfplay(device: torch.device) -> Iterator[Figures]:
    if device.type == "cuda":
        yield from _bench_server(device)
        return
    num_cores = len(list_cores())
    for network in SELFPLAY_NETWORKS:
        recipe = replace(RECIPE, network=network)
        speeds, over_net = _run_selfplay(recipe, num_cores)
        yield {f"selfplay_{key}_{network}_9x9": speed for key, speed in speeds.items()}
        if network == RECIPE.network:
            yield {"selfplay_processes": num_cores, "selfplay_over_net": over_net}
        if network == RECIPE.network and num_cores == 2:
            single, _ = _run_selfplay(recipe, 1)
            for part, key in (("", "simulations_per_s"), ("net_", "net_evals_per_s")):
                yield {f"selfplay_{part}two_over_one_process": speeds[key] / single[key]}


def _bench_server(device: torch.device) -> Iterator[Figures]:
    """Play as a run does that learns nothing, next to the bare network in large batches."""
    for network in SELFPLAY_NETWORKS:
        recipe = replace(RECIPE, network=network, games_per_cycle=1024, samples_per_position=0.0)
        recipe = replace(recipe, selfplay=SelfplayConfig(games_at_once=128))
        last, _ = _short_run(recipe, device)
        evals = last["positions"] / last["elapsed_s"] * recipe.search.simulations
        evaluator = make_evaluator(PolicyValueNet(network), 9, str(device), max_batch=1024)
        (net,) = measure(functools.partial(evaluator.evaluate, _random_positions(1024, 9)))
        yield {f"selfplay_simulations_per_s_{network}_9x9": evals}
        yield {f"selfplay_over_net_{network}_9x9": evals / (1024 * net)}


def _run_selfplay(recipe: Recipe, num_processes: int) -> tuple[Figures, float]:
    """Return the speeds of all processes together, and self-play's over the bare network's."""
    rounds = []
    with Crew(_selfplay_round, num_processes) as crew:
        for _ in range(1 + REPEATS):
            for _ in range(num_processes):
                crew.give(recipe, SELFPLAY_S)
            while len(crew.idle) < num_processes:
                rounds += [answer for _, answer in crew.wait()]
    sums = np.array(rounds).reshape(1 + REPEATS, num_processes, -1).sum(1)[1:]
    net, simulations = np.median(sums, axis=0)
    speeds = {"simulations_per_s": simulations, "net_evals_per_s": net}
    return speeds, np.median(sums[:, 1] / sums[:, 0])


class CountingEvaluator:
    """Counts what it is asked."""

    def __init__(self, evaluator: Evaluator):
        self.evaluator, self.num_positions = evaluator, 0

    def begin(self, positions: np.ndarray) -> Callable[[], Evaluation]:
        self.num_positions += len(positions)
        return self.evaluator.begin(positions)


@functools.cache
def _start_selfplay(recipe: Recipe) -> SelfPlay:
    """Begin the games that a process goes on with round after round."""
    net, num_games = PolicyValueNet(recipe.network), recipe.selfplay.games_at_once
    evaluator = make_evaluator(net, recipe.size, max_batch=num_games)
    return SelfPlay(CountingEvaluator(evaluator), recipe, np.random.default_rng(1))


def _selfplay_round(recipe: Recipe, duration_s: float) -> list[float]:
    """Return evaluations a second of the bare network, and of self-play."""
    selfplay = _start_selfplay(recipe)
    counter = selfplay.search.evaluator
    positions = _random_positions(recipe.selfplay.games_at_once, recipe.size)
    net = _repeat(lambda: counter.evaluator.evaluate(positions), duration_s)
    counter.num_positions, start_s = 0, time.perf_counter()
    _repeat(lambda: list(selfplay.step()), duration_s)
    return [len(positions) * net, counter.num_positions / (time.perf_counter() - start_s)]


def bench_train(device: torch.device, compile: bool = False) -> Iterator[Figures]:
    """Measure training with all threads, with one and, if `compile`, with torch.compile."""
    torch.set_num_threads(1)
    keep_big_buffers()
    windows = {}
    for size in SIZES:
        records, windows[size] = play_games(size), Window([size], np.random.default_rng(1), device)
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
        learners = {
            k: Learner(PolicyValueNet(name), v[0], str(device)) for k, v in variants.items()
        }
        reports = {key: [] for key in variants}
        for repeat in range(1 + TRAIN_REPEATS):
            for key, (config, threads) in variants.items():
                torch.set_num_threads(threads)
                batches = iter(functools.partial(windows[9].sample, config.batch_size), None)
                steps = num_steps if repeat else 1  # which doesn't count
                learners[key].train(batches, steps, float)
                reports[key].append(learners[key].report())
        torch.set_num_threads(1)
        (matmul,) = measure(_matmul(device, _number_types(device)[-1]))
        # Backward takes twice as many.
        flops = 3 * _flops(PolicyValueNet(name), 9) / (2 * MATRIX[device.type] ** 3)
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


def bench_run(device: torch.device) -> Iterator[Figures]:
    """Learn for half a minute, on all cores, and say what the learner's share of the time was."""
    recipe = replace(RECIPE, network="b4c32", games_per_cycle=64)
    last, shares = _short_run(recipe, device)
    yield {f"run_{k}_per_s": last[k] / last["elapsed_s"] for k in ("games", "positions")}
    yield {"run_samples_per_s": last["step"] * recipe.training.batch_size / last["elapsed_s"]}
    yield {"learner_share": statistics.mean(shares)}


def _short_run(recipe: Recipe, device: torch.device) -> tuple[dict, list[float]]:
    """Return the last row of a run's log, and the learner's share of each cycle."""
    recipe, rows = replace(recipe, minutes=RUN_MINUTES, device=str(device)), []
    with tempfile.TemporaryDirectory() as folder:
        loop.run(recipe, "bench", Path(folder), rows.append)
    return rows[-1], [row["learner_share"] for row in rows]


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
    search.forest.reset(0, Board(search.boards[0].size))
    search.run(GTP_VISITS)


def _time_gtp() -> tuple[float, float]:
    """Return the seconds until a new `minigo gtp` answers, and until it has chosen a move."""
    start_s = time.perf_counter()
    with closing(GtpProgram(f"{sys.executable} -m minigo gtp 9x9")) as program:
        first_answer_s = time.perf_counter() - start_s
        program.ask("genmove black")
        return first_answer_s, time.perf_counter() - start_s
