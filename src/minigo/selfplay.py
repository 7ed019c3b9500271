"""Self-play: many games at once, and the worker process that writes their records."""

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from ._board import Board
from .checkpoint import load_checkpoint, load_network
from .config import Recipe, Rules
from .coords import BLACK, WHITE
from .evaluator import Evaluator, make_evaluator
from .machine import keep_big_buffers, pin_to_core
from .record import GameRecord, RecordWriter
from .search import Search, choose_move


@dataclass
class Game:
    """One game under way: what its record needs besides the board."""

    num_opening_moves: int  # first moves to draw from the raw policy
    is_opening: bool = False  # is the next move one of them?
    is_full: bool = False  # or does it get a full search, and become data?
    moves: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    policy_plies: list[int] = field(default_factory=list)
    policies: list[np.ndarray] = field(default_factory=list)


class SelfPlay:
    """Games of a network against itself; a finished one makes room for the next."""

    def __init__(self, evaluator: Evaluator, recipe: Recipe, rng: np.random.Generator):
        self.recipe = recipe
        self.rng = rng
        self.simulations = recipe.search.simulations  # of a full search
        num_games = recipe.selfplay.games_at_once
        boards = [self._board() for _ in range(num_games)]
        self.games = [self._game() for _ in range(num_games)]
        self.search = Search(evaluator, recipe.search, boards, rng)
        self.source = ""
        self._budget = np.zeros(num_games, np.int32)  # simulations until each game's next move
        self._awaits_root = np.zeros(num_games, bool)  # whose full search begins after the budget
        for tree in range(num_games):
            self._begin(tree)

    def _board(self) -> Board:
        """Return an empty board with komi drawn around the recipe's (KataGo, Appendix D)."""
        rules, spread = self.recipe.rules, self.recipe.selfplay.komi_spread
        komi = round(2 * self.rng.normal(rules.komi, spread)) / 2
        return Board(self.recipe.size, Rules(rules.ko, rules.suicide, rules.scoring, komi))

    def _game(self) -> Game:
        return Game(int(self.rng.exponential(self.recipe.selfplay.opening_moves)))

    def step(self) -> Iterator[GameRecord]:
        """Evaluate one batch, play the moves that it decided, yield the records of finished games.

        No game waits for another's move, so that every batch has a position of nearly each.
        """
        self.search.simulate(self._budget)
        for tree in np.flatnonzero(self._budget == 0).tolist():
            if self._awaits_root[tree]:
                self._explore(tree)
                continue
            self._play(tree)
            if self.is_finished(tree):
                yield self._finish(tree)
            self._begin(tree)

    def _begin(self, tree: int) -> None:
        """Draw how long to think about a game's next move."""
        cfg, game = self.recipe.selfplay, self.games[tree]
        game.is_opening = len(game.moves) < game.num_opening_moves
        full_frac, cheap = cfg.full_frac if cfg.cheap_simulations else 1.0, cfg.cheap_simulations
        game.is_full = not game.is_opening and self.rng.random() < full_frac
        if not game.is_full:
            self._budget[tree] = 1 if game.is_opening else cheap
        elif self.search.is_new(tree):
            self._awaits_root[tree], self._budget[tree] = True, 1
        else:
            self._explore(tree)

    def _explore(self, tree: int) -> None:
        """Begin a full search: the root has its evaluation."""
        self.search.explore(tree, self.simulations)
        self._awaits_root[tree], self._budget[tree] = False, self.simulations

    def _play(self, tree: int) -> None:
        """Play a game's next move, and note what the search found."""
        game, move = self.games[tree], self._choose(tree)
        if game.is_full:
            game.policy_plies.append(len(game.moves))
            game.policies.append(self.search.policy_target(tree).astype(np.float16))
        game.moves.append(move)
        game.values.append(self.search.forest.root(tree)[1])
        self.search.play(tree, move)

    def _choose(self, tree: int) -> int:
        """Choose by Gumbel score where the root has one, else by visits and temperature."""
        game, forest = self.games[tree], self.search.forest
        if game.is_opening:
            return choose_move(forest.priors(tree), 1.0, self.rng)
        is_gumbel = game.is_full and self.recipe.search.root == "gumbel"
        if is_gumbel or not (visits := forest.visits(tree)).any():
            return forest.best_move(tree)
        return choose_move(visits, self._temperature(tree), self.rng)

    def _temperature(self, tree: int) -> float:
        cfg = self.recipe.selfplay
        decay = 0.5 ** (len(self.games[tree].moves) / cfg.halflife)
        return cfg.temperature_end + (cfg.temperature - cfg.temperature_end) * decay

    def is_finished(self, tree: int) -> bool:
        """Tell whether a game is over, settled, or at the recipe's last move."""
        cfg, board = self.recipe.selfplay, self.search.boards[tree]
        area = board.size * board.size
        if board.is_over or board.num_moves >= cfg.max_moves_per_point * area:
            return True
        return 2 * board.num_moves > area and self.is_settled(board)

    def is_settled(self, board: Board) -> bool:
        """Tell whether every point is pass-alive or its territory: the count is certain."""
        may_end = self.recipe.selfplay.end_settled and not board.is_over
        return may_end and bool(board.pass_alive().all())

    def _finish(self, tree: int) -> GameRecord:
        """Count a game, start the next in its place, and return its record."""
        game, board = self.games[tree], self.search.boards[tree]
        area = (board.pass_alive() if self.is_settled(board) else board.area()).ravel()
        ownership = (area == BLACK).astype(np.int8) - (area == WHITE).astype(np.int8)
        score = float(ownership.sum()) - board.rules.komi
        num_moves = self.recipe.size * self.recipe.size + 1
        record = GameRecord(
            size=board.size,
            rules=board.rules,
            moves=np.array(game.moves, dtype=np.int16),
            result=float(np.sign(score)),
            score=score,
            ownership=ownership,
            policy_plies=np.array(game.policy_plies, dtype=np.int16),
            policies=np.array(game.policies, dtype=np.float16).reshape(-1, num_moves),
            values=np.array(game.values, dtype=np.float32),
            source=self.source,
        )
        self.search.reset(tree, self._board())
        self.games[tree] = self._game()
        return record


