"""The player behind GTP: a game with its history, a clock, a search, and manners at the end.

Leaves out the protocol itself. The network is loaded when something first needs it.
"""

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import takewhile
from operator import attrgetter

import numpy as np

from .._board import Board, IllegalMove
from ..config import PlayConfig, Rules, SearchConfig, change
from ..coords import BLACK, MAX_SIZE, check_size, sign_of
from ..evaluator import Evaluator, legal_policy, make_evaluator
from ..ranks import at_rank
from ..record import GameRecord
from ..search import ALL_VISITS, Search, SearchResult
from . import endgame, shipped

DEFAULT_VISITS = 200  # per move, where neither visits nor time are limited
LEAVES = 8  # at most, evaluated at once: faster, but the search is less well informed,
VISITS_PER_LEAF = 32  # so that a move needs this many visits for each
LAG_S = 0.2  # kept back from every time limit
RESIGN_MOVES = 3  # own moves in a row that look lost before it resigns
LEVEL_VISITS = 16  # per move and level


@dataclass
class Clock:
    """Time settings, and what is left to each colour."""

    main_s: float = math.inf
    period_s: float = 0.0  # of overtime
    stones: int = 0  # to play in a period; 1: Japanese, and it begins again with every move
    left: dict[int, tuple[float, int]] = field(default_factory=dict)  # (seconds, stones) by colour

    def __post_init__(self) -> None:
        if self.period_s > 0 and self.stones <= 0:  # GTP specification, 4.2
            self.main_s = math.inf

    def limit(self, color: int, num_moves: int, size: int) -> float:
        """Return how many seconds the next move of `color` may take."""
        left_s, stones = self.left.get(color, (self.main_s, 0))
        if stones:
            return max(0.05, 0.9 * left_s / stones - LAG_S)
        per_stone = self.period_s / max(1, self.stones)
        num_left = max(0.6 * size * size - num_moves, 0.15 * size * size) / 2  # own moves to come
        return max(0.05, min(left_s / num_left + 0.8 * per_stone, left_s + per_stone) - LAG_S)

    def spend(self, color: int, seconds: float) -> None:
        """Take a move off main time, for clients that don't tell `time_left`."""
        left_s, stones = self.left.get(color, (self.main_s, 0))
        if not stones:
            self.left[color] = max(0.0, left_s - seconds), 0

    def tell(self, color: int, seconds: float, stones: int) -> None:
        """Note what a client says is left: 0 stones in main time, else those, or periods, to go."""
        self.left[color] = seconds, max(0, min(stones, 1) if self.stones == 1 else stones)


