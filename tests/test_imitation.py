"""Imitation: a network learns to predict people's moves, and goes on where it was."""

import itertools
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

torch = pytest.importorskip("torch")
from conftest import save_network, wait_until  # noqa: E402
from minigo import imitation  # noqa: E402
from minigo._board import Board  # noqa: E402
from minigo.architecture import Network  # noqa: E402
from minigo.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from minigo.config import Rules, TrainConfig  # noqa: E402
from minigo.coords import NUM_SYMMETRIES  # noqa: E402
from minigo.evaluator import make_evaluator  # noqa: E402
from minigo.games import HumanGames, load_human_games  # noqa: E402
from minigo.imitation import IMITATION, imitate  # noqa: E402
from minigo.lab.accuracy import evaluate  # noqa: E402
from minigo.learner import Learner  # noqa: E402
from minigo.network import PolicyValueNet  # noqa: E402
from minigo.ranks import at_rank  # noqa: E402
from minigo.record import GameRecord  # noqa: E402
from minigo.sgf import format_sgf  # noqa: E402
from test_games import play_close, turn, write_games, write_zip  # noqa: E402

POSITION_BYTES = 26 * 4 + 26 * 2 + 2 + 4 + 4 + 25  # of 5x5
pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_small_network_learns_from_small_games(rng, tmp_path, capsys):
    path = write_games(tmp_path / "a.zip", [play_close(rng, result=1.0) for _ in range(400)])
    out = tmp_path / "human.safetensors"
    config = replace(IMITATION, batch_size=64)
    options = {"network": "b1c16", "device": "cpu", "config": config}
    for minutes in (0.2, 1.0, 3.0):  # a busy machine needs longer; it goes on where it was
        info = imitate([path], size=5, out=out, minutes=minutes, **options)
        if info["step"] >= 100:
            break
    assert info["top1"] > 0.15 and info["top5"] > 0.5
    assert info["cross_entropy"] < np.log(26) - 0.5  # what a uniform choice has
    assert info["samples"] > 0 and info["curve"][-1]["top1"] == info["top1"]
    assert json.loads(json.dumps(info)) == info
    assert "held out" in capsys.readouterr().err
    held_out = evaluate(out, [path], held_out=True, device="cpu")
    assert held_out.keys() >= {"top1", "top5", "cross_entropy", "value_mse", "positions"}
    assert held_out["positions"] == info["positions"] == 12 * info["held_out_games"]
    # Half precision. Not of top1: of neighbours that are equally good the first may change.
    assert held_out["cross_entropy"] == pytest.approx(info["cross_entropy"], abs=0.01)
    assert held_out["value_mse"] == pytest.approx(info["value_mse"], abs=0.01)
    other = path.with_name("other" + path.suffix)
    shutil.copy(path, other)
    everything = evaluate(out, [other], held_out=True, device="cpu")  # it never saw that archive
    assert everything == evaluate(out, [path], device="cpu")
    assert everything["positions"] == 12 * (info["games"] + info["held_out_games"])
    phases = everything["top1_by_phase"]
    assert list(phases) == [f"{n} third of the game" for n in ("first", "second", "last")]
    assert np.mean(list(phases.values())) == pytest.approx(everything["top1"])
    assert everything["top1_by_rank"] == {"unknown": everything["top1"]}
    some = evaluate(out, [path], max_positions=100, device="cpu")
    assert some["positions"] == 100 and some["with_symmetries"]["positions"] == 10
    assert "5x5: 100 of" in capsys.readouterr().err


def test_what_a_teacher_may_have_learned_is_not_held_out(rng, tmp_path):
    path = write_games(tmp_path / "a.zip", [play_close(rng) for _ in range(200)])
    games = load_human_games([path])
    held_out = 12 * len(games.held_out)
    everything = held_out + 12 * len(games.training)
    assert 0 < held_out < everything / 10
    for info, positions in (
        ({"start": "9x9-human"}, held_out),
        ({"recipe": {"start": "imitation"}}, held_out),
        ({"start": None}, everything),
        ({"recipe": {"start": "zero"}}, everything),
    ):
        checkpoint = save_network(tmp_path / "a.safetensors", **info)
        found = evaluate(checkpoint, [path], held_out=True, device="cpu")
        assert found["positions"] == positions


def test_accuracy_is_told_by_rank(rng, tmp_path):
    ranks = (("2350", "5k"), ("8k?", "9p"), ("", "2399"), ("2d", "3 dan"))
    games = [play_close(rng, black_rank=b, white_rank=w) for b, w in ranks]
    path = write_games(tmp_path / "a.zip", games)
    found = evaluate(save_network(tmp_path / "a.safetensors"), [path])
    names = ("unknown", "9k to 5k", "1d to 3d", "2300 to 2399", "professional")
    assert tuple(found["top1_by_rank"]) == names
    shares = dict(zip(names, (6, 12, 12, 12, 6), strict=True))
    mean = sum(shares[name] * top1 for name, top1 in found["top1_by_rank"].items()) / 48
    assert mean == pytest.approx(found["top1"])


