"""How a network learns, on top of `minigo`: the one file of the race that an attempt changes.

The judge calls `zero` or `imitation` with a seed and a budget on one core, and judges the network
that it returns. What is allowed is in program.md; what everything means, in minigo's own modules.
"""

import functools

import numpy as np
import torch
from torch import nn

from minigo.config import Recipe, SearchConfig, TrainConfig, change
from minigo.evaluator import make_evaluator
from minigo.imitation import IMITATION
from minigo.learner import Learner
from minigo.network import PolicyValueNet, as_module
from minigo.selfplay import SelfPlay
from minigo.window import Window
from minigo.workers import window_positions

SMALL = 0.3  # of the budget goes to 7x7, where games are short
GAMES = 64  # that each network plays, on average
ZERO = Recipe(
    network="b4c32",
    samples_per_position=1.5,
    window_min=60_000,
    search=SearchConfig("gumbel", simulations=16, num_considered=8, score_utility=0.3),
    training=TrainConfig(compile=True),
)
PEOPLE = change(IMITATION, compile=True)


def zero(seed: int, budget) -> nn.Module:
    """Learn by self-play from nothing: a worker and a learner that take turns, on 7x7 at first."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    learner = Learner(PolicyValueNet(ZERO.network), ZERO.training)
    games_at_once, batch_size = ZERO.selfplay.games_at_once, ZERO.training.batch_size
    for size, end in ((7, SMALL), (9, 1.0)):
        window, owed, is_compiled = Window([size], rng), 0.0, False
        evaluator = make_evaluator(learner.network(), size, max_batch=games_at_once)
        selfplay = SelfPlay(evaluator, change(ZERO, size=size), rng)
        batches = iter(functools.partial(window.sample, batch_size), None)
        while budget.share() < end:
            records, before = [], window.num_positions
            while len(records) < GAMES and budget.share() < end:
                records += selfplay.step()
                budget.spend(evaluations=games_at_once)
            window.add(records)
            window.trim(window_positions(window.num_positions, ZERO))
            owed += ZERO.samples_per_position * (window.num_positions - before)
            num_steps = int(owed // batch_size)
            if num_steps and not is_compiled:
                is_compiled = True
                with budget.paused():  # it is compiled
                    learner.train(batches, 1, budget.share)
            learner.train(batches, num_steps, budget.share)
            budget.spend(samples=num_steps * batch_size)
            owed -= num_steps * batch_size
            evaluator.load(learner.network())
    return as_module(learner.network())


def imitation(games: list, seed: int, budget) -> nn.Module:
    """Learn to predict the moves of people's games."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    learner, window = Learner(PolicyValueNet("b4c32s"), PEOPLE), Window([9], rng)
    batches = iter(functools.partial(window.sample, PEOPLE.batch_size), None)
    with budget.paused():  # the games are read, and the network is compiled
        window.add(games)
        learner.train(batches, 1, budget.share)
    while budget.share() < 1:
        learner.train(batches, 20, budget.share)
        budget.spend(samples=20 * PEOPLE.batch_size)
    return as_module(learner.network())
