"""Ranks of one run: together they are one learner, and none disturbs another's files."""

import json
import os
import signal
import socket
import subprocess
import sys
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from conftest import wait_until  # noqa: E402
from minigo import learner, loop  # noqa: E402
from minigo.checkpoint import load_checkpoint  # noqa: E402
from minigo.config import Recipe, TrainConfig, load_recipe  # noqa: E402
from minigo.distributed import gather, joined  # noqa: E402
from minigo.lab.progress import format_row  # noqa: E402
from minigo.learner import Learner  # noqa: E402
from minigo.network import PolicyValueNet  # noqa: E402
from minigo.record import read_records  # noqa: E402
from minigo.window import Batch  # noqa: E402
from test_loop import load_log, recipe_path  # noqa: E402, F401

ROWS = 16
TIMES = {"elapsed_s", "learner_share", "samples_per_s"}  # what no two runs have alike


def make_batch(seed: int, rows: slice) -> Batch:
    rng = np.random.default_rng(seed)
    positions = rng.integers(1 << 18, size=(ROWS, 26), dtype=np.int32)
    positions[:, -1] = 0  # komi
    policy = rng.dirichlet(np.ones(26), ROWS).astype(np.float32)
    reply, owner = rng.integers(26, size=ROWS), rng.integers(-1, 2, size=(ROWS, 25), dtype=np.int8)
    value, score = rng.choice([-1, 1], ROWS), rng.normal(0, 5, ROWS)
    arrays = (positions, policy, reply, value.astype(np.float32), score.astype(np.float32), owner)
    return Batch(*(torch.from_numpy(array[rows]) for array in arrays))


def learn(rows: slice) -> tuple[list, list, dict]:
    """Return gradients of a batch, weights after 20 more steps, and all state after another."""
    learner.is_bfloat16_fast = lambda device: False
    torch.manual_seed(1)
    ours = Learner(PolicyValueNet("b1c8"), TrainConfig(batch_size=ROWS), "cpu")
    ours.net.eval()  # else each rank has batch norms of its own
    ours._learn(*make_batch(0, rows))
    grads = [weight.grad.clone() for weight in ours.net.parameters()]
    ours.net.train()
    ours.optimizer.rate.fill_(0.01)
    for step in range(20):
        ours._learn(*make_batch(step, rows))
    weights = [weight.detach().clone() for weight in ours.net.parameters()]
    ours.train(iter([make_batch(20, rows)]), 1, float)
    parts = (ours.net, ours.average, ours.optimizer)
    return grads, weights, [value for part in parts for value in part.state_dict().values()]


def learn_as_rank(rank: int, port: int, folder: Path) -> None:
    """Learn from half of each batch, as one of two ranks that torchrun started."""
    values = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    values |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
    os.environ.update({name: str(value) for name, value in values.items()})
    with joined(Recipe(device="cpu")) as (_, number):
        assert number == rank and gather(7, rank).tolist() == [[7, 0], [7, 1]]
        torch.save(learn(slice(rank * ROWS // 2, (rank + 1) * ROWS // 2)), folder / str(rank))


def test_two_ranks_learn_as_one_with_the_whole_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(learner, "is_bfloat16_fast", None)  # put back when `learn` has been here
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    ranks = [
        get_context("spawn").Process(target=learn_as_rank, args=(rank, port, tmp_path))
        for rank in range(2)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(100)
        assert rank.exitcode == 0
    first, second = (torch.load(tmp_path / str(rank)) for rank in range(2))
    for ours, whole in zip(first[0], learn(slice(None))[0], strict=True):
        torch.testing.assert_close(ours, whole, rtol=1e-6, atol=1e-6)
    for name, ours, theirs in zip(("gradients", "weights", "states"), first, second, strict=True):
        assert all(map(torch.equal, ours, theirs)), name


def torchrun(num_ranks: int, recipe: Path, *settings: str, **how) -> subprocess.Popen:
    """Start a run in the recipe's folder, whose output goes nowhere."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={num_ranks}", "-m", "minigo", "train", recipe.name, "--no-match"]
    command += [word for setting in settings for word in ("--set", setting)]
    return subprocess.Popen(command, cwd=recipe.parent, stderr=subprocess.PIPE, text=True)


def test_a_single_rank_writes_what_a_run_without_torchrun_does(recipe_path, tmp_path):  # noqa: F811
    run = torchrun(1, recipe_path, "cycles=2")
    loop.run(load_recipe(recipe_path, ["cycles=2"]), "tiny", tmp_path / "alone")
    assert run.wait(100) == 0, run.stderr.read()
    found = []
    for root in (tmp_path, tmp_path / "alone"):
        games = {path.name: path.read_bytes() for path in (root / "selfplay" / "tiny").iterdir()}
        state = load_checkpoint(root / "checkpoints" / "tiny" / "latest.safetensors").state
        arrays = {name: x.tobytes() for name, x in state.items() if isinstance(x, np.ndarray)}
        rows = [{k: v for k, v in row.items() if k not in TIMES} for row in load_log(root)]
        names = {path.name for path in (root / "checkpoints" / "tiny").iterdir()}
        found.append((games, arrays, rows, names))
    assert found[0] == found[1] and len(found[0][0]) == 2 and "rank_games" not in found[0][2][0]


def test_a_rank_that_dies_ends_all_and_the_run_goes_on_with_any_number(recipe_path, tmp_path):  # noqa: F811
    networks = tmp_path / "checkpoints" / "tiny"
    run = torchrun(2, recipe_path, "cycles=1000")
    wait_until((networks / "rank-1" / "cycle-0002.safetensors").exists)
    ranks = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    assert len(ranks) == 2
    os.kill(int(ranks[1]), signal.SIGKILL)
    assert run.wait(60) != 0 and not any(Path("/proc", rank).exists() for rank in ranks)
    num_cycles = len(load_log(tmp_path))
    assert num_cycles >= 1
    loop.run(load_recipe(recipe_path, [f"cycles={num_cycles + 1}"]), "tiny", tmp_path)
    run = torchrun(2, recipe_path, f"cycles={num_cycles + 2}")
    assert run.wait(100) == 0, run.stderr.read()
    log = load_log(tmp_path)
    assert [row["cycle"] for row in log] == list(range(1, num_cycles + 3))
    for before, row in pairwise(log):
        assert row["step"] > before["step"] and row["elapsed_s"] > before["elapsed_s"]
        assert row["games"] == sum(row.get("rank_games", [row["games"]]))
    name = f"cycle-{num_cycles + 2:04d}.safetensors"
    ours, theirs = (load_checkpoint(folder / name) for folder in (networks, networks / "rank-1"))
    assert all((theirs.weights[key] == weight).all() for key, weight in ours.weights.items())
    games = []
    for folder in (tmp_path / "selfplay" / "tiny", tmp_path / "selfplay" / "tiny" / "rank-1"):
        records = [record for path in folder.glob("*.games") for record in read_records(path)[0]]
        games.append({record.moves.tobytes() + record.policies.tobytes() for record in records})
    assert [len(each) for each in games] == row["rank_games"] and not games[0] & games[1]
    assert f"; rank 1: {len(games[1])} games" in format_row(row)
    log = (networks / "rank-1" / "log.jsonl").read_text().splitlines()
    assert json.loads(log[-1])["step"] == row["step"]