def test_averaged_over_the_symmetries_a_game_is_as_hard_however_it_is_turned(rng, tmp_path):
    checkpoint = save_network(tmp_path / "a.safetensors")
    game = play_close(rng, 20, result=1.0)
    found = [
        evaluate(checkpoint, [write_games(tmp_path / f"{s}.zip", [turn(game, s)])], device="cpu")
        for s in range(NUM_SYMMETRIES)
    ]
    assert len({round(each["cross_entropy"], 6) for each in found}) > 1
    assert len({round(each["with_symmetries"]["cross_entropy"], 6) for each in found}) == 1
    assert len({each["without_symmetries"]["cross_entropy"] for each in found}) > 1


def test_one_network_learns_two_sizes(rng, tmp_path):
    games = [play_close(rng, size=size) for size in (5, 7) for _ in range(100)]
    path, out = write_games(tmp_path / "a.zip", games), tmp_path / "a.safetensors"
    options = {"network": "b1c16", "minutes": 0.02, "device": "cpu"}
    info = imitate([path], size=(7, 5), out=out, **options)
    assert info["size"] == [5, 7] and info["by_size"].keys() == {"5x5", "7x7"}
    assert sum(part["positions"] for part in info["by_size"].values()) == info["positions"]
    assert info["training_positions"] == 12 * info["games"]
    found = evaluate(out, [path], held_out=True, device="cpu")
    assert found["by_size"].keys() == found["with_symmetries"]["by_size"].keys() == {"5x5", "7x7"}
    with pytest.raises(ValueError, match=r"no game of size \[2, 3\]"):
        imitate([path], size=(2, 3), out=tmp_path / "b.safetensors", **options)


KILLED = """
from minigo import imitation
imitation.MIN_PHASE_S, imitation.SAVE_S = 1.0, 0.5
options = {"network": "b1c16", "minutes": 9, "device": "cpu"}
imitation.imitate(["a.zip"], size=5, out="human.safetensors", **options)
"""


