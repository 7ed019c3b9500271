"""Nodes of a Ray cluster, all on this machine: their games are those of local workers, once."""

import os
import random
import signal
import sys
import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

pytest.importorskip("torch")
ray = pytest.importorskip("ray", reason="Ray isn't installed: pip install 'minigo[ray]'")
from ray.cluster_utils import Cluster  # noqa: E402

from conftest import save_network  # noqa: E402
from minigo import cli, loop, nodes  # noqa: E402
from minigo.checkpoint import cycle_path  # noqa: E402
from minigo.cluster import ROOM, Tasks  # noqa: E402
from minigo.config import load_recipe  # noqa: E402
from minigo.lab.ladder import list_players, rate, read_results  # noqa: E402
from minigo.play.match import MatchConfig, play_games, play_on_nodes  # noqa: E402
from minigo.record import MAGIC, read_records  # noqa: E402
from minigo.workers import Worker  # noqa: E402
from test_loop import load_games, load_log, recipe_path  # noqa: E402, F401

PATIENCE_S = 120


@pytest.fixture(scope="module")
def cluster():
    """Two nodes with a core each; the head plays no part."""
    # A short name: Ray's sockets lie in it, whose paths have 107 bytes at most.
    folder = TemporaryDirectory(ignore_cleanup_errors=True)
    with folder as temporary, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # else whoever else is at work comes first
        patch.setenv("TMPDIR", temporary)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        cluster.rooms = lambda: {*Path(temporary).glob(f"{ROOM}*")}
        yield cluster
        cluster.shutdown()


@pytest.fixture
def run(recipe_path, tmp_path, monkeypatch):  # noqa: F811
    """A recipe, a folder with a network and one for games; nodes that are quick to answer."""
    monkeypatch.setattr(nodes, "LOOK_S", 0.5)
    recipe = load_recipe(recipe_path, ["games_per_cycle=8"])
    networks, records = tmp_path / "networks", tmp_path / "games"
    networks.mkdir()
    records.mkdir()
    save_network(cycle_path(networks, 0), elapsed_s=0.0)
    return recipe, networks, records, 0


