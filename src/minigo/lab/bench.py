"""`minigo bench`: speeds as numbers and as ratios within one run; changes nothing, judges nothing.

docs/results.md says what each figure means. Times are wall-clock.
"""

import functools
import importlib.metadata
import itertools
import platform
import re
import statistics
import subprocess
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
from ..architecture import Network
from ..checkpoint import load_checkpoint, load_network
from ..config import Recipe, SearchConfig, SelfplayConfig, TrainConfig
from ..crew import Crew
from ..evaluator import Evaluation, Evaluator, make_evaluator
from ..learner import Learner
from ..machine import choose_device, is_bfloat16_fast, keep_big_buffers, list_cores
from ..network import PolicyValueNet, as_arrays, as_module, planes_of
from ..openvino_backend import calibration_positions
from ..play.program import GtpProgram
from ..record import GameRecord
from ..search import Search
from ..selfplay import SelfPlay
from ..window import Window

SIZES = (9, 19)
REPEATS, SHORT_REPEATS = 5, 3
REPEAT_S = 0.12  # at least, for one repeat
NETWORKS = ("b4c32", "b6c64", "b6c96", "b10c128")
# Rows of a batch, by device and board size.
BATCHES = {"cpu": {9: (1, 8, 32, 128), 19: (1, 32)}}
BATCHES["cuda"] = {9: (64, 256, 512, 1024, 2048), 19: (64, 256)}
SHIPPED = ("9x9", "9x9-human")  # whose answers are compared with exact ones
CARD = "name,driver_version,power.limit,pcie.link.gen.max,pcie.link.width.max"
CARD_LOAD = "utilization.gpu,power.draw,memory.used"
MATRIX = {"cpu": 1024, "cuda": 8192}  # width of those whose product is a yardstick
TREES, SIMULATIONS = 128, 32  # of the tree benchmark
RECIPE = Recipe(network="b6c64", search=SearchConfig(root="gumbel", simulations=16))
SELFPLAY_NETWORKS = ("b6c64", "b6c96")
SELFPLAY_S = 1.0  # each repeat, of bare network and of self-play
TRAIN_STEPS = {"b4c32": 8, "b6c64": 4, "b6c96": 2}  # each repeat
GAMES = 16  # of self-play, to learn from
RUN_MINUTES = 0.5
GTP_VISITS = 256
Figures = dict[str, float]  # by their keys: what was measured, the unit, and what with


def run(sections: list[str], compile: bool = False, device: str = "auto") -> dict:
    """Measure the named sections, all if none is named, and print each figure with its key.

    Returns one flat object of all of them; `compile`: see `Bench.train`.
    """
    if unknown := set(sections) - set(SECTIONS):
        raise ValueError(f"{unknown.pop()!r} is not one of {', '.join(SECTIONS)}")
    bench = Bench(torch.device(choose_device(device)), compile)
    report: dict[str, str | float] = bench.describe_machine()
    print("\n".join(f"{key:12}{value}" for key, value in report.items()))
    for section in sections or SECTIONS:
        print(f"\n{section}")
        for figures in getattr(bench, section)():
            for key, value in figures.items():
                report[key] = float(f"{value:.4g}")
                print(f"  {key:50}{report[key]:>12,.6g}", flush=True)
    return report


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