@dataclass(frozen=True)
class Order:
    """What the learner asks of a worker: games of a network, into a new record file."""

    checkpoint: Path
    records: Path
    num_games: int  # at most; STOP ends an order earlier
    simulations: int  # of a full search
    size: int  # of the boards


STOP = "stop"


def work(worker: int, recipe: Recipe, seed: list[int], pipe: Connection) -> None:
    """Carry out the orders that come through the pipe, until it closes.

    Each finished game is written before it is answered by True; False answers the end of an order,
    when they are safe from a power cut, too. Games under way then wait for the next one, and go on
    with its network. Where a file can't be read or written, the last answer says so in one line.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the learner, which closes the pipe
    pin_to_core(worker)
    keep_big_buffers()
    with contextlib.suppress(BrokenPipeError):  # the learner was killed
        try:
            _carry_out_orders(recipe, seed, pipe)
        except OSError as error:
            pipe.send(f"self-play worker {worker}: {error.filename}: {error.strerror}")


def _carry_out_orders(recipe: Recipe, seed: list[int], pipe: Connection) -> None:
    parent = os.getppid()
    players: dict[int, SelfPlay] = {}  # by size
    while isinstance(order := _receive(pipe), Order):
        net = load_network(load_checkpoint(order.checkpoint))
        if order.size not in players:
            num_games = recipe.selfplay.games_at_once
            evaluator = make_evaluator(net, order.size, recipe.device, max_batch=num_games)
            rng = np.random.default_rng([*seed, order.size])
            players[order.size] = SelfPlay(evaluator, replace(recipe, size=order.size), rng)
        else:
            players[order.size].search.evaluator.load(net)
        selfplay = players[order.size]
        selfplay.source, selfplay.simulations = order.checkpoint.stem, order.simulations
        num_left = order.num_games
        with RecordWriter(order.records) as writer:
            while num_left > 0 and not pipe.poll() and os.getppid() == parent:
                for record in selfplay.step():
                    writer.write(record)
                    num_left -= 1
                    pipe.send(True)
        pipe.send(False)
        _receive(pipe)  # STOP: every order gets one


def _receive(pipe: Connection) -> Order | str | None:
    """Return the next order or STOP, or None when the learner has gone."""
    try:
        return pipe.recv()
    except (EOFError, ConnectionResetError):
        return None
