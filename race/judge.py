"""The judge of the race: one number, a fixed budget, seeds of its own. No attempt changes it.

An attempt is `attempt.py` beside it: `zero(seed, budget)` or `imitation(games, seed, budget)`
returns a network. It learns in processes of its own, a core and a seed each, and comes back as an
exported program, so that nothing of the attempt runs where it is judged. Every result holds a hash
of this file and of the positions that it judges by (program.md, README.md).
"""

import csv
import functools
import hashlib
import io
import math
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from minigo.crew import Crew
from minigo.games import load_human_games
from minigo.machine import list_cores, write_whole
from minigo.network import planes_of
from minigo.prediction import choose_places
from minigo.window import Batch, render

FOLDER = Path(__file__).parent
MINUTES = {"imitation": 5.0, "zero": 10.0}  # of one core
SPREAD = {"imitation": 0.018, "zero": 0.094}  # standard deviation of the metric of five baselines
HELD_OUT = 20_000  # positions of people's games
PAUSE_S = 240.0  # that compiling may take at most
OVER, OVER_MIN = 0.1, 0.25  # share of the budget, and minutes, by which it may be missed
LATE = 3.0  # times the budget, after which an attempt that doesn't come back is ended
COLUMNS = ("commit", "track", "budget", "metric", "policy_nats", "value_error", "spread", "seeds")
COLUMNS += ("status", "lines", "judge", "machine", "note")
FIGURES = ("metric", "policy_nats", "value_error")
EACH = ("metric", "evaluations", "samples")  # shown of each seed, too
KEPT = ("baseline", "keep", "shorter")  # statuses of a row that the next attempt is compared with


