"""The player behind GTP: a game with its history, a clock, a search, and manners at the end.

Leaves out the protocol itself. The network is loaded when something first needs it.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from .._board import Board, IllegalMove
from ..config import PlayConfig, Rules, SearchConfig, change
from ..coords import BLACK, EMPTY, opponent, sign_of
from ..record import GameRecord
from . import endgame

if TYPE_CHECKING:  # they need PyTorch
    from ..evaluator import Evaluation, Evaluator
    from ..search import Search, SearchResult

DEFAULT_VISITS = 200  # per move, where neither visits nor time are limited
LEAVES = 8  # at most, evaluated at once: faster, but the search is less well informed,
VISITS_PER_LEAF = 32  # so that a move needs this many visits for each
LAG_S = 0.2  # kept back from every time limit
RESIGN_MOVES = 3  # own moves in a row that look lost before it resigns
LEVEL_VISITS = 16  # per move and level
ALL_VISITS = 1 << 30  # that a tree has room for
RESIGN = -1

Kind = Literal["play", "suggest", "cleanup"]  # of `genmove`


@dataclass
class Clock:
    """Time settings, and what is left to each colour."""

    main_s: float | None = None  # None: no limit
    period_s: float = 0.0  # of overtime
    stones: int = 0  # to play in a period
    is_byoyomi: bool = False  # Japanese: a period begins again with every move
    left: dict[int, tuple[float, int]] = field(default_factory=dict)  # (seconds, stones) by colour

    def limit(self, color: int, num_moves: int, size: int) -> float | None:
        """Return how many seconds the next move of `color` may take, or None."""
        if self.main_s is None and color not in self.left:
            return None
        left_s, stones = self.left.get(color, (self.main_s, 0))
        if stones:
            return max(0.05, 0.9 * left_s / stones - LAG_S)
        per_stone = self.period_s / max(1, self.stones)
        num_left = max(0.6 * size * size - num_moves, 0.15 * size * size) / 2  # own moves to come
        return max(0.05, min(left_s / num_left + 0.8 * per_stone, left_s + per_stone) - LAG_S)

    def spend(self, color: int, seconds: float) -> None:
        """Take a move off main time, for clients that don't tell `time_left`."""
        left_s, stones = self.left.get(color, (self.main_s or 0.0, 0))
        if self.main_s is not None and not stones:
            self.left[color] = max(0.0, left_s - seconds), 0

    def tell(self, color: int, seconds: float, stones: int) -> None:
        """Note what a client says is left: 0 stones in main time, else those, or periods, to go."""
        self.left[color] = max(0.0, seconds), max(0, min(stones, 1) if self.is_byoyomi else stones)


