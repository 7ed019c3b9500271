"""The player behind GTP: a game with its history, a clock, a search, and manners at the end.

Leaves out the protocol itself. The network is loaded when something first needs it.
"""

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .._board import NUM_PLANES, Board, IllegalMove
from .._rollouts import random_playouts
from ..config import RULES, PlayConfig, Rules, SearchConfig, change
from ..coords import BLACK, EMPTY, WHITE, opponent, symmetry_table
from ..record import GameRecord

DEFAULT_VISITS = 200  # per move, where neither visits nor time are limited
LEAVES = 8  # at most, evaluated at once: faster, but the search is less well informed,
VISITS_PER_LEAF = 32  # so that a move needs this many visits for each
LAG_S = 0.2  # kept back from every time limit
RESIGN_MOVES = 3  # own moves in a row that look lost before it resigns
SETTLED_OWNERSHIP = 0.5  # a point or chain that is owned more than this is settled
PLAYOUTS = 1000  # random games that tell who owns what, where the network never learned it
EYES_POINTS = 4  # a territory of so many points has room for two eyes
MAX_EDGES = 20_000_000  # where a tree stops growing: about 0.4 GB
LEVEL_VISITS = 16  # per move and level
RESIGN = -1
NOTHING = (None, EMPTY, None)


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
        self._num_lost = {}  # by colour: own moves in a row that looked lost
        self._nets, self._evaluators = {}, {}  # by checkpoint; by checkpoint and size
        self._search, self._searched = None, ()  # and the game as the search knows it
        self._owned = NOTHING  # board, colour and points of the last `ownership`
        self._rng = np.random.default_rng(self.config.seed)

    # ---- the game ----

    @property
    def board(self) -> Board:
        return self.boards[-1]

    def start(self, size: int, black=(), white=(), to_play: int = BLACK) -> None:
        """Begin a game on an empty board, or with set-up stones. Raises ValueError."""
        board = Board(size, self.board.rules, to_play)
        if black or white:
            board.place(black, white)
        self.restart(board)
        self._prepare()

    def restart(self, board: Board) -> None:
        """Begin a game at a position."""
        self.boards, self.moves, self._searched = [board], [], ()
        self._num_lost, self.waits = {}, False
        self.clock.left.clear()

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
        self._searched, self._owned = (), NOTHING

    def change_config(self, **values) -> None:
        """Go on with other visits, time or threads. Raises ValueError."""
        self.config = change(self.config, **values)
        self._search = None
        if "threads" in values:
            self._evaluators.clear()

    def load(self, path: str, num_moves: int | None = None) -> None:
        """Take an SGF file's first game, or its first moves, with its komi. Raises ValueError."""
        from ..sgf import Skipped, load_games

        if not Path(path).is_file():
            raise ValueError(f"cannot load file {path!r}")
        record = next(iter(load_games([path], is_session=True)), None)
        if not isinstance(record, GameRecord):
            reason = record.reason if isinstance(record, Skipped) else "no game"
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
        stones = first.stones().astype(np.int8).ravel()
        setup = stones if stones.any() else None
        return GameRecord(first.size, first.rules, np.array(moves, np.int16), start, setup)

    def position(self, color: int) -> Board:
        """Return the board with `color` to move, and in play again if the game was over."""
        board = self.board.copy()
        if self._is_ending():
            board = _with_stones(board, board.stones().ravel())
        board.to_play = color
        return board

    def _is_ending(self) -> bool:
        """Is the game over, or would a pass end it that the search can't count?

        It counts dead stones as alive, so it would pass too soon where they will be taken off.
        """
        return self.board.is_over or (self.board.num_passes > 0 and not self.is_plain())

    # ---- the network ----

    def evaluator(self, checkpoint: str | None = None):
        """Return a network's evaluator for the board's size, by default of the one that plays."""
        from ..evaluator import make_evaluator

        config, size = self.config, self.board.size
        key = checkpoint or config.checkpoint, size
        if key not in self._evaluators:
            net = self._load(*key)
            self._evaluators[key] = make_evaluator(
                net, size, device=config.device, max_batch=LEAVES, threads=config.threads
            )
        return self._evaluators[key]

    def _load(self, name: str, size: int):
        from ..checkpoint import load_checkpoint, load_network
        from .shipped import choose_network, trained_sizes

        if name not in self._nets:
            checkpoint = load_checkpoint(name)
            self._nets[name] = load_network(checkpoint), checkpoint.info
        net, info = self._nets[name]
        sizes, here = [f"{n}x{n}" for n in trained_sizes(info)], f"{size}x{size}"
        if sizes and here not in sizes:
            better = choose_network(size, human=False)
            text = f"{name} was trained on {' and '.join(sizes)} alone: on {here} it guesses"
            text += f", unlike {better}" * better.startswith(here)
            print(f"minigo: warning: {text}", file=sys.stderr, flush=True)
        return net

    def _prepare(self) -> None:
        """Load the network now if there is a clock, so that no move of the game pays for it."""
        if self.clock.main_s is None:
            return
        from .shipped import choose_network

        people = [choose_network(self.board.size, human=True)] if self.config.level else []
        with contextlib.suppress(ValueError, OSError):  # a move will say what is wrong
            shape = (LEAVES + 1, NUM_PLANES, self.board.size, self.board.size)
            for checkpoint in [None, *people]:
                self.evaluator(checkpoint).evaluate(np.zeros(shape, np.float32))

    def start_clock(self, clock: Clock) -> None:
        """Play with these time settings."""
        self.clock = clock
        self._prepare()

    def evaluate(self, board: Board, checkpoint: str | None = None):
        """Return a network's own opinion of a position, for the player to move: (1, ...)."""
        return self.evaluator(checkpoint).evaluate_boards([board])

    def policy(self, board: Board, checkpoint: str | None = None) -> np.ndarray:
        """Return (A,) the probabilities that a network gives the moves, 0 where illegal."""
        from ..evaluator import legal_policy

        return legal_policy(self.evaluate(board, checkpoint).logits[0], board.legal_moves())

    def ownership(self, color: int) -> np.ndarray:
        """Return (N * N,) whose points they will be, +1 = that colour's.

        The network's mean over all symmetries; where it never learned that, random games tell.
        """
        if self._owned[:2] == (self.board, color):
            return self._owned[2]
        from .shipped import knows_ownership

        size, board, evaluator = self.board.size, self.position(color), self.evaluator()
        if knows_ownership(self._nets[self.config.checkpoint][1], size):
            table = symmetry_table(size)
            planes = np.zeros((len(table), NUM_PLANES, size, size), dtype=np.float32)
            for symmetry in range(len(table)):
                board.write_planes(planes[symmetry], symmetry)
            owner = evaluator.evaluate(planes).ownership.reshape(len(table), -1)
            owner = np.mean([row[to] for row, to in zip(owner, table[:, :-1], strict=True)], axis=0)
        else:
            owner = random_playouts(board, PLAYOUTS, 1)[1].ravel() * (1 if color == BLACK else -1)
        self._owned = self.board, color, owner
        return owner

    # ---- the search ----

    def search_at(self, color: int):
        """Return the search, its root here with `color` to move; it keeps what it can."""
        from ..search import Search

        evaluator, board = self.evaluator(), self.position(color)
        game = (id(self.boards[0]), *self.moves)
        leaves = max(1, min(LEAVES, self._budget(color) // VISITS_PER_LEAF))
        kept = self._search
        if kept is None or (kept.boards[0].size, kept.config.leaves) != (board.size, leaves):
            self._search = Search(evaluator, SearchConfig(leaves=leaves), [board], self._rng)
        elif not self._follow(game, color):
            self._search.reset(0, board)
        self._searched = game
        return self._search

    def _follow(self, game: tuple, color: int) -> bool:
        """Play the moves since the last search in its tree, if they follow from it."""
        known, to_play = self._searched, self._search.boards[0].to_play
        if not known or game[: len(known)] != known or (self._is_ending() and game != known):
            return False
        for mover, move in game[len(known) :]:
            if mover != to_play:
                return False
            self._search.play(0, move)
            to_play = opponent(mover)
        return to_play == color

    def _budget(self, color: int) -> int:
        """Return how many visits a move of `color` may take, where its time lasts."""
        visits = LEVEL_VISITS * self.config.level or self.config.visits
        if visits is None:
            is_timed = self.config.time_s is not None or self._clock_s(color) is not None
            visits = self.most_visits() if is_timed else DEFAULT_VISITS
        return max(1, min(visits, self.most_visits()))

    def _clock_s(self, color: int) -> float | None:
        return self.clock.limit(color, len(self.moves), self.board.size)

    def most_visits(self) -> int:
        """Return how many visits a tree has room for."""
        return MAX_EDGES // (self.board.size**2 + 1)

    def think(self, color: int, interval_s: float = math.inf) -> Iterator:
        """Search for as long as a move of `color` may take; yield the search now and then."""
        started, config = time.monotonic(), self.config
        clock_s, visits = self._clock_s(color), self._budget(color)
        search = self.search_at(color)  # may load the network, which --time doesn't count
        deadline = time.monotonic() + (config.time_s or math.inf)
        deadline = min(deadline, started + (math.inf if clock_s is None else clock_s))
        is_done = False
        while not is_done:
            until = min(deadline, time.monotonic() + interval_s)
            missing = max(1, visits - search.forest.num_visits(0))
            search.run(missing, deadline=until, stop=self.must_hurry)
            is_done = search.forest.num_visits(0) >= visits or self.must_hurry()
            is_done |= time.monotonic() >= deadline
            if is_done:
                self.clock.spend(color, time.monotonic() - started)
            yield search

    def ponder(self) -> None:
        """Think about the opponent's move, until a line arrives or the tree is full."""
        search = self.search_at(opponent(self.moves[-1][0]))
        room = max(0, self.most_visits() - search.forest.num_visits(0))
        search.run(room, stop=self.is_interrupted)

    # ---- the choice of a move ----

    def consider(self, color: int, is_cleanup: bool = False) -> None:
        """Think, unless a pass needs no thought."""
        if not self._may_pass(self.position(color), is_cleanup):
            for _ in self.think(color):
                pass

    def choose(self, color: int, is_cleanup: bool = False) -> int:
        """Return the move for `color` that the search so far speaks for.

        In a cleanup, dead stones of the opponent are captured before a pass.
        """
        board = self.position(color)
        if self._may_pass(board, is_cleanup):
            return board.size**2
        result = self.search_at(color).result(0)
        move, legal = int(result.move), self._legal(color)
        if not legal[move]:  # a superko that the search, without the history, didn't see
            move = _best_of(np.flatnonzero(legal), result)
        if is_cleanup and move == board.size**2:
            move = self._capture(board, result)
        elif self.config.level and move != board.size**2:
            move = self._move_like_a_person(board, result)
        return move

    def _legal(self, color: int) -> np.ndarray:
        """Return (A,) bool: the moves that the game's whole history allows."""
        board = self.board
        return np.array([board.is_legal(move, color) for move in range(board.size**2 + 1)])

    def decide(self, color: int) -> int:
        """Return `choose`'s move, or RESIGN after some moves that looked lost.

        In a handicap game White's first moves always do: he plays them.
        """
        move = self.choose(color)
        if self.boards[0].stones().any() and len(self.moves) < self.board.size**2 // 4:
            return move
        if move != self.board.size**2:
            is_lost = (self.search_at(color).result(0).root["win"] + 1) / 2 < self.config.resign
            self._num_lost[color] = self._num_lost.get(color, 0) + 1 if is_lost else 0
        return RESIGN if self._num_lost.get(color, 0) >= RESIGN_MOVES else move

    def _move_like_a_person(self, board: Board, result) -> int:
        """Draw as many moves as the level from what people play; return what the search likes best.

        Level 1 is a person's first idea, the higher ones think twice. Pass is the search's choice.
        """
        from .shipped import choose_network

        network = choose_network(board.size, human=True)
        policy = ((self.policy(board, network) + 1e-9) * self._legal(board.to_play))[:-1]
        moves = self._rng.choice(len(policy), self.config.level, p=policy / policy.sum())
        return int(max(moves, key=lambda move: (result.moves["visits"][move], policy[move])))

    def _capture(self, board: Board, result) -> int:
        """Return the best move next to a dead stone of the opponent, or pass."""
        stones, theirs = board.stones().ravel(), opponent(board.to_play)
        dead = [move for move in self.dead_stones() if stones[move] == theirs]
        near = {move for stone in dead for move in _neighbours(stone, board.size)}
        legal = self._legal(board.to_play)
        return _best_of([move for move in near if legal[move]], result)

    def _may_pass(self, board: Board, is_cleanup: bool) -> bool:
        """Need the player to move not think: is nothing left to gain, or does a pass win?

        Where dead stones count for the opponent they are captured first: the search sees to that.
        """
        alive, area = board.pass_alive(), board.area()
        if (alive != EMPTY).all() and (alive == area).all():
            return True
        if (is_cleanup or not self.is_plain()) and board.stones().astype(bool).mean() > 1 / 3:
            dead = self.dead_stones()
            theirs = (board.stones().ravel()[dead] == opponent(board.to_play)).any()
            if is_cleanup and theirs:
                return False
            if self._is_settled(board, dead):
                return True
        last = self.moves[-1] if self.moves else None
        if is_cleanup or last != (opponent(board.to_play), board.size**2):
            return False
        sign = 1 if board.to_play == BLACK else -1
        is_agreed = self.is_plain() or (self._is_certain() and sign * self.score() > 0)
        return sign * board.score() > 0 and is_agreed

    def _is_settled(self, board: Board, dead: list[int]) -> bool:
        """Is every point somebody's, as the stones show and the network agrees?"""
        area = self._without(dead).area().ravel()
        owner = self.ownership(board.to_play) * (1 if board.to_play == BLACK else -1)
        owner[area == WHITE] *= -1
        return bool((area != EMPTY).all() and (owner > SETTLED_OWNERSHIP).all())

    # ---- the end of the game ----

    def is_plain(self) -> bool:
        """Do the rules count every stone on the board as alive, as Tromp-Taylor does?"""
        return self.board.rules == change(RULES["tromp-taylor"], komi=self.board.rules.komi)

    def _chains(self) -> Iterator[tuple[list[int], int, float]]:
        """Yield (points, colour, how much of them the network gives that colour) of every chain."""
        board = self.board
        owner = self.ownership(board.to_play) * (1 if board.to_play == BLACK else -1)
        stones = board.stones().ravel()
        for move in np.flatnonzero(stones).tolist():
            chain, color = board.chain(move), int(stones[move])
            if move == chain[0]:
                yield chain, color, float(owner[chain].mean()) * (1 if color == BLACK else -1)

    def dead_stones(self) -> list[int]:
        """Return the dead stones as moves: by Benson's rule, else as the network thinks.

        A chain is dead if its points are rather the opponent's; those of a seki aren't.
        """
        alive, dead = self.board.pass_alive().ravel(), []
        for chain, color, owned in self._chains():
            owner = alive[chain[0]]
            if owner == opponent(color) or (owner == EMPTY and owned < 0):
                dead += chain
        return dead

    def _is_certain(self) -> bool:
        """Does the network know of every chain whether it is dead?"""
        return all(abs(owned) > SETTLED_OWNERSHIP for _, _, owned in self._chains())

    def _without(self, dead: list[int]) -> Board:
        stones = self.board.stones().ravel()
        stones[dead] = EMPTY
        return _with_stones(self.board, stones)

    def seki(self, dead: list[int]) -> list[int]:
        """Return the points of seki, stones and eyes: two colours with a neutral point in common.

        Neither of them has two eyes: a territory of EYES_POINTS, or two of any size. The dead
        stones are taken off first.
        """
        board = self._without(dead)
        area, stones = board.area().ravel(), board.stones().ravel()
        alive = board.pass_alive().ravel()
        eyes = [r for r in _regions(stones) if stones[r[0]] == EMPTY and area[r[0]] != EMPTY]
        weak = np.zeros(len(area), dtype=bool)
        groups = [r for r in _regions(area) if area[r[0]] != EMPTY]
        for group in groups:
            sizes = [len(eye) for eye in eyes if eye[0] in group]
            is_safe = len(sizes) > 1 or sum(sizes) >= EYES_POINTS or (alive[group] != EMPTY).any()
            weak[group] = not is_safe
        points = []
        for neutral in [r for r in _regions(area) if area[r[0]] == EMPTY]:
            around = {near for move in neutral for near in _neighbours(move, board.size)}
            colors = {int(area[near]) for near in around if weak[near]}
            if colors == {BLACK, WHITE}:
                touching = [g for g in groups if weak[g[0]] and not around.isdisjoint(g)]
                points += [move for group in touching for move in group]
        return sorted(set(points))

    def statuses(self) -> dict[str, list[list[int]]]:
        """Return the chains that are alive, in seki, and dead."""
        dead = self.dead_stones()
        seki, chains = set(self.seki(dead)), {"alive": [], "seki": [], "dead": []}
        for chain, _, _ in self._chains():
            status = "dead" if chain[0] in dead else "seki" if chain[0] in seki else "alive"
            chains[status].append(chain)
        return chains

    def score(self) -> float:
        """Count the board as the rules say, Black minus White, dead stones taken off."""
        board = self.board
        if self.is_plain():
            return board.score()
        dead = self.dead_stones()
        cleaned = self._without(dead)
        if board.rules.scoring == "area":
            return cleaned.score()
        stones = board.stones().ravel()
        lost = [
            taken + int((stones[dead] == color).sum())
            for color, taken in zip((BLACK, WHITE), board.prisoners, strict=True)
        ]
        territory = cleaned.area().ravel()
        territory[cleaned.stones().ravel() != EMPTY] = EMPTY
        territory[self.seki(dead)] = EMPTY  # an eye in a seki is no territory
        points = int((territory == BLACK).sum()) - int((territory == WHITE).sum())
        return points + lost[1] - lost[0] - board.rules.komi


def _best_of(moves: Iterable[int], result) -> int:
    """Return the move that a search likes best, or pass if there is none."""
    passing = len(result.moves["visits"]) - 1
    return int(
        max(
            moves,
            key=lambda m: (result.moves["visits"][m], result.moves["prior"][m]),
            default=passing,
        )
    )


def _with_stones(board: Board, stones: np.ndarray) -> Board:
    """Return a board that begins with (N * N,) stones."""
    placed = Board(board.size, board.rules)
    placed.place(*(np.flatnonzero(stones == color).tolist() for color in (BLACK, WHITE)))
    return placed


def _neighbours(move: int, size: int) -> list[int]:
    row, col = divmod(move, size)
    near = ((row - 1, col), (row, col - 1), (row, col + 1), (row + 1, col))
    return [r * size + c for r, c in near if 0 <= r < size and 0 <= c < size]


def _regions(values: np.ndarray) -> list[list[int]]:
    """Return the connected points of one value, region by region; values: (N * N,)."""
    size, unseen, regions = math.isqrt(len(values)), set(range(len(values))), []
    while unseen:
        region = [unseen.pop()]
        for move in region:  # grows as it goes
            near = {n for n in _neighbours(move, size) if values[n] == values[move]} & unseen
            unseen -= near
            region += near
        regions.append(region)
    return regions