class Engine:
    """A game with its positions, a clock, and a search of the present position."""

    def __init__(self, config: PlayConfig, rules: Rules | None = None) -> None:
        self.config, self.clock = config, Clock()
        self.rules = rules or Rules()  # with the komi as told; that of the boards has the bonus
        self.boards = [Board(9, self.rules)]  # the game's positions, the present one last
        self.is_interrupted: Callable[[], bool] = lambda: True  # has another line arrived?
        self.must_hurry: Callable[[], bool] = lambda: False  # has `quit` arrived?
        self.own: Board | None = None  # the position that its last move made
        self.avoided = np.zeros((3, MAX_SIZE**2 + 1), np.int32)  # in a search: `Forest.avoid`
        self._num_lost: Counter[int] = Counter()  # by colour: own moves in a row that looked lost
        self.networks: dict[tuple, tuple[Evaluator, dict]] = {}  # engines may share
        self._search: Search | None = None
        self._root: Board | None = None  # where in the game it is
        self._rng = np.random.default_rng(self.config.seed)

    @property
    def board(self) -> Board:
        """Return the present position."""
        return self.boards[-1]

    @property
    def level(self) -> int:
        """Return how many moves it draws from people's; 0: it plays its best."""
        return self.config.level or int(self.config.rank is not None)

    def start(self, size: int, *stones: Iterable[int], to_play: int = BLACK) -> None:
        """Begin a game, with set-up stones of Black and of White if any. Raises ValueError."""
        board = Board(check_size(size), self.rules, to_play)
        board.place(*(stones or [()]))
        self.boards = [board]
        self.change_rules()
        self._num_lost.clear()
        self.start_clock()

    def play(self, color: int, move: int) -> None:
        """Play a move of either colour; a colour may move twice in a row. Raises ValueError."""
        board = self.board.copy()
        try:
            board.play(move, color)
        except IllegalMove as error:
            raise ValueError(f"illegal move: {error}") from None
        self.boards.append(board)

    def undo(self) -> None:
        """Take the last move back. Raises ValueError at the beginning."""
        if len(self.boards) == 1:
            raise ValueError("cannot undo")
        self.boards.pop()
        self._num_lost.clear()

    def change_rules(self, rules: Rules | None = None, **values) -> None:
        """Go on under other rules, or under these with other values. Raises ValueError."""
        rules = change(rules or self.rules, **values)
        stones, komi = self.boards[0].stones(), rules.komi
        if (number := int((stones > 0).sum())) > 1 and stones.max() == BLACK:  # a handicap
            komi += {"0": 0, "N-1": number - 1, "N": number}[rules.handicap_bonus]
        self.rules, rules = rules, change(rules, komi=komi)
        for board in self.boards:
            board.rules = rules
        self._root = None

    def take(self, positions: Iterable, rules: Rules, num_moves: int | None = None) -> None:
        """Take the positions of `load_game`, and their komi; if it goes on, so may the tree."""
        boards, num_played = [], 0
        for _, color, board in positions:
            if color and num_played == num_moves:
                break
            num_played += bool(color)
            if not color and board.num_moves == 0:  # set-up begins anew
                boards = []
            if color or not boards:
                boards.append(board)
        key = attrgetter("size", "hash", "to_play", "num_moves", "last_move")
        pairs = zip(map(key, self.boards), map(key, boards), strict=False)
        num_known = len([*takewhile(lambda pair: pair[0] == pair[1], pairs)])
        if num_known < len(self.boards):
            self._num_lost.clear()
        rules = change(rules, komi=board.rules.komi)
        root = self._root if rules == self.rules else None
        self.boards = self.boards[:num_known] + boards[num_known:]
        self.change_rules(rules)
        self._root = root

    def record(self) -> GameRecord:
        """Return the game so far; a pass stands between two moves of one colour."""
        (first, *others), moves = self.boards, []
        start = to_play = 3 - others[0].to_play if others else first.to_play
        for board in others:
            moves += [first.size**2] * (board.to_play == to_play) + [board.last_move]
            to_play = board.to_play
        setup = first.stones().ravel() if first.stones().any() else None
        return GameRecord(first.size, self.rules, np.array(moves, np.int16), start, setup)

    def position(self, color: int) -> Board:
        """Return the board with `color` to move, and in play again if the game was over."""
        board = self.board.copy()
        if board.num_passes:  # the search would end the game by a pass, finished or not
            board = endgame.take_off(board, [])
        board.to_play = color
        return board

    def network_name(self, is_human: bool = False) -> str:
        """Return the name or path of the network that plays here, or of that of people's moves."""
        given = None if is_human else self.config.checkpoint
        return given or shipped.choose_network(self.board.size, is_human)

    def network(self, is_human: bool = False) -> tuple[Evaluator, dict]:
        """Return the network that plays here, or that of people's moves, and its `info`."""
        name, size, config = self.network_name(is_human), self.board.size, self.config
        options = {"device": config.device, "threads": config.threads, "max_batch": 1}
        if not is_human and self._limits(self.board.to_play)[0] >= 2 * VISITS_PER_LEAF:
            options["max_batch"] = LEAVES
        rank = config.rank if is_human else None
        key = name, size, rank, *options.items()
        if key not in self.networks:
            net, info = shipped.load_for(size, name)
            self.networks[key] = make_evaluator(at_rank(net, rank), size, **options), info
        return self.networks[key]

    def start_clock(self, *settings: float) -> None:
        """Play with the time settings of a `Clock`, or with those of before, from the start."""
        self.clock = Clock(*settings) if settings else replace(self.clock, left={})
        if self.clock.main_s < math.inf:  # load the network, so that no move pays for it
            with contextlib.suppress(ValueError, OSError):  # a move will say what is wrong
                for is_human in {False, self.level > 0}:
                    self.network(is_human)[0].evaluate_boards([self.board])

    def owner(self, color: int) -> np.ndarray:
        """Return (N * N,) whose the points will be with `color` to move, +1 = Black's."""
        return shipped.predict_owner(self.position(color), *self.network())

    def search_at(self, color: int) -> Search:
        """Return the search, its root here with `color` to move; it keeps what it can."""
        evaluator, board, search = self.network()[0], self.position(color), self._search
        leaves = max(1, min(LEAVES, self._limits(color)[0] // VISITS_PER_LEAF))
        if not search or (search.evaluator.evaluator, search.config.leaves) != (evaluator, leaves):
            turned = shipped.Turned(evaluator, board.size, self._rng)
            search = Search(turned, SearchConfig(leaves=leaves), [board], self._rng)
        elif not self._follow(search, board):
            search.forest.reset(0, board)
        self._search, self._root = search, self.board
        return search

    def _follow(self, search: Search, board: Board) -> bool:
        """Play the moves since the last search in its tree; tell whether it is at `board` then."""
        if self._root not in self.boards:
            return False
        root = search.boards[0]
        for later in self.boards[self.boards.index(self._root) + 1 :]:
            if later.to_play == root.to_play:  # a colour moves twice in a row
                return False
            search.forest.advance(0, later.last_move)
        return (root.to_play, root.num_passes) == (board.to_play, board.num_passes)

    def _limits(self, color: int) -> tuple[int, float]:
        """Return how many visits and seconds of the clock a move of `color` may take."""
        clock_s = self.clock.limit(color, self.board.num_moves, self.board.size)
        visits = LEVEL_VISITS * self.level or self.config.visits
        if visits is None:
            visits = ALL_VISITS if self.config.time_s or clock_s < math.inf else DEFAULT_VISITS
        return max(1, visits), clock_s

    def think(self, color: int, interval_s: float, is_endless: bool = False) -> Iterator[Search]:
        """Search for as long as a move of `color` may take; yield the search at each interval."""
        started, (visits, clock_s), stop = time.monotonic(), self._limits(color), self.must_hurry
        search = self.search_at(color)  # may load the network, which --time doesn't count
        until, passes = self.avoided[:, : self.board.size**2 + 1].copy(), self.board.size**2
        if is_restricted := until.any():  # a tree of its own
            self._root = None
        elif not (is_endless or endgame.is_closed(self.board)):
            until[color, passes] = ALL_VISITS  # it doesn't pass: it can't be finished
        if is_restricted or (until.any() and search.forest.moves(0)["visits"][passes]):
            search.forest.reset(0, search.boards[0])
        search.forest.avoid(0, until)
        deadline = min(started + clock_s, time.monotonic() + (self.config.time_s or math.inf))
        if is_endless:  # until a line arrives, and nothing is taken off the clock
            visits, deadline, stop = ALL_VISITS, math.inf, self.is_interrupted
        is_done = False
        while not is_done:
            look_s = min(deadline, time.monotonic() + interval_s)
            search.run(max(1, visits - search.forest.num_visits(0)), deadline=look_s, stop=stop)
            while is_endless and time.monotonic() < look_s and not stop():
                time.sleep(0.01)  # the tree is full
            is_done = stop() or not look_s <= time.monotonic() < deadline  # before: no room
            yield search
        if not is_endless:
            self.clock.spend(color, time.monotonic() - started)

    def genmove(self, color: int, kind: str = "play", search: Search | None = None) -> int | None:
        """Return a move of `color`, or None to resign; but for "suggest" it is then on the board.

        A "cleanup" captures dead stones of the opponent before it passes; like "suggest" it doesn't
        resign. search: what `think` yielded last, where it has been thought already.
        """
        move = self.board.size**2
        if not self.avoided[color, move] and self._is_over(color, kind == "cleanup"):
            is_lost = not self.board.num_passes and sign_of(color) * self.score() < 0
        else:
            *_, search = [search] if search else self.think(color, math.inf)
            result = search.result(0)
            move = self._choose(color, result, kind == "cleanup")
            is_lost = (result.root["win"] + 1) / 2 < self.config.resign
        if kind == "play" and self._resigns(color, is_lost):
            return None
        if kind != "suggest":
            self.play(color, move)
            self.own = self.board
        return move

    def _choose(self, color: int, result: SearchResult, is_cleanup: bool) -> int:
        """Return the move that a search speaks for, of those that the game's history allows."""
        board, size = self.board, self.board.size
        ranked = np.lexsort((-result.moves["prior"], -result.moves["visits"])).tolist()
        # The search, without the history, doesn't see every superko.
        legal = [m for m in ranked if board.is_legal(m, color) and not self.avoided[color, m]]
        best = result.move if result.move in legal else legal[0]
        if best != size * size:
            return self._move_like_a_person(color, legal, result) if self.level else best
        if is_cleanup:
            dead, stones = endgame.dead_stones(board, self.owner(color)), board.stones().ravel()
            near = endgame.neighbours([m for m in dead if stones[m] == 3 - color], size)
            return next((move for move in legal if move in near), best)
        return best

    def _move_like_a_person(self, color: int, legal: list[int], result: SearchResult) -> int:
        """Draw as many moves as the level from what people play; return the search's favourite."""
        # Level 1 is a person's first idea, the higher ones think twice.
        human, size = self.network(is_human=True)[0], self.board.size
        logits = human.evaluate_boards([self.position(color)]).logits[0]
        policy = legal_policy(logits[:-1], np.isin(np.arange(size * size), legal))
        moves = self._rng.choice(len(policy), self.level, p=policy)
        return int(max(moves, key=lambda move: (result.moves["visits"][move], policy[move])))

    def _resigns(self, color: int, is_lost: bool) -> bool:
        """Has it looked lost for RESIGN_MOVES moves, in a handicap game late enough?"""
        self._num_lost[color] = self._num_lost[color] + 1 if is_lost and self.config.resign else 0
        # In a handicap game White's first moves always do: he plays them.
        is_early = self.boards[0].stones().any() and not endgame.is_late(self.board)
        return self._num_lost[color] >= RESIGN_MOVES and not is_early

    def _is_over(self, color: int, is_cleanup: bool) -> bool:
        """Need `color` not think: is the board finished, and nothing left to gain?"""
        board, sign, stones = self.board, sign_of(color), self.board.stones().ravel()
        alive = board.pass_alive()
        if alive.all() and (alive == board.area()).all():
            return True
        if not endgame.is_late(self.board):
            return False
        owner = self.owner(color)
        dead = endgame.dead_stones(board, owner)
        if not endgame.is_settled(board, owner, dead):
            return False
        if is_cleanup:  # dead stones are captured first
            return 3 - color not in stones[dead]
        # Where all stones count, it may be that only capturing the dead ones wins.
        is_counted = not endgame.counts_all(board) or sign * board.score() > 0
        return is_counted or sign * endgame.score(board, dead) <= 0

    def score(self) -> float:
        """Count the board as the rules say, Black minus White, dead stones taken off."""
        board, dead = self.board, []
        if not endgame.counts_all(board):
            dead = endgame.dead_stones(board, self.owner(board.to_play))
        return endgame.score(board, dead)
