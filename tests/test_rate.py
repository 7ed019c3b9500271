"""The Elo ladder: its arithmetic against published figures, the choice of games, and kills."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("torch")

from minigo import rate as module
from minigo.arena import elo_difference, find_gnugo, score_interval
from minigo.config import Rules
from minigo.rate import Ladder, choose_pair, fit_ratings, list_players, rate, read_results, sprt
from minigo.sgf import load_games

# American League, Eastern Division, 1987: games won by the row's team against the column's.
# Agresti, Categorical Data Analysis, 2nd edition 2002, table 10.10; estimates and standard errors
# (log odds, Baltimore at 0) as Turner and Firth's R package BradleyTerry2 prints them, which
# round to table 10.11.
TEAMS = ("Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore")
WINS = [
    [0, 7, 9, 7, 7, 9, 11],
    [6, 0, 7, 5, 11, 9, 9],
    [4, 6, 0, 7, 7, 8, 12],
    [6, 8, 6, 0, 6, 7, 10],
    [6, 2, 6, 7, 0, 7, 12],
    [4, 4, 5, 6, 6, 0, 6],
    [2, 4, 1, 3, 1, 7, 0],
]
ESTIMATES = (1.5814, 1.4364, 1.2945, 1.2476, 1.1077, 0.6839, 0)
ERRORS = (0.3433, 0.3396, 0.3367, 0.3359, 0.3339, 0.3319, 0)


def test_ratings_are_the_published_ones():
    ratings, covariance = fit_ratings(np.array(WINS, float), 6, prior_elo=math.inf)
    assert ratings / module.ELO == pytest.approx(ESTIMATES, abs=1e-4)
    assert np.sqrt(np.diag(covariance)) / module.ELO == pytest.approx(ERRORS, abs=1e-4)
    with_prior, _ = fit_ratings(np.array(WINS, float), 6)
    assert with_prior == pytest.approx(ratings, abs=2)  # Elo


def test_two_players_have_the_elo_of_their_score():
    ratings, covariance = fit_ratings(np.array([[0, 75.5], [24.5, 0]]), 1, math.inf)
    assert ratings[0] == pytest.approx(400 * math.log10(75.5 / 24.5))
    assert covariance[0, 0] == pytest.approx(module.ELO**2 / (100 * 0.755 * 0.245))


def test_who_won_every_game_and_who_played_none_have_finite_ratings():
    ratings, covariance = fit_ratings(np.array([[0, 20, 0], [0, 0, 0], [0, 0, 0.0]]), 1)
    assert 400 < ratings[0] < 1200 and ratings[2] == 0
    assert covariance[2, 2] == pytest.approx(module.PRIOR_ELO**2)


@pytest.mark.parametrize("wins, games", [(20, 40), (75.5, 100), (39, 40), (40, 40)])
def test_intervals_agree_with_those_of_a_match(wins, games):
    points = np.array([[0, games - wins], [wins, 0.0]])
    low, high = module.find_interval(points, 0, 1)
    low_score, _, high_score = score_interval(wins, games)
    assert low == pytest.approx(elo_difference(low_score), rel=0.1)
    if wins < games:  # else the prior alone ends it
        assert high == pytest.approx(elo_difference(high_score), rel=0.15)
    assert module.find_interval(points, 0, 0) == (0, 0)


def brute_force_gain(ratings, games, i, j, num_games):
    """Return how much the trace of the covariance falls by `num_games` as likely as expected."""
    anchor, traces = 0, []
    for extra in (0, num_games):
        more = games.copy()
        more[[i, j], [j, i]] += extra
        points = more * module.win_chances(ratings / module.ELO)
        # The prior pulls at the ratings, so only its share of the information is wanted here.
        traces.append(np.trace(module._covariance(ratings / module.ELO, more, anchor, 1500)))
        assert points.sum() == pytest.approx(more.sum() / 2)
    return traces[0] - traces[1]


def test_the_pair_chosen_takes_most_from_the_variance(rng):
    games = rng.integers(0, 9, (5, 5)).astype(float)
    games = np.triu(games, 1) + np.triu(games, 1).T
    ratings = rng.normal(0, 200, 5)
    gains = {
        (i, j): brute_force_gain(ratings, games, i, j, 8) for i in range(5) for j in range(i + 1, 5)
    }
    chosen = choose_pair(ratings, games, 0, np.ones((5, 5)), np.full((5, 5), 8))
    assert chosen == max(gains, key=gains.get)
    costs = np.ones((5, 5))
    costs[chosen] = costs[chosen[::-1]] = np.inf
    gains.pop(chosen)
    second = choose_pair(ratings, games, 0, costs, np.full((5, 5), 8))
    assert second == max(gains, key=gains.get)


def test_sprt_is_walds():
    """(wins - losses) log(p / (1 - p)), p the chance to win of who is 50 Elo stronger."""
    odds = 50 * math.log(10) / 400
    for wins, losses in ((60, 45), (7, 20), (40, 0)):
        points = np.array([[0, wins], [losses, 0.0]])
        assert sprt(points, 1, 0, 1, 50) == pytest.approx((wins - losses) * odds, rel=1e-3)
        assert sprt(points, 0, 0, 1, 50) == pytest.approx((wins - losses) * odds, rel=1e-3)


def test_sprt_counts_games_against_others():
    points = np.zeros((3, 3))
    points[0, 1] = points[2, 0] = 40  # 0 beats 1, 2 beats 0: so 2 is stronger than 1
    assert sprt(points, 0, 2, 1, 50) > module.SPRT_BOUND > 0 > sprt(points, 0, 1, 2, 50)
    assert sprt(np.zeros((3, 3)), 0, 2, 1, 50) == pytest.approx(0)


def test_players_have_names_of_their_own(network):
    players = list_players([network, "9x9@7", "gtp:x --level 3", "gtp:x --level=4"], (0, 4), 9)
    names = [player.name for player in players]
    assert names == [f"{network}@0", f"{network}@4", "9x9@7", "x-3", "x-4"]
    with pytest.raises(ValueError, match="1 players"):
        list_players(["9x9@7", "9x9@7"], (0,), 9)
    with pytest.raises(ValueError, match="two different players are called gnugo-5"):
        list_players(["gtp:gnugo --level 5", "gtp:/usr/games/gnugo --level 5"], (0,), 9)
    if find_gnugo():
        default = [player.name for player in list_players([], (0, 16), 9)]
        assert {"gnugo-1", "gnugo-10", "9x9@16", "9x9-human@0"} <= set(default)


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> str:
    """Return the path of a tiny network with random weights."""
    return make_network(tmp_path_factory.mktemp("networks") / "tiny.pt", seed=1)


def make_network(path, seed: int) -> str:
    import torch

    from minigo.checkpoint import save_checkpoint
    from minigo.network import PolicyValueNet

    torch.manual_seed(seed)
    weights = PolicyValueNet("b1c8").state_dict()
    save_checkpoint(path, network="b1c8", weights=weights, info={"size": 5})
    return str(path)


@pytest.mark.slow
def test_a_ladder_is_played_written_and_resumed(network, tmp_path):
    players = list_players([network], (0, 2, 8), 5)
    options = {"size": 5, "sprt_elo": 0, "workers": 1}
    report = rate(players, tmp_path, max_games=10, **options)
    assert report["games"] == 10 and report["anchor"] == f"{network}@0"
    assert json.loads((tmp_path / "ladder.json").read_text()) == report
    assert f"{network}@8" in (tmp_path / "ladder.md").read_text()
    rows = read_results(tmp_path)
    assert len({row["sgf"] for row in rows}) == 10
    for row in rows:
        record = next(load_games([tmp_path / row["sgf"]], strict=True))
        black_points = row["points"] if row["black"] == row["a"] else 1 - row["points"]
        assert record.result == 2 * black_points - 1 and len(record.moves) == row["moves"]
    with open(tmp_path / "results.jsonl", "a") as file:
        file.write('{"a": "torn')
    again = rate(players[:2], tmp_path, max_games=14, **options)
    assert again["games"] == 14 and read_results(tmp_path)[:10] == rows
    assert {p["name"] for p in again["players"]} == {player.name for player in players}
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 15  # the torn one, too


@pytest.mark.slow
def test_a_killed_ladder_loses_no_finished_game(network, tmp_path):
    words = [network, f"{network}@4", "--size", "5", "--visits", "0", "--workers", "1"]
    command = [sys.executable, "-m", "minigo", "rate", *words, "--out", str(tmp_path)]
    process = subprocess.Popen([*command, "--games", "5000"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(read_results(tmp_path)) < 6 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = read_results(tmp_path)
    assert len(kept) >= 6
    games = ["--games", str(len(kept) + 40), "--sprt", "0", "--json"]
    done = subprocess.run([*command, *games], capture_output=True, text=True)
    report = json.loads(done.stdout)
    rows = read_results(tmp_path)
    assert rows[: len(kept)] == kept and report["games"] == len(rows) >= len(kept) + 40
    assert len({row["sgf"] for row in rows}) == len(rows)


def test_a_ladder_stops_when_the_order_is_known(network, tmp_path, monkeypatch):
    row = {"a": f"{network}@2", "b": f"{network}@0", "black": "", "moves": 9, "size": 5, "komi": 7}
    players = list_players([network], (0, 2), 5)
    row |= {"points": 1, "sgf": "", "ending": "", "identities": [module._identify(players[0])] * 2}
    (tmp_path / "results.jsonl").write_text((json.dumps(row) + "\n") * 40)
    monkeypatch.setattr(Ladder, "next_job", lambda *_: pytest.fail("a game too many"))
    report = rate(players, tmp_path, size=5, workers=1)
    assert report["games"] == 40 and report["players"][0]["name"] == row["a"]
    assert report["players"][0]["elo_low"] > 0


def test_games_of_others_are_refused(network, tmp_path):
    players = list_players([network], (0, 2), 5)
    row = {"a": players[0].name, "b": players[1].name, "size": 5, "komi": 7, "points": 1}
    row |= {"identities": ["01234567", "01234567"], "ending": ""}
    (tmp_path / "results.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(ValueError, match="holds games of another"):
        Ladder(players, tmp_path, 5, Rules())
    with pytest.raises(ValueError, match="size 5 and komi 7: choose another folder"):
        Ladder(players, tmp_path, 9, Rules())


def test_a_player_that_does_not_start_stops_the_ladder(network, tmp_path):
    players = list_players([f"{network}@0", "gtp:no-such-program"], (0,), 5)
    with pytest.raises(ValueError, match="no-such-program"):
        rate(players, tmp_path, size=5, workers=1)
