"""The loop on 5x5: a whole run, killed at random moments, resumed, repeated, refused."""

import contextlib
import json
import multiprocessing
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
from conftest import kill_with_children, wait_until
from minigo import loop, workers  # noqa: E402
from minigo.architecture import Network  # noqa: E402
from minigo.checkpoint import cycle_path, load_checkpoint, save_checkpoint  # noqa: E402
from minigo.config import Recipe, SearchConfig, SelfplayConfig, load_recipe  # noqa: E402
from minigo.crew import LOW_PRIORITY, locked  # noqa: E402
from minigo.lab import ladder, progress  # noqa: E402
from minigo.network import PolicyValueNet, as_arrays  # noqa: E402
from minigo.record import GameRecord, read_records  # noqa: E402
from minigo.workers import full_simulations  # noqa: E402
from test_record import make_record, write_file  # noqa: E402

RECIPE = """
size = 5
network = "b1c8"
minutes = 0.0
cycles = 3
games_per_cycle = 24
device = "cpu"
[search]
root = "gumbel"
simulations = 4
[selfplay]
workers = 1
games_at_once = 8
[training]
batch_size = 128
"""
COMMAND = [sys.executable, "-m", "minigo", "train", "tiny.toml", "--no-match"]


@pytest.fixture
def recipe_path(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def run(recipe_path, tmp_path):
    """Return a function that does a run of RECIPE with other settings."""

    def run(*settings: str, name: str = "tiny", **options) -> Path:
        return loop.run(load_recipe(recipe_path, settings), name, tmp_path, **options)

    return run


def load_games(root: Path) -> list[GameRecord]:
    paths = sorted((root / "selfplay" / "tiny").glob("*.games"))
    return [game for path in paths for game in read_records(path)[0]]


def load_log(root: Path) -> list[dict]:
    text = (root / "checkpoints" / "tiny" / "log.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_a_run_repeats_with_its_seed_and_does_nothing_more_when_done(recipe_path, tmp_path):
    recipe = load_recipe(recipe_path)
    runs = []
    for name in ("a", "b"):
        network = loop.run(recipe, "tiny", tmp_path / name)
        games = [game.moves.tolist() for game in load_games(tmp_path / name)]
        runs.append((games, load_checkpoint(network).weights))
    assert runs[0][0] == runs[1][0]
    assert all((runs[0][1][key] == runs[1][1][key]).all() for key in runs[0][1])
    before = sorted((tmp_path / "a").rglob("*"))
    assert loop.run(recipe, "tiny", tmp_path / "a").name == "cycle-0003.safetensors"
    assert sorted((tmp_path / "a").rglob("*")) == before


def test_a_second_run_in_the_same_folder_is_refused(run, tmp_path):
    with locked(tmp_path / "checkpoints" / "tiny"), pytest.raises(ValueError, match="another"):
        run()


def test_a_state_of_another_network_is_refused(run):
    run("cycles=1")
    with pytest.raises(ValueError, match="of a run with b1c8, not b1c16"):
        run("network=b1c16")
    with pytest.raises(ValueError, match="of a run with seed 1, not seed 2"):
        run("seed=2")


def test_a_state_that_an_older_minigo_left_is_refused(run):
    latest = run("cycles=1").with_name("latest.safetensors")
    old = load_checkpoint(latest)
    del old.state["step"]
    for info in (old.info, {"made_by": "imitation"}):
        save_checkpoint(latest, Network(old.network, old.weights), info, old.state)
        with pytest.raises(ValueError, match="safetensors is no state of a run of this minigo$"):
            run()


def test_a_run_goes_on_with_another_recipe(run, tmp_path):
    for cycle, games in enumerate((24, 6, 30), start=1):
        settings = f"cycles={cycle} samples_per_position={5 - cycle} games_per_cycle={games} "
        settings += f"training.learning_rate=0.0{cycle} training.batch_size={192 // cycle}"
        run(*settings.split())
    before = {"games": 0, "positions": 0, "step": 0, "owed": 0}
    for cycle, row in enumerate(load_log(tmp_path), start=1):
        assert 0 <= row["games"] - before["games"] - (24, 6, 30)[cycle - 1] < 3
        samples = (row["step"] - before["step"]) * (192 // cycle) + row["owed"] - before["owed"]
        assert samples == (5 - cycle) * (row["positions"] - before["positions"]) > 0
        before = row


def test_imitation_is_only_another_beginning(run, tmp_path):
    human, net = tmp_path / "human.safetensors", PolicyValueNet("b1c8", ranked=True)
    save_checkpoint(human, Network("b1c8", as_arrays(net.state_dict())), {}, half=True)
    settings = ["cycles=1", 'start="imitation"', f'start_from="{human}"', "network=b2c16"]
    run(*settings)
    first = load_checkpoint(cycle_path(tmp_path / "checkpoints" / "tiny", 0)).weights
    before = load_checkpoint(human).weights
    # Its own games have no ranks, and its statistics are its board size's.
    assert before.keys() ^ first.keys() == {"rank.weight", "sizes"} and first["sizes"] == [5]
    assert all((first[name] == before[name]).all() for name in first.keys() & before.keys())
    human.unlink()  # needed to begin, not to go on
    assert load_checkpoint(run(*settings, "cycles=2")).network == "b1c8"  # start_from's
    settings += ["grow_to=b2c8", "grow_games=0"]
    assert load_checkpoint(run(*settings, "cycles=3")).network == "b1c8"  # two thirds are done
    assert load_checkpoint(run(*settings, "cycles=7")).network == "b2c8"
    assert load_checkpoint(run(*settings, "cycles=8")).network == "b2c8"
    with pytest.raises(ValueError, match="of a run with .*human.safetensors, not 9x9-human"):
        run(*settings, "start_from=9x9-human")
    with pytest.raises(ValueError, match="of a run with imitation, not zero"):
        run("cycles=2")


def test_a_network_grows_and_first_learns_the_window(run, tmp_path):
    settings = ["grow_to=b2c16", "grow_games=60", "window_min=200", "samples_per_position=2"]
    settings += ["training.batch_size=32"]
    networks = run(*settings, "cycles=5").parent
    names = [load_checkpoint(cycle_path(networks, cycle)).network for cycle in range(4)]
    assert names == ["b1c8", "b1c8", "b1c8", "b2c16"]  # in the third cycle
    assert load_checkpoint(run(*settings, "cycles=6")).network == "b2c16"
    rows = load_log(tmp_path)
    assert [row["step"] for row in rows[:2]] == [2 * row["positions"] // 32 for row in rows[:2]]
    in_window = workers.window_positions(rows[2]["positions"], Recipe(window_min=200))
    assert 200 < in_window < rows[2]["positions"]
    assert rows[2]["step"] == in_window // 32  # each of them once
    new = rows[3]["positions"] - rows[2]["positions"]
    assert abs(rows[3]["step"] - rows[2]["step"] - 2 * new / 32) <= 1
    with pytest.raises(ValueError, match="of a run with b2c16, not b1c8"):
        run("cycles=7")
    with pytest.raises(ValueError, match="'huge' is not a network"):
        run("grow_to=huge", name="other")


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_tree_may_have_several_leaves_in_a_batch(run, tmp_path, monkeypatch, num_workers):
    monkeypatch.setattr(workers, "needs_server", lambda recipe: num_workers > 1)
    run(f"selfplay.workers={num_workers}", "search.leaves=3", "cycles=1")
    assert load_log(tmp_path)[0]["games"] >= 24


def test_the_window_grows_as_a_power_of_all_positions():
    recipe = Recipe(window_min=1000)
    sizes = [workers.window_positions(total, recipe) for total in (10, 1000, 2000, 16_000)]
    assert sizes == [1000, 1000, 1363, 4733]


def test_full_searches_grow_over_the_run():
    search = SearchConfig(simulations=16)
    recipe = Recipe(search=search, selfplay=SelfplayConfig(simulations_end=64))
    assert [full_simulations(recipe, share) for share in (0, 0.25, 1)] == [16, 28, 64]
    assert full_simulations(Recipe(search=search), 1.0) == 16


def test_workers_play_on_while_the_network_learns_and_no_game_is_lost(run, tmp_path):
    settings = ["selfplay.workers=2", "samples_per_position=20.0"]
    run(*settings, "cycles=4")
    folder = tmp_path / "selfplay" / "tiny"
    assert {path.suffix for path in folder.iterdir()} == {".games"}  # stopped, they closed theirs
    games, log = load_games(tmp_path), load_log(tmp_path)
    assert {path.name.split("-")[2] for path in folder.iterdir()} == {"0", "1"}
    for line in log:
        assert 24 * line["cycle"] <= line["games"] <= len(games)
        assert line["step"] + line["owed"] / 128 == pytest.approx(20 * line["positions"] / 128)
    assert max(int(game.source[-4:]) for game in games) >= 1  # a newer network was taken
    run(*settings, "cycles=5")  # counts those that came after the last cycle
    assert len(games) <= load_log(tmp_path)[-1]["games"] <= len(load_games(tmp_path))


def test_a_learner_that_falls_behind_publishes_all_the_same(run, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "LEARN_S", 0.05)
    run("selfplay.workers=2", "samples_per_position=1000")
    for row in load_log(tmp_path):
        assert row["step"] * 128 + row["owed"] == pytest.approx(1000 * row["positions"])
        assert row["owed"] > 500 * row["positions"] and row["step"] > 0


@pytest.mark.parametrize("victim", ["worker", "server's worker", "server"])
def test_a_process_that_dies_ends_the_run_in_one_line(run, tmp_path, monkeypatch, victim):
    monkeypatch.setattr(workers, "needs_server", lambda recipe: victim != "worker")

    def kill_one(row: dict) -> None:
        if row["cycle"] == 1:
            children = sorted(child.pid for child in multiprocessing.active_children())
            assert len(children) == (2 if victim == "worker" else 3)
            os.kill(children[0 if victim == "server" else -1], signal.SIGKILL)

    with pytest.raises(ValueError, match="^a process died; its message, if any, is above$"):
        run("selfplay.workers=2", "cycles=1000", after_cycle=kill_one)
    assert not multiprocessing.active_children()
    run("cycles=2")  # and it goes on
    games, log = load_games(tmp_path), load_log(tmp_path)
    assert len(log) == 2 and 48 <= log[-1]["games"] <= len(games)


def test_workers_end_with_a_killed_learner(recipe_path, tmp_path):
    options = ["--set", "selfplay.workers=2", "--set", "cycles=1000"]
    process = subprocess.Popen([*COMMAND, *options], cwd=tmp_path, stderr=subprocess.DEVNULL)
    wait_until((tmp_path / "checkpoints" / "tiny" / "cycle-0001.safetensors").exists)
    kill_with_children(process)


def test_ratings_are_kept_and_drawn(tmp_path, monkeypatch):
    asked = []

    def play(a, b, numbers, config):
        """Write results as if all had been played, and won by who is last in the alphabet."""
        asked.append({a.name, b.name})
        assert all(p.visits == 64 for p in (a, b) if p.checkpoint) and config.device == "cpu"
        row = {"a": a.name, "b": b.name, "points": float(a.name > b.name), "size": 5, "komi": 7}
        row["identities"] = [ladder._identify(player) for player in (a, b)]
        with open(tmp_path / "ladder" / "results.jsonl", "a") as file:
            file.writelines([json.dumps(row) + "\n"] * len(numbers))

    monkeypatch.setattr(progress, "play_job", play)
    monkeypatch.setattr(progress, "find_gnugo", lambda level: f"gtp:gnugo --level {level}")
    for cycle in range(4):
        cycle_path(tmp_path, cycle).write_bytes(b"network %d" % cycle)
    (tmp_path / "log.jsonl").write_text('{"cycle": 3, "games": 9, "elapsed_s": 60}')
    recipe = Recipe(size=5, device="cuda")  # which is the run's
    gnugo = {"gnugo-1", "gnugo-5", "gnugo-10"}
    for cycle in (1, 2, 3, 3):
        progress.rate_cycle(recipe, tmp_path, {"cycle": cycle, "elapsed_s": 60.0 * cycle})
        report = json.loads((tmp_path / "ladder" / "ladder.json").read_text())
        networks = {f"cycle-{rated:04d}" for rated in range(1, cycle + 1)}
        assert {player["name"] for player in report["players"]} == gnugo | networks
        assert set.union(*asked) == gnugo | networks
        assert report["games"] == 100 * len(progress.read_ratings(tmp_path))
    values, text = progress.describe_run(tmp_path)
    keys = ["cycle", "elapsed_s", "anchor", *progress.ELOS]
    assert [list(rating) for rating in values["ratings"]] == [keys] * 4
    assert [rating["cycle"] for rating in values["ratings"]] == [1, 2, 3, 3]
    assert text.count("#") > 40 and "0 = gnugo-10" in text
    rating = {"cycle": 7, "elapsed_s": 90, "anchor": "x", "elo": 12.4, "elo_low": -3.0}
    assert "    7        2  +12 (-3 to +40)" in progress.format_curve([rating | {"elo_high": 40.0}])
    monkeypatch.setattr(progress, "find_gnugo", lambda level: None)
    asked.clear()
    (tmp_path / "ladder" / "results.jsonl").unlink()
    progress.rate_cycle(recipe, tmp_path, {"cycle": 2, "elapsed_s": 60.0})
    assert set.union(*asked) == {"cycle-0000", "cycle-0002", "cycle-0003"}


def rate_when_told(recipe: Recipe, networks: Path, row: dict) -> None:
    """Stand in for `rate_cycle`, in its process: wait for a file, then rate, fail or die."""
    wait_until((networks / f"go-{row['cycle']}").exists)
    if row["cycle"] == 4:
        raise ValueError("no luck\nthis time")
    if row["cycle"] == 6:
        os._exit(1)
    rating = row | {"anchor": str(os.nice(0))} | dict.fromkeys(progress.ELOS, 0.0)
    with open(networks / "ratings.jsonl", "a") as file:
        file.write(json.dumps(rating) + "\n")


def test_ratings_are_played_beside_the_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "rate_cycle", rate_when_told)
    recipe = Recipe(rate_every=2)
    rows = [{"cycle": cycle, "games": 9, "elapsed_s": 60.0} for cycle in range(12)]

    def call_until(text: str) -> str:
        """Call it after a cycle that isn't due, again and again, until stderr says so."""
        errors, deadline = "", time.monotonic() + 60
        while text not in errors:
            assert time.monotonic() < deadline
            after_cycle(rows[1])
            errors += capsys.readouterr().err
            time.sleep(0.05)
        return errors

    with progress.follow(recipe, tmp_path) as after_cycle:
        for row in rows[1:5]:
            after_cycle(row)  # 2 is given, 4 comes too early
        assert len(multiprocessing.active_children()) == 1
        (tmp_path / "go-2").touch()
        errors = call_until(f"0 = {min(19, os.nice(0) + LOW_PRIORITY)}\n")
        assert "    2        1  +0 (+0 to +0)" in errors and "cycle 4: 9 games" in errors
        for cycle, line in ((4, "no luck this time"), (6, "a process died; its message")):
            after_cycle(rows[cycle])
            (tmp_path / f"go-{cycle}").touch()
            assert f"minigo: no rating: {line}" in call_until("minigo: no rating").splitlines()[-1]
        after_cycle(rows[8])
        (tmp_path / "go-8").touch()
    assert "the last rating is still being played" in capsys.readouterr().err
    assert [rating["cycle"] for rating in progress.read_ratings(tmp_path)] == [2, 8]
    with pytest.raises(KeyboardInterrupt), progress.follow(recipe, tmp_path) as after_cycle:
        after_cycle(rows[10])
        raise KeyboardInterrupt  # nobody waits for a rating then
    assert not multiprocessing.active_children()


def test_matches_use_the_recipes_device(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        progress, "match", lambda a, b, n, config: asked.append(config.device) or {}
    )
    monkeypatch.setattr(progress, "find_gnugo", lambda level: None)
    progress.measure(Recipe(device="cuda"), tmp_path, cycle_path(tmp_path, 1))
    assert asked == ["cuda"]


def rate_few(recipe: Recipe, networks: Path, row: dict) -> None:
    """Rate with a few games, and without GNU Go."""
    progress.RATE_GAMES, progress.find_gnugo = 6, lambda level: None
    progress.rate_cycle(recipe, networks, row)


@pytest.mark.slow
def test_a_rating_is_played_on_the_runs_ladder(recipe_path, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "rate_cycle", rate_few)
    recipe = load_recipe(recipe_path, ["cycles=1", "rate_every=1"])
    networks = tmp_path / "checkpoints" / "tiny"
    with progress.follow(recipe, networks) as after_cycle:
        loop.run(recipe, "tiny", tmp_path, after_cycle)
    report = json.loads((networks / "ladder" / "ladder.json").read_text())
    (rating,) = progress.read_ratings(networks)
    assert report["games"] == 6 and rating["anchor"] == report["anchor"] == "cycle-0000"
    assert rating["elo_low"] < rating["elo"] < rating["elo_high"]


def test_one_run_plays_and_learns_several_board_sizes(run, tmp_path):
    network = run("shares=[[4, 1], [5, 1]]")
    games, log = load_games(tmp_path), load_log(tmp_path)
    sizes = {(game.source, game.size) for game in games}
    assert sizes == {("cycle-0000", 4), ("cycle-0001", 5), ("cycle-0002", 4)}
    assert log[-1]["positions"] == sum(len(game.policy_plies) for game in games)
    assert log[-1]["step"] == int(4 * log[-1]["positions"] / 128)
    assert load_checkpoint(network).info["cycle"] == 3
    with pytest.raises(ValueError, match=r"a 4x4 game among sizes \[5\]"):
        run("cycles=4")
    with pytest.raises(ValueError, match="leave nothing for size = 5"):
        run("shares=[[4, 1]]")


def test_a_run_begins_on_a_smaller_board(run, tmp_path):
    network = run("first_size=4", "first_games=1", "cycles=2")
    run("first_size=4", "first_games=1")  # goes on
    sizes = {(game.source, game.size) for game in load_games(tmp_path)}
    assert sizes == {("cycle-0000", 4), ("cycle-0001", 5), ("cycle-0002", 5)}
    run("first_size=4", "start=imitation", f"start_from={network}", "cycles=1", name="other")
    games = [read_records(path)[0] for path in (tmp_path / "selfplay" / "other").glob("*.games")]
    assert {game.size for game in games[0]} == {5}  # it isn't from zero
    assert load_log(tmp_path)[-1]["step"] > 0


@contextlib.contextmanager
def file_limit(num_bytes: int):
    """Have every write beyond so many bytes of a file fail, also in processes started here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_ends_the_run_in_one_line_and_it_goes_on_later(run, tmp_path, capfd):
    run("cycles=1")
    latest = tmp_path / "checkpoints" / "tiny" / "latest.safetensors"
    before = latest.read_bytes()
    # A game takes about 1 kB, the cycle's network 60.
    for limit, path in ((10_000, r"cycle-0001-0-0\.games"), (50_000, r"cycle-0002\.safetensors")):
        with file_limit(limit), pytest.raises((OSError, ValueError), match=path) as error:
            run("cycles=2")
        assert re.search("File too large|No space left on device", str(error.value))
        assert "\n" not in str(error.value)
        assert latest.read_bytes() == before
        assert not list(latest.parent.glob(".*.tmp"))
    run("cycles=2")
    games, log = load_games(tmp_path), load_log(tmp_path)
    assert [line["cycle"] for line in log] == [1, 2] and log[-1]["games"] == len(games)
    assert "Traceback" not in capfd.readouterr().err


def test_a_folder_is_read_in_order_and_once_and_torn_tails_are_named(tmp_path, capsys):
    names = ("cycle-10000-0-0", "cycle-9999-10-0", "cycle-9999-2-10", "cycle-9999-2-9")
    for moves, name in enumerate(names, start=1):
        write_file(tmp_path / f"{name}.games", [make_record(moves)])
    (tmp_path / "note.txt").write_text("not a record file")
    with open(tmp_path / "cycle-9999-10-0.games", "ab") as file:
        file.write(b"mGo2")
    games = loop.GameFolder(tmp_path, Recipe(size=5))
    batch = games.window.rings[5].batch(np.arange(10), np.zeros(10, int))
    starts = np.flatnonzero((batch.positions[:, :-1] & 3 == 0).all(1))  # no stone yet
    assert starts.tolist() == [0, 4, 7, 9]  # of games of 4, 3, 2 moves and one
    assert capsys.readouterr().err.count("cycle-9999-10-0.games: torn at byte") == 1
    write_file(tmp_path / "cycle-10001-0-0.games", [make_record(2)])
    games.read_new()
    games.read_new()
    assert games.num_games == 5 and len(games.window) == 12


def test_a_broken_record_file_is_named_and_left_out(run, tmp_path, capfd):
    run("cycles=1")
    folder = tmp_path / "selfplay" / "tiny"
    whole = next(folder.glob("*.games")).read_bytes()
    (folder / "a.games").write_bytes(b"not games at all")
    (folder / "d.games").mkdir()
    (folder / "b.games").write_bytes(whole[:3000] + b"?" + whole[3001:])
    (folder / "c.games").write_bytes(whole + b"mGo2\1\0\0\0" + b"\xb7\xef\xdc\x83" + b"1")
    num_kept = sum(len(read_records(folder / f"{name}.games")[0]) for name in "bc")
    run("cycles=2")
    errors = capfd.readouterr().err
    reason = "not a file of game records that this minigo reads; left out"
    assert f"{folder / 'a.games'}: {reason}" in errors
    assert f"{folder / 'b.games'}: corrupt at byte" in errors
    assert f"Is a directory: '{folder / 'd.games'}'; left out" in errors
    assert f"{folder / 'c.games'}: corrupt at byte {len(whole)} (Error" in errors
    num_games = sum(len(read_records(path)[0]) for path in folder.glob("cycle*.games"))
    assert load_log(tmp_path)[-1]["games"] == num_games + num_kept


def test_a_loss_that_is_no_number_stops_before_anything_is_overwritten(run, tmp_path):
    run("cycles=1")
    networks = tmp_path / "checkpoints" / "tiny"
    before = {path: path.read_bytes() for path in networks.iterdir()}
    with pytest.raises(ValueError, match="at step"):
        run("cycles=2", "training.learning_rate=1e30")
    assert {path: path.read_bytes() for path in networks.iterdir()} == before


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_folder_without_a_network_to_play_with_is_named(run, num_workers):
    first = run("cycles=1")
    for path in first.parent.glob("cycle-*"):
        path.unlink()
    with pytest.raises(ValueError, match=f"{first.parent}/cycle-0000.safetensors: no such file"):
        run("cycles=2", f"selfplay.workers={num_workers}")


def test_a_log_that_a_kill_left_behind_catches_up(run, tmp_path):
    run("cycles=1")
    log = tmp_path / "checkpoints" / "tiny" / "log.jsonl"
    whole = log.read_text()
    log.write_text("")
    run("cycles=1")  # done already
    assert log.read_text() == whole


def test_an_interrupt_whose_exception_is_dropped_ends_the_run_all_the_same(run, tmp_path):
    def drop(row):
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(after_cycle=drop)
    assert [row["cycle"] for row in load_log(tmp_path)] == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.slow
def test_a_run_that_is_suspended_or_interrupted_goes_on(recipe_path, tmp_path):
    how = {"cwd": tmp_path, "start_new_session": True, "stderr": subprocess.PIPE}
    long = subprocess.Popen([*COMMAND, "--set", "cycles=1000"], **how)
    folder = tmp_path / "checkpoints" / "tiny"
    wait_until((folder / "cycle-0001.safetensors").exists)
    os.killpg(long.pid, signal.SIGSTOP)
    num_done = len(list(folder.glob("cycle*")))
    time.sleep(2)
    assert len(list(folder.glob("cycle*"))) == num_done
    os.killpg(long.pid, signal.SIGCONT)
    wait_until((folder / f"cycle-{num_done + 1:04d}.safetensors").exists)
    os.killpg(long.pid, signal.SIGINT)  # as Ctrl-C in a terminal: to the workers, too
    assert b"Traceback" not in long.communicate(timeout=30)[1] and long.returncode == 130
    num_cycles = len(load_log(tmp_path)) + 1
    more = [*COMMAND, "--set", f"cycles={num_cycles}"]
    subprocess.run(more, cwd=tmp_path, check=True, timeout=120, capture_output=True)
    log = load_log(tmp_path)
    assert [line["cycle"] for line in log] == list(range(1, num_cycles + 1))
    assert log[-1]["games"] == len(load_games(tmp_path))


@pytest.mark.slow
def test_no_finished_game_is_lost_when_the_run_is_killed_ten_times(recipe_path, tmp_path):
    chance, known = random.Random(1), []
    for _ in range(10):
        with open(tmp_path / "err.txt", "ab") as log:
            process = subprocess.Popen(COMMAND, cwd=tmp_path, stdout=log, stderr=log)
        time.sleep(chance.uniform(0.5, 7))
        process.kill()
        process.wait()
        time.sleep(0.5)  # a worker ends at its next move, or its next finished game
        games = [game.moves.tobytes() for game in load_games(tmp_path)]
        paths = (tmp_path / "selfplay" / "tiny").glob("*.part")  # of whom it killed
        parts = [read_records(path)[0] for path in paths]
        games += [game.moves.tobytes() for part in parts for game in part]
        assert all(game in games for game in known)
        known = games
    subprocess.run(COMMAND, cwd=tmp_path, check=True, timeout=120, capture_output=True)
    games = load_games(tmp_path)
    assert all(game in [g.moves.tobytes() for g in games] for game in known)
    log = load_log(tmp_path)
    assert [line["cycle"] for line in log] == [1, 2, 3]
    assert log[-1]["games"] == len(games) >= 3 * 24
    assert log[-1]["positions"] == sum(len(game.policy_plies) for game in games)


def test_a_run_of_an_older_minigo_is_refused_and_kept(run, tmp_path):
    latest = tmp_path / "checkpoints" / "tiny" / "latest.pt"
    latest.parent.mkdir(parents=True)
    latest.write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"latest.pt: .*an older minigo's .pt is no longer read"):
        run()
    assert sorted(path.name for path in latest.parent.iterdir()) == ["latest.pt", "lock"]
