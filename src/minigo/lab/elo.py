"""Ratings of a ladder from its results, their intervals, the sequential test; plays no games."""

import math

import numpy as np

ELO = 400 / math.log(10)  # Elo points in a unit of log odds
PRIOR_ELO = 1500.0  # standard deviation of ratings before any game: who won all of his is finite
CONFIDENCE = 1.96  # standard deviations on both sides that hold 95 %
STIFFNESS = 1e3  # of what holds tied ratings together: to a millionth of its force


def fit_ratings(points: np.ndarray, anchor: int, tie: tuple = ()) -> tuple[np.ndarray, np.ndarray]:
    """Return the ratings (P,) in Elo that make the games most likely, and their covariance.

    points: (P, P) of the row's player against the column's; a draw is half a point for both.
    Bradley and Terry 1952 by Newton's method: P(i beats j) = 1 / (1 + 10^((r_j - r_i) / 400)).
    The anchor's rating is 0, and a normal prior is around it. tie: (i, j, d): among the ratings
    with r_i - r_j = d. The covariance is the inverse of the information at the maximum, (P, P).
    """
    games, ratings = points + points.T, np.zeros(len(points))
    spring, offset = np.zeros(len(points)), 0.0
    if tie:
        spring[tie[0]], spring[tie[1]], offset = STIFFNESS, -STIFFNESS, tie[2] / ELO
    for _ in range(200):
        covariance = _covariance(ratings, games, anchor, spring)
        expected = games * win_chances(ratings)
        gradient = (points - expected).sum(1) - ratings * (ELO / PRIOR_ELO) ** 2
        gradient += spring * (STIFFNESS * offset - spring @ ratings)
        step = np.clip(covariance @ gradient, -1, 1)
        ratings = ratings + step
        if np.abs(step).max() < 1e-8:
            break
    return ratings * ELO, covariance * ELO**2


def win_chances(ratings: np.ndarray) -> np.ndarray:
    """Return (P, P): how likely the row's player beats the column's; ratings in log odds."""
    return 1 / (1 + np.exp(ratings[None] - ratings[:, None]))


def _covariance(ratings: np.ndarray, games: np.ndarray, anchor: int, spring=0) -> np.ndarray:
    """Invert the information of so many games at these ratings; log odds, the anchor's are 0."""
    chances = win_chances(ratings)
    pairs = games * chances * (1 - chances)
    information = np.diag(pairs.sum(1) + (ELO / PRIOR_ELO) ** 2) - pairs + np.outer(spring, spring)
    free = np.ix_(*2 * (np.arange(len(games)) != anchor,))
    covariance = np.zeros_like(information)
    covariance[free] = np.linalg.inv(information[free])
    return covariance


def choose_pair(
    ratings: np.ndarray, games: np.ndarray, anchor: int, costs: np.ndarray, num_games: int
) -> tuple[int, int]:
    """Return the pair whose next games should take most from the sum of variances, for their cost.

    ratings: Elo; games: (P, P) played or under way; costs: (P, P) of one game, inf where there
    should be none. n games of i and j add w = n p (1 - p) to the information along d = e_i - e_j:
    the covariance C's trace falls by w |C d|^2 / (1 + w d'C d) (Sherman and Morrison 1950).
    """
    chances = win_chances(ratings / ELO)
    covariance = _covariance(ratings / ELO, games, anchor)
    weight = num_games * chances * (1 - chances)
    gain = weight * _of_differences(covariance @ covariance)
    gain /= (1 + weight * _of_differences(covariance)) * num_games * costs
    return divmod(int(np.triu(gain, 1).argmax()), len(ratings))


def _of_differences(matrix: np.ndarray) -> np.ndarray:
    """Return (P, P): (e_i - e_j)' matrix (e_i - e_j): of a covariance, variances of differences."""
    diagonal = np.diag(matrix)
    return diagonal[:, None] + diagonal[None] - 2 * matrix


def log_likelihood(points: np.ndarray, ratings: np.ndarray) -> float:
    """Return how likely the games, and the ratings before any game, are; ratings in Elo."""
    prior = (ratings**2).sum() / (2 * PRIOR_ELO**2)
    return (points * np.log(win_chances(ratings / ELO))).sum() - prior


def find_interval(points: np.ndarray, anchor: int, i: int) -> tuple[float, float]:
    """Return the 95 % interval of i's rating: where the profile likelihood is that of 1.96 sigma.

    Unlike one from the covariance, it fits also who has won nearly all games.
    """
    ratings, covariance = fit_ratings(points, anchor)
    best, ends = log_likelihood(points, ratings), []
    for width in CONFIDENCE * np.sqrt(covariance[i, i]) * np.array((-1, 1)):
        for _ in range(10 if width else 0):  # in sigmas, the fall is nearly linear in the width
            tied, _ = fit_ratings(points, anchor, tie=(i, anchor, ratings[i] + width))
            width *= CONFIDENCE / math.sqrt(2 * (best - log_likelihood(points, tied)))
        ends.append(ratings[i] + width)
    return ends[0], ends[1]


def sprt(points: np.ndarray, anchor: int, i: int, j: int, elo: float) -> float:
    """Return the log-likelihood ratio of "i is stronger by `elo`" to "weaker by `elo`".

    Wald's (1945), with the other ratings as likely as either allows. The two alone:
    (wins - losses) elo / 173.7, the logarithm of the odds of a win at `elo` for each.
    """
    tied = (fit_ratings(points, anchor, tie=(i, j, d))[0] for d in (elo, -elo))
    stronger, weaker = (log_likelihood(points, ratings) for ratings in tied)
    return stronger - weaker