def play_until(play, is_done) -> list[dict]:
    """Play on until it is so, of what the log says of the nodes; return that."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_done(found := play(1, True)["nodes"]):
        assert time.monotonic() < deadline, found
    return found


def have_games(num_nodes: int, found: list[dict]) -> bool:
    return sum(node["games"] > 0 for node in found) >= num_nodes


def check_games(run: tuple, folder: Path) -> dict[int, int]:
    """Assert that of each worker there are the first games that it plays here, each once, in order.

    Returns how many of each.
    """
    recipe, networks, records, sitting = run
    chunks = defaultdict(bytes)
    for path in sorted(records.iterdir(), key=lambda path: int(path.stem.split("-")[-1])):
        assert path.suffix == ".games" and not read_records(path)[1]
        chunks[int(path.name.split("-")[2])] += path.read_bytes()
    for number, chunk in chunks.items():
        mine = folder / str(number)
        mine.mkdir()
        Worker(number, recipe, networks, mine, [recipe.seed, sitting]).play(chunk.count(MAGIC))
        assert next(mine.iterdir()).read_bytes().startswith(chunk)
    return {number: chunk.count(MAGIC) for number, chunk in chunks.items()}


def test_games_are_those_of_local_workers_and_actors_may_be_killed(cluster, run, tmp_path, capsys):
    chance = random.Random(1)
    with nodes.Cluster(cluster.address, *run) as (play, _):
        pending = play.__self__.pending
        play_until(play, partial(have_games, 2))
        for number in range(10):  # every other one as soon as it is there
            play_until(play, lambda found, n=number % 2: found and have_games(n, found))
            time.sleep(chance.uniform(0.0, 1.5))
            ray.kill(chance.choice([*pending.values()])[0])
        found = play_until(play, partial(have_games, 2))
        assert 2 <= len(cluster.rooms()) <= 3  # the last one killed may have left the third
    games = check_games(run, tmp_path)
    assert {0, 1} < set(games) and len(found) == 2  # the first two, and who came for them
    errors = [line for line in capsys.readouterr().err.splitlines() if "no more games" in line]
    assert 5 <= len(errors) <= 10
    assert sum(games.values()) >= sum(node["games"] for node in found)


def test_nodes_come_and_go_and_take_each_new_network(cluster, run):
    _, networks, records, _ = run
    with nodes.Cluster(cluster.address, *run) as (play, _):
        play_until(play, partial(have_games, 2))
        late = cluster.add_node(num_cpus=1)
        play_until(play, partial(have_games, 3))
        for cycle in (3, 2, 1):  # as if the nodes had missed two
            save_network(cycle_path(networks, cycle), elapsed_s=0.0)
        play_until(play, lambda _: any(records.glob("cycle-0003-*")))
        cluster.remove_node(late)
        play_until(play, lambda found: len(found) == 2)
    games = [game for path in records.iterdir() for game in read_records(path)[0]]
    assert {game.source for game in games} == {"cycle-0000", "cycle-0003"}


def test_a_node_with_another_version_is_refused_in_one_line(cluster, run, monkeypatch, capsys):
    monkeypatch.setattr(nodes, "__version__", "9.9")
    monkeypatch.setattr(nodes, "LOOK_S", 1e6)
    with nodes.Cluster(cluster.address, *run) as (play, _):
        play_until(play, lambda found: not found)
    lines = [line for line in capsys.readouterr().err.splitlines() if "it has minigo" in line]
    assert len(lines) == 2 and not any(run[2].iterdir())
    assert all(line.endswith("ValueError: it has minigo 0.1.0, not 9.9") for line in lines)


def kill_a_task(cluster) -> bool:
    for node in cluster.list_all_nodes():
        raylet = node.all_processes["raylet"][0].process.pid
        for pid in Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split():
            if b"play_there" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(int(pid), signal.SIGKILL)
                return True
    return False


def test_a_match_has_each_game_once_whoever_is_killed(cluster, network, monkeypatch):
    jobs, give = [], Tasks.give

    def note(tasks, a, b, numbers, config):
        jobs.append((numbers, config))
        give(tasks, a, b, numbers, config)

    monkeypatch.setattr(Tasks, "give", note)
    players = list_players([f"{network}@60", f"{network}@40"], (), 5)
    games, was_killed = [], False
    for game in play_on_nodes(cluster.address, *players, range(12), MatchConfig(size=5)):
        games.append((game.number, game.moves))
        was_killed = was_killed or kill_a_task(cluster)
    assert was_killed and len(jobs) == 6
    here = [(game.number, game.moves) for job in jobs for game in play_games(*players, *job)]
    assert sorted(games) == sorted(here)


def test_a_ladder_is_played_by_the_nodes(cluster, network, tmp_path):
    players = list_players([network], (0, 16), 5)
    limits = {"max_games": 30, "sprt_elo": 0}
    report = rate(players, tmp_path, MatchConfig(size=5), **limits, ray=cluster.address)
    rows = read_results(tmp_path)
    assert report["games"] == len(rows) == len({row["sgf"] for row in rows}) == 30
    assert all("SZ[5]" in (tmp_path / row["sgf"]).read_text() for row in rows)
    assert len({(tmp_path / row["sgf"]).read_text() for row in rows}) > 20
    assert not cluster.rooms()


def test_what_is_wrong_with_a_cluster_is_one_line(cluster, network, monkeypatch, capsys):
    words = ["match", f"{network}@1", f"{network}@0", "--size", "5", "--games", "2", "--ray"]
    for address, command, line in [
        (cluster.address, "gtp:/no/program", "ValueError: GTP program '/no/program' doesn't start"),
        ("127.0.0.1:1", None, "no Ray cluster at 127.0.0.1:1: [Errno 111] Connection refused"),
        ("no.such.host:1", None, "no Ray cluster at no.such.host:1: "),
    ]:
        started_s = time.monotonic()
        assert cli.main([*words[:2], command or words[2], *words[3:], address]) == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith(f"minigo: {line}")
        assert time.monotonic() - started_s < 20
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "minigo.cluster")
    assert cli.main([*words, cluster.address]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "minigo: this takes Ray: pip install 'minigo[ray]'"


def test_a_run_learns_from_the_games_of_its_nodes(cluster, recipe_path, tmp_path, capsys):  # noqa: F811
    words = ["train", str(recipe_path), "--root", str(tmp_path), "--no-match"]
    assert cli.main([*words, "--ray", cluster.address, "--set", "games_per_cycle=16"]) == 0
    games, log = load_games(tmp_path), load_log(tmp_path)
    assert [row["cycle"] for row in log] == [1, 2, 3]
    for row in log:
        assert 16 * row["cycle"] <= row["games"] <= len(games)
        assert row["step"] * 128 + row["owed"] == 4 * row["positions"]
        assert {node["players"] for node in row["nodes"]} == {1}
        assert all(node["games"] == 0 or node["games_per_s"] > 0 for node in row["nodes"])
    assert "1 players" in capsys.readouterr().err
    loop.run(load_recipe(recipe_path, ["cycles=4"]), "tiny", tmp_path)  # without the cluster
    assert len(games) <= load_log(tmp_path)[-1]["games"]
