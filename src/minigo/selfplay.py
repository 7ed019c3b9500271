"""Self-play: many games in lockstep, and the worker process that writes their records."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from ._board import Board
from .checkpoint import load_checkpoint, load_network
from .config import Recipe, Rules
from .coords import BLACK, WHITE
from .evaluator import Evaluator, make_evaluator
from .record import GameRecord, RecordWriter
from .search import Search, SearchResult, choose_move


@dataclass
class Game:
    """One game under way: what its record needs besides the board."""

    num_opening_moves: int  # first moves to draw from the raw policy
    moves: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    policy_plies: list[int] = field(default_factory=list)
    policies: list[np.ndarray] = field(default_factory=list)


class SelfPlay:
    """Games of a network against itself; a finished one makes room for the next."""

    def __init__(self, evaluator: Evaluator, recipe: Recipe, rng: np.random.Generator):
        self.recipe = recipe
        self.rng = rng
        num_games = recipe.selfplay.games_at_once
        boards = [self._board() for _ in range(num_games)]
        self.games = [self._game() for _ in range(num_games)]
        self.search = Search(evaluator, recipe.search, boards, rng)
        self.source = ""

    def _board(self) -> Board:
        """Return an empty board with komi drawn around the recipe's (KataGo, Appendix D)."""
        rules, spread = self.recipe.rules, self.recipe.selfplay.komi_spread
        komi = round(2 * self.rng.normal(rules.komi, spread)) / 2
        return Board(self.recipe.size, Rules(rules.ko, rules.suicide, rules.scoring, komi))

    def _game(self) -> Game:
        return Game(int(self.rng.exponential(self.recipe.selfplay.opening_moves)))

    def step(self) -> Iterator[GameRecord]:
        """Play one move in every game and yield the records of those that it ended."""
        cfg, num_games = self.recipe.selfplay, len(self.games)
        is_opening = np.array([len(g.moves) < g.num_opening_moves for g in self.games])
        is_full = self.rng.random(num_games) < (cfg.full_frac if cfg.cheap_simulations else 1)
        budget = np.where(is_full, self.recipe.search.simulations, cfg.cheap_simulations)
        budget[is_opening] = 1
        self.search.run(budget, explore=is_full & ~is_opening)
        for tree, game in enumerate(self.games):
            result = self.search.result(tree)
            if is_opening[tree]:
                move = choose_move(result.priors, 1.0, self.rng)
            else:
                move = self._choose(game, result, is_full[tree])
            self._advance(tree, move, result, is_full[tree] and not is_opening[tree])
            if self.is_finished(tree):
                yield self._finish(tree)

    def _choose(self, game: Game, result: SearchResult, is_full: bool) -> int:
        """Choose by Gumbel score where the root has one, else by visits and temperature."""
        if (is_full and self.recipe.search.root == "gumbel") or not result.visits.any():
            return result.move
        cfg = self.recipe.selfplay
        decay = 0.5 ** (len(game.moves) / cfg.halflife)
        temperature = cfg.temperature_end + (cfg.temperature - cfg.temperature_end) * decay
        return choose_move(result.visits, temperature, self.rng)

    def _advance(self, tree: int, move: int, result: SearchResult, is_data: bool) -> None:
        game = self.games[tree]
        if is_data:
            game.policy_plies.append(len(game.moves))
            game.policies.append(result.policy.astype(np.float16))
        game.moves.append(move)
        game.values.append(result.value)
        self.search.play(tree, move)

    def is_finished(self, tree: int) -> bool:
        """Tell whether a game is over or at the recipe's last move."""
        area = self.recipe.size * self.recipe.size
        board = self.search.boards[tree]
        return board.is_over or board.num_moves >= self.recipe.selfplay.max_moves_per_point * area

    def _finish(self, tree: int) -> GameRecord:
        """Count a game, start the next in its place, and return its record."""
        game, board = self.games[tree], self.search.boards[tree]
        area, score = board.area().ravel(), board.score()
        num_moves = self.recipe.size * self.recipe.size + 1
        record = GameRecord(
            size=board.size,
            rules=board.rules,
            moves=np.array(game.moves, dtype=np.int16),
            result=float(np.sign(score)),
            score=score,
            ownership=((area == BLACK).astype(np.int8) - (area == WHITE)).astype(np.int8),
            policy_plies=np.array(game.policy_plies, dtype=np.int16),
            policies=np.array(game.policies, dtype=np.float16).reshape(-1, num_moves),
            values=np.array(game.values, dtype=np.float32),
            source=self.source,
        )
        self.search.reset(tree, self._board())
        self.games[tree] = self._game()
        return record


def list_cores() -> list[int]:
    """Return the numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def pin_to_core(worker: int) -> None:
    """Keep this process on one core: two that move about slow each other down."""
    if hasattr(os, "sched_setaffinity"):
        cores = list_cores()
        os.sched_setaffinity(0, {cores[worker % len(cores)]})


@dataclass(frozen=True)
class Order:
    """What the learner asks of a worker: games of a network, into a new record file."""

    checkpoint: Path
    records: Path
    num_games: int  # at most; STOP ends an order earlier


STOP = "stop"


def work(worker: int, recipe: Recipe, seed: list[int], pipe: Connection) -> None:
    """Carry out the orders that come through the pipe, until it closes.

    Each finished game is on disk before its number of positions goes back; None answers the end of
    an order. Games under way then wait for the next one, and go on with its network.
    """
    pin_to_core(worker)
    parent, selfplay = os.getppid(), None
    with contextlib.suppress(BrokenPipeError):  # the learner was killed
        while isinstance(order := _receive(pipe), Order):
            net = load_network(load_checkpoint(order.checkpoint))
            if selfplay is None:
                num_games = recipe.selfplay.games_at_once
                evaluator = make_evaluator(net, recipe.size, recipe.device, max_batch=num_games)
                selfplay = SelfPlay(evaluator, recipe, np.random.default_rng(seed))
            else:
                selfplay.search.evaluator.load(net)
            selfplay.source = order.checkpoint.stem
            num_left = order.num_games
            with RecordWriter(order.records) as writer:
                while num_left > 0 and not pipe.poll() and os.getppid() == parent:
                    for record in selfplay.step():
                        writer.write(record)
                        num_left -= 1
                        pipe.send(len(record.policy_plies))
            pipe.send(None)
            _receive(pipe)  # STOP: every order gets one


def _receive(pipe: Connection) -> Order | str | None:
    """Return the next order or STOP, or None when the learner has gone."""
    try:
        return pipe.recv()
    except (EOFError, ConnectionResetError):
        return None
