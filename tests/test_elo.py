"""Elo from results: against published figures, exact cases and each other."""

import itertools
import math

import numpy as np
import pytest

from minigo.lab import elo as module
from minigo.lab.elo import choose_pair, find_interval, fit_ratings, sprt
from minigo.play.match import elo_difference, score_interval

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


def test_ratings_are_the_published_ones(monkeypatch):
    with_prior, _ = fit_ratings(np.array(WINS, float), 6)
    monkeypatch.setattr(module, "PRIOR_ELO", math.inf)  # plain maximum likelihood
    ratings, covariance = fit_ratings(np.array(WINS, float), 6)
    assert ratings / module.ELO == pytest.approx(ESTIMATES, abs=1e-4)
    assert np.sqrt(np.diag(covariance)) / module.ELO == pytest.approx(ERRORS, abs=1e-4)
    assert with_prior == pytest.approx(ratings, abs=2)  # Elo


def test_two_players_have_the_elo_of_their_score(monkeypatch):
    monkeypatch.setattr(module, "PRIOR_ELO", math.inf)
    ratings, covariance = fit_ratings(np.array([[0, 75.5], [24.5, 0]]), 1)
    assert ratings[0] == pytest.approx(400 * math.log10(75.5 / 24.5))
    assert covariance[0, 0] == pytest.approx(module.ELO**2 / (100 * 0.755 * 0.245))


def test_who_won_every_game_and_who_played_none_have_finite_ratings():
    ratings, covariance = fit_ratings(np.array([[0, 20, 0], [0, 0, 0], [0, 0, 0.0]]), 1)
    assert 400 < ratings[0] < 1200 and ratings[2] == 0
    assert covariance[2, 2] == pytest.approx(module.PRIOR_ELO**2)


@pytest.mark.parametrize("wins, games", [(20, 40), (75.5, 100), (39, 40), (40, 40)])
def test_intervals_agree_with_those_of_a_match(wins, games):
    points = np.array([[0, games - wins], [wins, 0.0]])
    low, high = find_interval(points, 0, 1)
    low_score, _, high_score = score_interval(wins, games)
    assert low == pytest.approx(elo_difference(low_score), rel=0.1)
    if wins < games:  # else the prior alone ends it
        assert high == pytest.approx(elo_difference(high_score), rel=0.15)
    assert find_interval(points, 0, 0) == (0, 0)


def brute_force_gain(ratings, games, i, j, num_games):
    """Return how much the trace of the covariance falls by `num_games` as likely as expected."""
    anchor, traces = 0, []
    for extra in (0, num_games):
        more = games.copy()
        more[[i, j], [j, i]] += extra
        points = more * module.win_chances(ratings / module.ELO)
        # The prior pulls at the ratings, so only its share of the information is wanted here.
        traces.append(np.trace(module._covariance(ratings / module.ELO, more, anchor)))
        assert points.sum() == pytest.approx(more.sum() / 2)
    return traces[0] - traces[1]


def test_the_pair_chosen_takes_most_from_the_variance(rng):
    games = rng.integers(0, 9, (5, 5)).astype(float)
    games = np.triu(games, 1) + np.triu(games, 1).T
    ratings = rng.normal(0, 200, 5)
    pairs = itertools.combinations(range(5), 2)
    gains = {pair: brute_force_gain(ratings, games, *pair, 8) for pair in pairs}
    chosen = choose_pair(ratings, games, 0, np.ones((5, 5)), 8)
    assert chosen == max(gains, key=gains.get)
    costs = np.ones((5, 5))
    costs[chosen] = costs[chosen[::-1]] = np.inf
    gains.pop(chosen)
    assert choose_pair(ratings, games, 0, costs, 8) == max(gains, key=gains.get)


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
    assert sprt(points, 0, 2, 1, 50) > math.log(19) > 0 > sprt(points, 0, 1, 2, 50)
    assert sprt(np.zeros((3, 3)), 0, 2, 1, 50) == pytest.approx(0)


# Quantiles of Beta(points + 1/2, games - points + 1/2), from scipy.stats.beta.ppf.
@pytest.mark.parametrize(
    "points, num_games, quantiles",
    [
        (20, 40, (0.349603502, 0.5, 0.650396498)),
        (30, 40, (0.601693947, 0.747898860, 0.863606545)),
        (100, 100, (0.975254730, 0.997733571, 0.999995102)),
        (2.5, 5, (0.146632790, 0.5, 0.853367210)),
        (0, 1, (0.000385581, 0.163193985, 0.853253684)),
    ],
)
def test_the_interval_is_jeffreys(points, num_games, quantiles):
    assert score_interval(points, num_games) == pytest.approx(quantiles, abs=2e-7)


def test_elo_of_a_score():
    assert elo_difference(0.5) == 0
    assert elo_difference(0.75) == pytest.approx(190.849, abs=0.001)
    assert elo_difference(1 / 11) == pytest.approx(-400)
    assert np.isfinite(elo_difference(score_interval(1000, 1000)[2]))