class Engine:
    """A game with its positions, a clock, and a search of the present position."""

    def __init__(self, config: PlayConfig | None = None, rules: Rules | None = None) -> None:
        self.config, self.clock = config or PlayConfig(), Clock()
        self.boards = [Board(9, rules or Rules())]  # the game's positions, the present one last
        self.moves: list[tuple[int, int]] = []  # (colour, move), between those positions
        self.is_interrupted: Callable[[], bool] = lambda: True  # has another line arrived?
        self.must_hurry: Callable[[], bool] = lambda: False  # has `quit` arrived?
        self.waits = False  # was the last command a move of its own?
        self._num_lost: dict[int, int] = {}  # by colour: own moves in a row that looked lost
        self._evaluators: dict[tuple[str, int], Evaluator] = {}  # by checkpoint and board size
        self._infos: dict[str, dict] = {}  # what their checkpoints say of them
        self._search: Search | None = None
        self._root: Board | None = None  # where in the game it is
        self._rng = np.random.default_rng(self.config.seed)

    @property
    def board(self) -> Board:
        """Return the present position."""
        return self.boards[-1]

    def start(
        self, size: int, black: Iterable[int] = (), white: Iterable[int] = (), to_play: int = BLACK
    ) -> None:
        """Begin a game on an empty board, or with set-up stones. Raises ValueError."""
        board = Board(size, self.board.rules, to_play)
        board.place(black, white)
        self.restart(board)

    def restart(self, board: Board) -> None:
        """Begin a game at a position."""
        self.boards, self.moves = [board], []
        self._num_lost, self.waits = {}, False
        self.clock.left.clear()
        self._prepare()

    def play(self, move: int, color: int) -> None:
        """Play a move of either colour; a colour may move twice in a row. Raises ValueError."""
        board = self.board.copy()
        try:
            board.play(move, color)
        except IllegalMove as error:
            raise ValueError(f"illegal move: {error}") from None
        self.boards.append(board)
        self.moves.append((color, move))
        self.waits = False

    def undo(self) -> None:
        """Take the last move back. Raises ValueError at the beginning."""
        if not self.moves:
            raise ValueError("cannot undo")
        self.boards.pop()
        self.moves.pop()
        self._num_lost, self.waits = {}, False

    def change_rules(self, rules: Rules) -> None:
        """Go on under other rules or komi."""
        for board in self.boards:
            board.rules = rules
        self._root = None

    def change_config(self, **values) -> None:
        """Go on with other visits, time or threads. Raises ValueError."""
        self.config = change(self.config, **values)
        self._search = None
        if "threads" in values:
            self._evaluators.clear()

    def load(self, path: str, num_moves: int | None = None) -> None:
        """Take an SGF file's first game, or its first moves, with its komi. Raises ValueError."""
        from ..sgf import Skipped, load_games

        record = next(load_games([path], is_session=True), None) if Path(path).is_file() else None
        if not isinstance(record, GameRecord):
            reason = record.reason if isinstance(record, Skipped) else "no file with a game"
            raise ValueError(f"cannot load file {path!r}: {reason}")
        rules = change(self.board.rules, komi=record.rules.komi)
        self.restart(record.board())
        for move in record.moves.tolist()[:num_moves]:
            self.play(move, self.board.to_play)
        self.change_rules(rules)

    def record(self) -> GameRecord:
        """Return the game so far; a pass stands between two moves of one colour."""
        first, passes, moves = self.boards[0], self.board.size**2, []
        to_play = start = self.moves[0][0] if self.moves else first.to_play
        for color, move in self.moves:
            moves += [move] if color == to_play else [passes, move]
            to_play = opponent(color)
        stones = first.stones().ravel()
        setup = stones if stones.any() else None
        return GameRecord(first.size, first.rules, np.array(moves, np.int16), start, setup)

    def position(self, color: int) -> Board:
        """Return the board with `color` to move, and in play again if the game was over."""
        board = self.board.copy()
        if self._is_ending():
            board = endgame.take_off(board, [])
        board.to_play = color
        return board

    def _is_ending(self) -> bool:
        """Is the game over, or would a pass end it that the search can't count?

        It counts dead stones as alive, so it would pass too soon where they will be taken off.
        """
        board = self.board
        return board.is_over or (board.num_passes > 0 and not endgame.counts_all(board))

    def evaluator(self, checkpoint: str | None = None) -> "Evaluator":
        """Return a network's evaluator for the board's size, by default of the one that plays."""
        from ..evaluator import make_evaluator
        from .shipped import load_for

        config, size = self.config, self.board.size
        name = checkpoint or config.checkpoint
        if (name, size) not in self._evaluators:
            net, self._infos[name] = load_for(size, name)
            self._evaluators[name, size] = make_evaluator(
                net, size, device=config.device, max_batch=LEAVES, threads=config.threads
            )
        return self._evaluators[name, size]

    def start_clock(self, clock: Clock) -> None:
        """Play with these time settings."""
        self.clock = clock
        self._prepare()

    def _prepare(self) -> None:
        """Load the network now if there is a clock, so that no move of the game pays for it."""
        if self.clock.main_s is None:
            return
        from .shipped import choose_network

        people = [choose_network(self.board.size, human=True)] if self.config.level else []
        with contextlib.suppress(ValueError, OSError):  # a move will say what is wrong
            for checkpoint in [None, *people]:
                self.evaluator(checkpoint).evaluate_boards([self.board] * (LEAVES + 1))

    def evaluate(self, board: Board, checkpoint: str | None = None) -> "Evaluation":
        """Return a network's own opinion of a position, for the player to move: (1, ...)."""
        return self.evaluator(checkpoint).evaluate_boards([board])

    def policy(self, board: Board, checkpoint: str | None = None) -> np.ndarray:
        """Return (A,) the probabilities that a network gives the moves, 0 where illegal."""
        from ..evaluator import legal_policy

        return legal_policy(self.evaluate(board, checkpoint).logits[0], board.legal_moves())

    def owner(self, color: int) -> np.ndarray:
        """Return (N * N,) whose the points will be with `color` to move, +1 = Black's."""
        from .shipped import predict_owner

        evaluator, info = self.evaluator(), self._infos[self.config.checkpoint]
        return predict_owner(self.position(color), evaluator, info)

    def search_at(self, color: int) -> "Search":
        """Return the search, its root here with `color` to move; it keeps what it can."""
        from ..search import Search

        evaluator, board, search = self.evaluator(), self.position(color), self._search
        leaves = max(1, min(LEAVES, self._limits(color)[0] // VISITS_PER_LEAF))
        if search is None or (search.boards[0].size, search.config.leaves) != (board.size, leaves):
            search = Search(evaluator, SearchConfig(leaves=leaves), [board], self._rng)
        elif not self._follow(search, color):
            search.reset(0, board)
        self._search, self._root = search, self.board
        return search

    def _follow(self, search: "Search", color: int) -> bool:
        """Play the moves since the last search in its tree, if they follow from it."""
        if self._root not in self.boards:
            return False
        moves = self.moves[self.boards.index(self._root) :]
        if moves and self._is_ending():
            return False
        for mover, move in moves:
            if mover != search.boards[0].to_play:
                return False
            search.play(0, move)
        return search.boards[0].to_play == color

    def _limits(self, color: int) -> tuple[int, float]:
        """Return how many visits and seconds of the clock a move of `color` may take."""
        clock_s = self.clock.limit(color, len(self.moves), self.board.size)
        visits = LEVEL_VISITS * self.config.level or self.config.visits
        if visits is None:
            is_timed = self.config.time_s is not None or clock_s is not None
            visits = ALL_VISITS if is_timed else DEFAULT_VISITS
        return max(1, visits), math.inf if clock_s is None else clock_s

    def think(self, color: int, interval_s: float = math.inf) -> Iterator["Search"]:
        """Search for as long as a move of `color` may take; yield the search now and then."""
        started, (visits, clock_s) = time.monotonic(), self._limits(color)
        search = self.search_at(color)  # may load the network, which --time doesn't count
        deadline = min(started + clock_s, time.monotonic() + (self.config.time_s or math.inf))
        is_done = False
        while not is_done:
            until = min(deadline, time.monotonic() + interval_s)
            missing = max(1, visits - search.forest.num_visits(0))
            search.run(missing, deadline=until, stop=self.must_hurry)
            now = time.monotonic()
            is_done = now < until or now >= deadline  # before its time: it has them, or no room
            yield search
        self.clock.spend(color, time.monotonic() - started)

    def ponder(self) -> None:
        """Think about the opponent's move, until a line arrives or the tree is full."""
        search = self.search_at(opponent(self.moves[-1][0]))
        search.run(ALL_VISITS, stop=self.is_interrupted)

    def genmove(self, color: int, kind: Kind = "play", thought: "Search | None" = None) -> int:
        """Return a move of `color`, or RESIGN; but for "suggest" the move is then on the board.

        A "cleanup" captures dead stones of the opponent before it passes; like "suggest" it doesn't
        resign. thought: what `think` yielded last, where it has been thought already.
        """
        move = self.board.size**2
        if not self._may_pass(color, kind == "cleanup"):
            *_, search = [thought] if thought else self.think(color)
            result = search.result(0)
            move = self._choose(color, result, kind == "cleanup")
            if kind == "play" and self._has_lost(color, move, result):
                return RESIGN
        if kind != "suggest":
            self.play(move, color)
            self.waits = True
        return move

    def _choose(self, color: int, result: "SearchResult", is_cleanup: bool) -> int:
        """Return the move that a search speaks for."""
        board, passing, legal = self.board, self.board.size**2, self._legal(color)
        # The search, without the history, doesn't see every superko.
        move = result.move if legal[result.move] else _best_of(np.flatnonzero(legal), result)
        if is_cleanup and move == passing:
            dead = endgame.dead_stones(board, self.owner(color))
            theirs = [stone for stone in dead if board.stones().ravel()[stone] == opponent(color)]
            near = {move for stone in theirs for move in endgame.neighbours(stone, board.size)}
            return _best_of([move for move in near if legal[move]], result)
        if self.config.level and move != passing:
            return self._move_like_a_person(color, result)
        return move

    def _legal(self, color: int) -> np.ndarray:
        """Return (A,) bool: the moves that the game's whole history allows."""
        board = self.board
        return np.array([board.is_legal(move, color) for move in range(board.size**2 + 1)])

    def _move_like_a_person(self, color: int, result: "SearchResult") -> int:
        """Draw as many moves as the level from what people play; return what the search likes best.

        Level 1 is a person's first idea, the higher ones think twice. Pass is the search's choice.
        """
        from .shipped import choose_network

        network = choose_network(self.board.size, human=True)
        policy = ((self.policy(self.position(color), network) + 1e-9) * self._legal(color))[:-1]
        moves = self._rng.choice(len(policy), self.config.level, p=policy / policy.sum())
        return int(max(moves, key=lambda move: (result.moves["visits"][move], policy[move])))

    def _has_lost(self, color: int, move: int, result: "SearchResult") -> bool:
        """Has it looked lost for RESIGN_MOVES moves?

        In a handicap game White's first moves always do: he plays them.
        """
        if self.boards[0].stones().any() and len(self.moves) < self.board.size**2 // 4:
            return False
        if move != self.board.size**2:
            is_lost = (result.root["win"] + 1) / 2 < self.config.resign
            self._num_lost[color] = self._num_lost.get(color, 0) + 1 if is_lost else 0
        return self._num_lost.get(color, 0) >= RESIGN_MOVES

    def _may_pass(self, color: int, is_cleanup: bool) -> bool:
        """Need `color` not think: is nothing left to gain, or does a pass win?

        Where dead stones count for the opponent they are captured first: the search sees to that.
        """
        board, sign, stones = self.board, sign_of(color), self.board.stones().ravel()
        alive, area = board.pass_alive(), board.area()
        if (alive != EMPTY).all() and (alive == area).all():
            return True
        has_passed = self.moves[-1:] == [(opponent(color), board.size**2)]
        is_won = has_passed and not is_cleanup and sign * board.score() > 0
        if endgame.counts_all(board) and not is_cleanup:
            return is_won
        is_late = stones.astype(bool).mean() > 1 / 3
        if not is_late and not is_won:
            return False
        owner = self.owner(color)
        dead = endgame.dead_stones(board, owner)
        if is_cleanup and opponent(color) in stones[dead]:
            return False
        if is_late and endgame.is_settled(board, owner, dead):
            return True
        is_certain = endgame.is_certain(board, owner)
        return is_won and is_certain and sign * endgame.score(board, dead) > 0

    def score(self) -> float:
        """Count the board as the rules say, Black minus White, dead stones taken off."""
        board, dead = self.board, []
        if not endgame.counts_all(board):
            dead = endgame.dead_stones(board, self.owner(board.to_play))
        return endgame.score(board, dead)

    def statuses(self) -> dict[str, list[list[int]]]:
        """Return the chains that are "alive", in "seki", and "dead"."""
        return endgame.statuses(self.board, self.owner(self.board.to_play))


def _best_of(moves: Iterable[int], result: "SearchResult") -> int:
    """Return the move that a search likes best, or pass if there is none."""
    visits, priors = result.moves["visits"], result.moves["prior"]
    best = max(moves, key=lambda move: (visits[move], priors[move]), default=len(visits) - 1)
    return int(best)