class Bench:
    """The sections, each of which yields figures; those of networks on a device."""

    def __init__(self, device: torch.device, compile: bool) -> None:
        self.device, self.compile = device, compile
        self.number_types = ["f32", *(["bf16"] if is_bfloat16_fast(device) else [])]
        width = MATRIX[device.type]
        self.matmul_flops = 2 * width**3
        dtypes, matrix = {"f32": torch.float32, "bf16": torch.bfloat16}, torch.randn(width, width)
        matrices = [matrix.to(device, dtypes[name]) for name in self.number_types]
        # The last one is the fastest, which networks are compared with.
        self.matmuls = [self._whole(torch.matmul, matrix, matrix) for matrix in matrices]

    def _whole(self, function: Callable, *arguments) -> Callable[[], None]:
        """Return what calls a function, and waits until the device is done."""

        def work() -> None:
            function(*arguments)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)

        return work

    def _evaluator(self, network: str, size: int, max_batch: int, backend: str = "auto"):
        return make_evaluator(random_network(network), size, str(self.device), backend, max_batch)

    def describe_machine(self) -> dict[str, str]:
        """Say what the figures were measured on and with."""
        versions = {found.name: found.version for found in importlib.metadata.distributions()}
        packages = ("minigo", "numpy", "torch", "openvino")
        cpuinfo = Path("/proc/cpuinfo")
        models = re.findall(r"model name\s*: (.*)", cpuinfo.read_text() if cpuinfo.exists() else "")
        processor = models[0] if models else platform.processor() or platform.machine()
        if self.device.type == "cuda":
            with self._ask_card(CARD, "--format=csv,noheader") as program:
                processor += "; " + program.stdout.read().strip()
        python = platform.python_version()
        return {
            "machine": f"{processor}, {len(list_cores())} cores, Python {python}",
            "versions": ", ".join(f"{name} {versions.get(name, 'missing')}" for name in packages),
            "evaluator": self._evaluator("b1c8", 9, 1).name,
        }

    def board(self) -> Iterator[Figures]:
        """random playouts on one core"""
        for size, count in zip(SIZES, (1000, 200), strict=True):
            (rate,) = measure(functools.partial(random_playouts, Board(size), count, 1))
            yield {f"board_playouts_per_s_{size}x{size}": count * rate}

    def tree(self) -> Iterator[Figures]:
        """search with an evaluator that takes no time"""
        for size in SIZES:
            rng, boards = np.random.default_rng(1), [Board(size)] * TREES
            search = Search(ConstantEvaluator(), SearchConfig(), boards, rng)
            (rate,) = measure(functools.partial(_move_all, search))
            arrays = [search.forest.arrays(tree) for tree in range(TREES)]
            num_bytes = sum(nodes.nbytes + edges.nbytes for nodes, edges in arrays)
            num_nodes = sum(len(nodes) for nodes, _ in arrays)
            yield {f"tree_simulations_per_s_{size}x{size}": TREES * SIMULATIONS * rate}
            yield {f"tree_bytes_per_node_{size}x{size}": num_bytes / max(num_nodes, 1)}

    def net(self) -> Iterator[Figures]:
        """evaluations by the default back end, by PyTorch and by eager PyTorch; matrix products"""
        torch.set_num_threads(1)
        for name, rate in zip(self.number_types, measure(*self.matmuls), strict=True):
            yield {f"net_matmul_gflop_per_s_{name}": rate * self.matmul_flops / 1e9}
        if self.device.type == "cuda":
            there = torch.randint(256, (1 << 28,), dtype=torch.uint8, device=self.device)
            here = torch.empty_like(there, device="cpu").pin_memory()
            ways = {"copy": (there, there.clone()), "h2d": (there, here), "d2h": (here, there)}
            works = [self._whole(target.copy_, source) for target, source in ways.values()]
            for key, rate in zip(ways, measure(*works), strict=True):
                yield {f"gpu_{key}_gb_per_s": there.nbytes * rate / 1e9}
        for size, batches in BATCHES[self.device.type].items():
            for name, batch in itertools.product(NETWORKS, batches):
                found = self._compare_backends(name, size, batch)
                yield {f"net_{k}_{name}_{size}x{size}_b{batch}": v for k, v in found.items()}
        for name in SHIPPED:
            yield {f"net_{k}_{name}": v for k, v in self._compare_answers(name).items()}

    def _compare_backends(self, name: str, size: int, batch: int) -> Figures:
        positions = _random_positions(batch, size)
        planes = planes_of(torch.from_numpy(positions)).to(self.device)
        both = [self._evaluator(name, size, batch, backend) for backend in ("auto", "torch")]
        works = [functools.partial(evaluator.evaluate, positions) for evaluator in both]
        works.append(self._whole(PolicyValueNet(name).eval().to(self.device), planes))
        with torch.no_grad():
            rates = measure(*works, self.matmuls[-1], repeats=SHORT_REPEATS)
        default, folded, eager, matmul = rates
        return {
            "evals_per_s": batch * default,
            "torch_evals_per_s": batch * folded,
            "eager_fp32_evals_per_s": batch * eager,
            "speedup_over_eager_fp32": default / eager,
            "flops_over_matmul": batch * default * _flops(name, size) / matmul / self.matmul_flops,
        }

    def _compare_answers(self, name: str) -> Figures:
        """Return how far the default back end is from PyTorch in float32, for a shipped network."""
        network, positions = load_network(load_checkpoint(name)), calibration_positions(9)
        with torch.no_grad():
            logits, value, *_ = as_module(network)(planes_of(torch.from_numpy(positions)))
        answers = make_evaluator(network, 9, str(self.device)).evaluate(positions)
        both = logits, torch.from_numpy(answers.logits)
        exact, ours = (x.double().log_softmax(1) for x in both)  # or it may fall below 0
        return {
            "kl_nats": (exact.exp() * (exact - ours)).sum(1).mean().item(),
            "value_error": (value - torch.from_numpy(answers.value)).abs().mean().item(),
        }

    def selfplay(self) -> Iterator[Figures]:
        """games in a process on each core, next to the bare network in as many processes"""
        num_cores = len(list_cores())
        for network in SELFPLAY_NETWORKS:
            recipe = replace(RECIPE, network=network)
            if self.device.type == "cuda":
                for workers in (2, 4, 8) if network == RECIPE.network else ():
                    played = self._play_with_server(recipe, workers)
                    rate = played[f"selfplay_simulations_per_s_{network}_9x9"]
                    yield {f"selfplay_workers_{workers}_simulations_per_s_{network}_9x9": rate}
                yield self._play_with_server(recipe)
                continue
            speeds, over_net = _run_selfplay(recipe, num_cores)
            yield {f"selfplay_{key}_{network}_9x9": speed for key, speed in speeds.items()}
            if network == RECIPE.network:
                yield {"selfplay_processes": num_cores, "selfplay_over_net": over_net}
            if network == RECIPE.network and num_cores == 2:
                single, _ = _run_selfplay(recipe, 1)
                for part, key in (("", "simulations_per_s"), ("net_", "net_evals_per_s")):
                    yield {f"selfplay_{part}two_over_one_process": speeds[key] / single[key]}

    def _play_with_server(self, recipe: Recipe, workers: int = 0) -> Figures:
        """Play as a run does that learns nothing, next to the bare network in large batches."""
        recipe = replace(recipe, games_per_cycle=1024, samples_per_position=0.0)
        selfplay = SelfplayConfig(games_at_once=128, workers=workers)
        with self._ask_card(CARD_LOAD, "--format=csv,noheader,nounits", "-lms", "200") as program:
            last = self._learn(replace(recipe, selfplay=selfplay))[-1]
            program.terminate()
            rows = np.genfromtxt([row for row in program.stdout if row[-1] == "\n"], delimiter=",")
        busy_percent, power_w, memory_mib = np.nanmedian(rows, axis=0)  # NaN: it can't say
        rate = recipe.search.simulations * last["positions"] / last["elapsed_s"]
        evaluator = self._evaluator(recipe.network, 9, 1024)
        (net,) = measure(functools.partial(evaluator.evaluate, _random_positions(1024, 9)))
        return {
            f"selfplay_simulations_per_s_{recipe.network}_9x9": rate,
            "selfplay_over_net": rate / (1024 * net),
            "gpu_busy_share": busy_percent / 100,
            "evals_per_joule": rate / power_w,
            "gpu_memory_mib": memory_mib,
        }

    def _ask_card(self, fields: str, *options: str) -> subprocess.Popen:
        """Start NVIDIA's own program, which says these fields of the card."""
        uuid = torch.cuda.get_device_properties(self.device).uuid
        command = ["nvidia-smi", f"--id=GPU-{uuid}", f"--query-gpu={fields}", *options]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def train(self) -> Iterator[Figures]:
        """games to positions to batches; batches of 128, all heads, on each core and on one"""
        torch.set_num_threads(1)
        keep_big_buffers()
        for size in reversed(SIZES):  # those of 9x9 are trained on
            records = play_games(size)
            window = Window([size], np.random.default_rng(1), self.device)
            window.add(records)
            num_positions, sample = len(window), functools.partial(window.sample, 128)
            draw = self._whole(lambda sample=sample: planes_of(sample().positions))
            renders, samples = measure(functools.partial(window.add, records), draw)
            yield {f"render_positions_per_s_{size}x{size}": num_positions * renders}
            yield {f"window_samples_per_s_{size}x{size}": 128 * samples}
        num_cores, waits = len(list_cores()), []
        variants = {"train": (False, num_cores), "train_one_thread": (False, 1)}
        if self.compile:  # the last variant is on one thread: it is compared with a matrix product
            variants["train_compiled"] = True, num_cores
            variants["train_compiled_one_thread"] = True, 1
        for name, num_steps in TRAIN_STEPS.items():
            reports = {key: [] for key in variants}
            learners = {
                key: Learner(PolicyValueNet(name), TrainConfig(compile=compiled), str(self.device))
                for key, (compiled, _) in variants.items()
            }
            for steps in [1] + SHORT_REPEATS * [num_steps]:  # the first doesn't count
                for key, (_, threads) in variants.items():
                    torch.set_num_threads(threads)
                    learners[key].train(iter(sample, None), steps, float)
                    reports[key].append(learners[key].report())
            torch.set_num_threads(1)
            for key, (_, *found) in reports.items():
                rate = statistics.median(report.samples_per_s for report in found)
                yield {f"{key}_samples_per_s_{name}_9x9": rate}
            (matmul,) = measure(self.matmuls[-1])
            flops = 3 * _flops(name, 9)  # backward takes twice as many
            yield {f"train_flops_over_matmul_{name}": flops * rate / matmul / self.matmul_flops}
            waits += [report.wait_s / report.elapsed_s for report in reports["train"][1:]]
        yield {"train_wait_share": statistics.median(waits), "train_threads": num_cores}

    def run(self) -> Iterator[Figures]:
        """half a minute of learning by self-play on all cores, and the learner's share of it"""
        rows = self._learn(replace(RECIPE, network="b4c32", games_per_cycle=64))
        last = rows[-1]
        yield {f"run_{key}_per_s": last[key] / last["elapsed_s"] for key in ("games", "positions")}
        yield {"run_samples_per_s": 128 * last["step"] / last["elapsed_s"]}
        yield {"learner_share": statistics.mean(row["learner_share"] for row in rows)}

    def _learn(self, recipe: Recipe) -> list[dict]:
        """Return the log of a short run."""
        recipe, rows = replace(recipe, minutes=RUN_MINUTES, device=str(self.device)), []
        with tempfile.TemporaryDirectory() as folder:
            loop.run(recipe, "bench", Path(folder), rows.append)
        return rows

    def gtp(self) -> Iterator[Figures]:
        """one search, 8 leaves and 1 leaf at a time; how soon `minigo gtp` answers and moves"""
        for size in SIZES:
            for key, leaves in (("gtp", 8), ("gtp_one_leaf", 1)):
                rng, config = np.random.default_rng(1), SearchConfig(leaves=leaves)
                evaluator = self._evaluator("b6c64", size, leaves)
                search = Search(evaluator, config, [Board(size)], rng)
                (rate,) = measure(functools.partial(_search_anew, search))
                yield {f"{key}_simulations_per_s_b6c64_{size}x{size}": GTP_VISITS * rate}
        times = [_time_gtp() for _ in range(SHORT_REPEATS)]
        first_answer_s, first_move_s = np.median(times, axis=0)
        yield {"gtp_first_answer_s": first_answer_s, "gtp_first_move_s": first_move_s}