def test_a_killed_run_goes_on_where_it_was(rng, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_games(Path("a.zip"), [play_close(rng) for _ in range(100)])
    out, saved = Path("human.safetensors"), Path("human.safetensors.state")
    run = subprocess.Popen([sys.executable, "-c", KILLED], stderr=subprocess.DEVNULL)
    try:
        wait_until(out.exists)
    finally:
        run.kill()
        run.wait()
    assert out.stat().st_size < saved.stat().st_size / 3
    assert evaluate(out, ["a.zip"], device="cpu")["positions"] > 1000
    state = load_checkpoint(saved).state
    assert state["step"] > 0 and 0 < state["spent_s"] < 60
    minutes = (state["spent_s"] + 1) / 60
    options = {"size": 5, "out": out, "network": "b1c16", "device": "cpu"}
    info = imitate(["a.zip"], minutes=minutes, **options)
    assert f"{saved}: goes on from step {state['step']}, " in capsys.readouterr().err
    assert info["step"] > state["step"] and abs(info["minutes"] - minutes) < 0.5 / 60
    assert info["curve"][:-1] == state["curve"] and load_checkpoint(out).info == info
    assert imitate(["a.zip"], minutes=minutes, **options) == info  # it is done
    more = imitate(["a.zip"], minutes=minutes + 0.02, **options)
    assert more["step"] > info["step"] and more["curve"][:-1] == info["curve"]
    Path("b.zip").write_bytes(Path("a.zip").read_bytes())
    write_games(Path("a.zip"), [play_close(rng) for _ in range(99)])
    before = saved.read_bytes()
    for paths, changed, message in (
        (["b.zip"], {}, r"a run with data \['a.zip'\], not \['b.zip'\]"),
        (["a.zip"], {"network": "b2c16"}, "a run with network b1c16, not b2c16"),
        (["a.zip"], {"config": replace(IMITATION, batch_size=9)}, "with batch_size 128, not 9;"),
        (["a.zip"], {"min_rank": "3d"}, "a run with filters {'min_rank': None"),
        (["a.zip"], {"start": "human.safetensors"}, "a run with start None, not human.safetensors"),
        (["a.zip"], {}, r"a run with (held_out_)?games \d+, not \d+; delete that file"),
    ):
        with pytest.raises(ValueError, match=message):
            imitate(paths, **options | changed)
    assert saved.read_bytes() == before
    save_checkpoint(saved, Network("b1c16", {}), {})
    with pytest.raises(ValueError, match="a run with made_by None, not imitation"):
        imitate(["a.zip"], **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 20}, "board size 20"),
        ({"minutes": 0.0}, "0.0 minutes"),
        ({"minutes": float("nan")}, "nan minutes"),
        ({"network": "c3"}, "'c3'"),
        ({"min_rank": "strong"}, "'strong' is not a rank"),
        ({"out": "nowhere/a.safetensors"}, "nowhere/a.safetensors"),
        ({"out": "."}, r"\.: not a file"),
        ({"size": 9}, r"no game of size \[9\] to learn from in .*a.zip"),
        ({"strict": True}, "a.sgf game 2: no moves"),
    ],
)
def test_bad_arguments_are_named(rng, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    write_zip("a.zip", format_sgf(play_close(rng)), "(;SZ[5])")
    arguments = {"size": 5, "out": "a.safetensors", "network": "b1c16"} | arguments
    with pytest.raises(ValueError, match=message):
        imitate(["a.zip"], **arguments)
    assert not Path("a.safetensors").exists()


def test_value_weighs_less_than_policy():
    assert 0 < IMITATION.value_weight < 1  # the policy's


def test_a_count_of_people_says_whose_the_points_are():
    rows, dead = range(9), 9 * 4 + 1
    walls = [9 * row + column for row in rows for column in (3, 5)]
    moves = [*walls, *(9 * row + 4 for row in rows), dead, 81, 81]  # Black's half has a dead stone
    counter = imitation.make_counter(9, "cpu")
    for score, is_counted in ((-6.0, True), (-5.0, True), (-8.0, False), (6.0, False)):
        game = GameRecord(9, Rules(komi=7), np.array(moves, np.int16), score=score)
        owners = imitation.add_owners(game, counter).ownership
        assert (owners is not None) == is_counted
        if is_counted:
            assert owners.sum() == 1 and owners[dead] == 1
            for columns, owner in ((slice(4), 1), (slice(5, 9), -1)):
                assert set(owners.reshape(9, 9)[:, columns].ravel()) == {owner}
    unknown = GameRecord(9, Rules(komi=7), np.array(moves, np.int16), result=1.0)
    assert imitation.add_owners(unknown, None) is unknown


def make_run(folder: Path, rng, komis: range) -> imitation._Run:
    """Return a run with a game of eight moves for each komi."""
    moves = [rng.permutation(25)[:8].astype(np.int16) for _ in komis]
    games = [GameRecord(5, Rules(komi=komi), m) for komi, m in zip(komis, moves, strict=True)]
    learner = Learner(PolicyValueNet("b1c8"), TrainConfig(batch_size=32), "cpu")
    return imitation._Run(learner, HumanGames(games), {"seed": 1}, folder / "a", folder / "b")


def test_what_fits_into_memory_is_there_once(tmp_path, rng):
    run = make_run(tmp_path, rng, range(20))
    next(run.batches())
    assert len(run.window) == run.num_positions == 160


def test_what_does_not_fit_into_memory_is_shuffled_through_it(tmp_path, monkeypatch, rng):
    monkeypatch.setattr(imitation, "MEMORY", 200 * POSITION_BYTES)
    run = make_run(tmp_path, rng, range(100))
    seen = Counter()
    for batch in itertools.islice(run.batches(), 5 * 800 // 32):  # five rounds, after the first 200
        assert len(run.window) == 200
        seen.update(batch.positions[:, -1].view(torch.float32).abs().tolist())  # komi
    counts = np.array([seen[np.float32(komi) / np.float32(10)] for komi in range(100)])
    assert counts.sum() == 4000 and counts.min() > 15 and counts.max() < 75  # 40 each


def test_a_network_plays_as_the_rank_that_it_is_told(tmp_path):
    """9k begin in a corner here, professionals in the centre; half of the ranks are hidden."""
    games = []
    for black, white, first in (("9k", "9p", 0), ("9p", "9k", 12)) * 20:
        moves = np.array([first, 7, 17, 11, 13], np.int16)
        games.append(GameRecord(5, Rules(), moves, black_rank=black, white_rank=white))
    torch.manual_seed(1)
    config = replace(IMITATION, batch_size=64, learning_rate=0.02)
    learner = Learner(PolicyValueNet("b1c16", ranked=True), config, "cpu")
    run = imitation._Run(learner, HumanGames(games), {"seed": 1}, tmp_path, tmp_path)
    learner.train(run.batches(), 300, lambda: 0.5)

    def odds_of_a_corner(rank: str | None) -> float:
        evaluator = make_evaluator(at_rank(learner.network(), rank), 5, "cpu")
        logits = evaluator.evaluate_boards([Board(5)]).logits[0]
        return np.exp(np.logaddexp.reduce(logits[[0, 4, 20, 24]]) - logits[12])

    low, unknown, high = (odds_of_a_corner(rank) for rank in ("9k", None, "9p"))
    assert low > 3 > 1 / 3 > high and low > 4 * unknown > 16 * high
    for rank, why in (("9x", "'9x' is not a rank"), ("", "'' is not a rank")):
        with pytest.raises(ValueError, match=why):
            at_rank(learner.network(), rank)
    with pytest.raises(ValueError, match="learned nothing of ranks"):
        at_rank(Learner(PolicyValueNet("b1c16"), TrainConfig(), "cpu").network(), "9k")