@dataclass
class Budget:
    """What an attempt may spend: minutes of its core, or evaluations and samples."""

    most: dict[str, float]  # of "minutes", or of "evaluations" and "samples"
    spent: dict[str, float] = field(default_factory=lambda: {"evaluations": 0, "samples": 0})
    paused_s: float = 0.0
    start_s: float = field(default_factory=time.monotonic)

    def share(self) -> float:
        """Return how much is spent, in [0, 1]; at 1 an attempt returns its network."""
        return min(1.0, self.used())

    def used(self) -> float:
        """Return how much is spent, more than 1 where it was too much."""
        elapsed_s = time.monotonic() - self.start_s - min(self.paused_s, PAUSE_S)
        spent = self.spent | {"minutes": elapsed_s / 60}
        return max(spent[name] / most if most else 1.0 for name, most in self.most.items())

    def spend(self, evaluations: int = 0, samples: int = 0) -> None:
        """Count positions that a network evaluated for play, and positions that it learned from."""
        self.spent["evaluations"] += evaluations
        self.spent["samples"] += samples

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the time that reading and compiling take, up to PAUSE_S in all."""
        start_s = time.monotonic()
        yield
        self.paused_s += time.monotonic() - start_s


class Judged(nn.Module):
    """What is judged of a network: positions (B, A) -> policy logits (B, A), value (B,)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net.float().cpu().eval()

    def forward(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.net(planes_of(positions))[:2]


def learn(folder: str, track: str, paths: list[str], seed: int, most: dict, out: str) -> dict:
    """Have the attempt learn, and write its network; return what it spent, and a hash of its start.

    The start is what it returns without a budget: of another seed it must be another.
    """
    torch.set_num_threads(1)
    path, module = Path(folder, "attempt.py"), types.ModuleType("attempt")
    sys.modules["attempt"] = module  # where torch.compile looks its functions up
    exec(compile(path.read_bytes(), path, "exec"), vars(module))
    attempt = vars(module)[track]
    if track == "imitation":
        attempt = functools.partial(attempt, load_human_games(paths, sizes=[9]).training)
    weights = attempt(seed, Budget(dict.fromkeys(most, 0.0))).state_dict().values()
    start = hashlib.blake2b(b"".join(w.float().numpy().tobytes() for w in weights), digest_size=8)
    budget = Budget(most)
    net = Judged(attempt(seed, budget))
    if (used := budget.used()) > 1 + OVER + OVER_MIN / most.get("minutes", math.inf):
        raise ValueError(f"it used {used:.2f} times its budget")
    minutes = (time.monotonic() - budget.start_s - budget.paused_s) / 60
    example = (torch.zeros(2, 82, dtype=torch.int32),)
    shapes = {"positions": {0: torch.export.Dim("batch")}}
    torch.export.save(torch.export.export(net, example, dynamic_shapes=shapes), out)
    parameters = sum(weight.numel() for weight in net.parameters())
    return budget.spent | {
        "minutes": minutes,
        "paused_s": budget.paused_s,
        "parameters": parameters,
        "start": start.hexdigest(),
    }


def load_positions(track: str, paths: list[str]) -> tuple[torch.Tensor, ...]:
    """Return positions (P, A) int32, and for each what is right: policy (P, A) and value (P,)."""
    if track == "zero":
        with np.load(FOLDER / "oracle.npz") as file:
            visits = file["visits"].astype(np.float32)
            value = file["value"].astype(np.float32)
            arrays = file["positions"], visits / visits.sum(1, keepdims=True), value
    else:
        places = choose_places(load_human_games(paths, sizes=[9]).held_out, HELD_OUT)
        parts = [render(record, [ply]) for record, ply in places]
        batch = Batch(*map(np.concatenate, zip(*parts, strict=True)))
        arrays = batch.positions, batch.policy.astype(np.float32), batch.value
    return tuple(map(torch.from_numpy, arrays))


@torch.inference_mode()
def judge(net: Callable, positions: tuple[torch.Tensor, ...]) -> dict[str, float]:
    """Return the policy's cross-entropy in nats, the value's mean squared error, and their sum.

    net: positions -> policy logits, value. Positions whose value is NaN, unknown, teach no value.
    Raises ValueError where the network's answers are not numbers.
    """
    sums, counts = np.zeros(2), np.zeros(2)
    for inputs, policy, value in zip(*(x.split(500) for x in positions), strict=True):
        logits, found = net(inputs)
        is_known = ~value.isnan()
        sums[0] -= (policy * logits.log_softmax(1)).sum().item()
        sums[1] += ((found - value) ** 2)[is_known].sum().item()
        counts += len(inputs), is_known.sum().item()
    nats, error = (sums / np.maximum(counts, 1)).tolist()
    if not math.isfinite(nats + error):
        raise ValueError("its network answers with what is not a number")
    return {"metric": nats + error, "policy_nats": nats, "value_error": error}


def run_attempt(
    track: str, paths: list[str], most: dict, num_seeds: int, positions: tuple[torch.Tensor, ...]
) -> list[dict]:
    """Have the attempt learn with so many seeds; return for each what it spent and reached.

    Raises ValueError where it fails.
    """
    seeds, results = [secrets.randbelow(1 << 31) for _ in range(num_seeds)], []
    num_cores = min(num_seeds, len(list_cores()))
    rounds = -(-num_seeds // num_cores)
    late_s = time.monotonic() + rounds * (60 * LATE * most.get("minutes", math.inf) + 2 * PAUSE_S)
    with tempfile.TemporaryDirectory() as folder, Crew(learn, num_cores) as crew:
        waiting = [(seed, str(Path(folder, f"{seed}.pt2"))) for seed in seeds]
        while len(results) < num_seeds:
            while crew.idle and waiting:
                seed, out = waiting.pop()
                crew.give(str(FOLDER), track, paths, seed, most, out)
            done = crew.wait(None if late_s == math.inf else max(0.0, late_s - time.monotonic()))
            if not done:
                raise ValueError("it ran past its budget and was ended")
            for (*_, seed, _, out), spent in done:
                net = torch.export.load(out).module()
                results.append({"seed": seed} | judge(net, positions) | spent)
    if len({result["start"] for result in results}) < num_seeds:
        raise ValueError("two seeds begin with the same network: the judge's seed isn't used")
    return results


def digest(positions: tuple[torch.Tensor, ...]) -> str:
    """Return a hash of the judge and of what it judges by."""
    found = hashlib.blake2b(Path(__file__).read_bytes(), digest_size=6)
    for array in positions:
        found.update(array.numpy().tobytes())
    return found.hexdigest()


def verdict(metric: float, num_seeds: int, lines: int, best: dict | None, spread: float) -> str:
    """Compare with the best row so far: keep, tie, shorter (a tie with less code) or discard.

    Only what lies beyond two standard deviations of the difference of the two means counts.
    """
    if best is None:
        return "baseline"
    num_before = len(best["seeds"].split())
    margin = 2 * spread * math.sqrt(1 / num_seeds + 1 / num_before)
    difference = metric - float(best["metric"])
    if abs(difference) <= margin:
        return "shorter" if lines < int(best["lines"]) else "tie"
    return "keep" if difference < 0 else "discard"


def race(
    track: str, paths: list[str] = (), budget: str = "", num_seeds: int = 2, note: str = ""
) -> dict:
    """Run the attempt, judge it, add its row to results.tsv, draw progress.png; return all figures.

    budget: "minutes=10" or "evaluations=5e6,samples=1e6"; "": the track's minutes. An attempt that
    fails is a row, too; the first one of a track, a budget, a judge and a machine is a baseline.
    """
    start_s, paths = time.monotonic(), [str(path) for path in paths]
    if track == "imitation" and not paths:
        raise ValueError("imitation needs an archive of games to learn from")
    most = parse_budget(budget) if budget else {"minutes": MINUTES[track]}
    positions = load_positions(track, paths)
    row = describe_attempt(track, most, digest(positions), note)
    print(f"{track}: {num_seeds} seeds, {row['budget']} for each", file=sys.stderr)
    try:
        results = run_attempt(track, paths, most, num_seeds, positions)
    except ValueError as error:
        row |= {"status": "crash", "note": f"{row['note']} ({error})"}
        figures = {}
    else:
        numbers = {key: [each[key] for each in results] for key in results[0] if key != "start"}
        seeds = " ".join(map(str, numbers.pop("seed")))
        figures = {key: statistics.mean(values) for key, values in numbers.items()}
        best = find_best(row)
        row["status"] = verdict(figures["metric"], num_seeds, row["lines"], best, SPREAD[track])
        row |= {key: f"{figures[key]:.4f}" for key in FIGURES}
        row |= {"spread": f"{statistics.stdev(numbers['metric']):.4f}", "seeds": seeds}
        figures |= {f"each_{key}": " ".join(f"{x:.4g}" for x in numbers[key]) for key in EACH}
        figures["best"] = f"{best['metric']} ({best['commit']})" if best else "none"
    add_result(row)
    draw(row)
    return figures | row | {"total_s": round(time.monotonic() - start_s)}


def repeat(command: str, num_attempts: int, **how) -> dict:
    """Have a program change the attempt, run and judge it, keep it or put it back; and again.

    command: for a shell, in this folder; the last line that it prints is the note. What is kept is
    committed, where the folder is under git. how: of `race`.
    """
    path = FOLDER / "attempt.py"
    last = race(**how, note="as it was before the loop")
    if last["status"] == "crash":
        raise ValueError(f"the attempt fails before anything is changed: {last['note']}")
    for _ in range(num_attempts):
        before, is_kept, judge_before = path.read_bytes(), False, last["judge"]
        try:
            note = change_attempt(command)
            last = race(**how, note=note)
            if last["judge"] != judge_before:
                raise ValueError(f"{command} changed the judge or its positions")
            is_kept = last["status"] in KEPT
        finally:
            if not is_kept:
                write_whole(path, before)
        if is_kept:
            git("add", "attempt.py", "results.tsv")
            git("commit", "--quiet", "-m", f"race: {note}", "--", "attempt.py", "results.tsv")
        print(format_block(last), file=sys.stderr)
    return last


def change_attempt(command: str) -> str:
    """Have a program change the attempt; return the last line that it prints."""
    before = (FOLDER / "attempt.py").read_bytes()
    done = subprocess.run(command, shell=True, cwd=FOLDER, stdout=subprocess.PIPE)
    if done.returncode:
        raise ValueError(f"{command}: exit status {done.returncode}")
    if (FOLDER / "attempt.py").read_bytes() == before:
        raise ValueError(f"{command} changed nothing")
    return (done.stdout.decode(errors="replace").strip().splitlines() or ["no note"])[-1]


def describe_attempt(track: str, most: dict[str, float], judged_by: str, note: str) -> dict:
    """Return a row of results.tsv without results."""
    text = (FOLDER / "attempt.py").read_text(encoding="utf-8")
    return dict.fromkeys(COLUMNS, "") | {
        "commit": find_commit(),
        "track": track,
        "budget": ",".join(f"{name}={value:g}" for name, value in most.items()),
        "lines": sum(bool(line.strip()) for line in text.splitlines()),
        "judge": judged_by,
        "machine": describe_machine(),
        "note": " ".join(note.split()),
    }


def find_best(row: dict) -> dict | None:
    """Return what an attempt is compared with: the least metric kept under equal conditions.

    Not the last one, or ties that are kept for less code could add up to a loss; of it the lines.
    """
    rows = select_like(row, "track", "budget", "judge", "machine")
    kept = [old for old in rows if old["status"] in KEPT]
    best = min(kept, key=lambda old: float(old["metric"]), default=None)
    return best and best | {"lines": kept[-1]["lines"]}


def select_like(row: dict, *columns: str) -> list[dict]:
    """Return the results that are equal to a row in some columns, the oldest first."""
    rows = read_results()
    return [old for old in rows if all(old[name] == row[name] for name in columns)]


def parse_budget(text: str) -> dict[str, float]:
    """Read "minutes=10" or "evaluations=5e6,samples=1e6"."""
    try:
        most = {name: float(value) for name, value in (x.split("=") for x in text.split(","))}
    except ValueError:
        most = {}
    is_known = set(most) in ({"minutes"}, {"evaluations", "samples"})
    if not is_known or not all(0 < value < math.inf for value in most.values()):
        raise ValueError(f"budget {text!r} is neither minutes=M nor evaluations=E,samples=S")
    return most


def read_results() -> list[dict]:
    """Return the rows of results.tsv."""
    path = FOLDER / "results.tsv"
    if not path.exists():
        return []
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")), delimiter="\t"))
    if any(set(row) != set(COLUMNS) or None in row.values() for row in rows):
        raise ValueError(f"{path} has not the columns {' '.join(COLUMNS)}")
    return rows


def add_result(row: dict) -> None:
    """Append a row to results.tsv."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, delimiter="\t", lineterminator="\n")
    writer.writeheader()
    writer.writerows([*read_results(), row])
    write_whole(FOLDER / "results.tsv", text.getvalue())


def draw(row: dict) -> None:
    """Draw all attempts like that of `row`, the kept ones as a line, where matplotlib is there."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    rows = select_like(row, "track", "budget", "machine")
    points = [(i, float(old["metric"]), old) for i, old in enumerate(rows) if old["metric"]]
    if not points:
        return
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel="attempt", ylabel="metric (less is better)", title=row["track"])
    axes.plot(*zip(*((i, metric) for i, metric, _ in points), strict=True), "o", color="0.7")
    kept = [point for point in points if point[2]["status"] in KEPT]
    axes.step([i for i, *_ in kept], [metric for _, metric, _ in kept], "o-", where="post")
    for i, metric, old in kept:
        axes.annotate(f" {old['note'][:40]}", (i, metric), rotation=20, fontsize=7)
    figure.savefig(FOLDER / "progress.png", dpi=120)


def describe_machine() -> str:
    """Name the processor, its best instructions for networks, and a GPU."""
    can = torch.cpu.get_capabilities()
    best = [name for name in ("amx_bf16", "avx512_bf16", "avx512_vnni", "avx2") if can.get(name)]
    gpu = [torch.cuda.get_device_name()] if torch.cuda.is_available() else []
    return " ".join([can.get("cpu_name") or can.get("architecture", "?"), *best[:1], *gpu])


def git(*words: str) -> str:
    """Return what a git command says of this folder; nothing where it can't."""
    try:
        result = subprocess.run(["git", *words], cwd=FOLDER, capture_output=True, text=True)
    except OSError:
        return ""
    return result.stdout.strip()


def find_commit() -> str:
    """Name the commit, with a + where the attempt isn't in it."""
    changed = git("status", "--porcelain", "--", "attempt.py")
    return (git("rev-parse", "--short", "HEAD") or "-") + "+" * bool(changed)


def format_block(result: dict) -> str:
    """Write figures as `key: value` lines."""
    return "\n".join(["---", *(f"{key}: {value}" for key, value in result.items())])