SECTIONS = ("board", "tree", "net", "selfplay", "train", "run", "gtp")
_LINES = "\n".join(f"{name:10}{getattr(Bench, name).__doc__}" for name in SECTIONS)
DESCRIPTION = f"""\
Medians of several repeats, after a first one that doesn't count. What is compared takes turns, so
trust ratios more than numbers. All of it takes under five minutes on two cores.

{_LINES}

docs/results.md says under "Speed" what each key means, and what was reached.
"""


def random_network(name: str) -> Network:
    """Return a network that has learned nothing."""
    return Network(name, as_arrays(PolicyValueNet(name).state_dict()))


class ConstantEvaluator:
    """Knows nothing in no time: what is left is the tree."""

    def begin(self, positions: np.ndarray) -> Callable[[], Evaluation]:
        zeros = np.zeros(positions.shape, np.float32)
        return lambda: Evaluation(zeros, np.zeros(len(zeros), np.float32), zeros[:, 0].copy())


class CountingEvaluator:
    """Counts what it is asked."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator, self.num_positions = evaluator, 0

    def begin(self, positions: np.ndarray) -> Callable[[], Evaluation]:
        self.num_positions += len(positions)
        return self.evaluator.begin(positions)


def _move_all(search: Search) -> None:
    search.run(SIMULATIONS)
    for tree, board in enumerate(search.boards):
        if board.is_over:
            search.forest.reset(tree, Board(board.size))
        else:
            visits = search.forest.moves(tree)["visits"]
            best = np.flatnonzero(visits == visits.max())
            search.forest.advance(tree, int(search.rng.choice(best)))


def _random_positions(batch: int, size: int) -> np.ndarray:
    rng, shape = np.random.default_rng(1), (batch, size * size + 1)
    positions = rng.integers(1 << 18, size=shape, dtype=np.int32)
    positions[:, -1] = 0  # komi
    return positions


def _flops(network: str, size: int) -> int:
    """Return the floating point operations of one evaluation."""
    with FlopCounterMode(display=False) as counter:
        PolicyValueNet(network).eval()(torch.zeros(1, NUM_PLANES, size, size))
    return counter.get_total_flops()


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


@functools.cache
def _start_selfplay(recipe: Recipe) -> SelfPlay:
    """Begin the games that a process goes on with round after round."""
    network, num_games = random_network(recipe.network), recipe.selfplay.games_at_once
    evaluator = make_evaluator(network, recipe.size, max_batch=num_games)
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


def play_games(size: int) -> list[GameRecord]:
    """Return games of a network that knows nothing."""
    recipe = replace(RECIPE, size=size, selfplay=SelfplayConfig(games_at_once=GAMES))
    selfplay, records = SelfPlay(ConstantEvaluator(), recipe, np.random.default_rng(1)), []
    while len(records) < GAMES:
        records += selfplay.step()
    return records


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
