"""GTP 2 and the analysis commands that Sabaki uses; leaves out thinking on the opponent's time.

`Engine.answer` turns a line into its answer, piece by piece; `serve` does so for a stream. The
network is loaded when a command first needs it: a client's first questions are answered at once.
Sources: Farnebäck 2002, "Specification of the Go Text Protocol, version 2, draft 2"; KataGo's
docs/GTP_Extensions.md; Leela Zero's lz-analyze.
"""

import json
import os
import queue
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from . import __version__
from ._board import NUM_PLANES, Board, IllegalMove
from .config import RULES, Rules, SearchConfig
from .coords import (
    BLACK,
    COLUMNS,
    EMPTY,
    WHITE,
    check_size,
    format_color,
    format_vertex,
    opponent,
    parse_color,
    parse_vertex,
)
from .record import GameRecord

DEFAULT_VISITS = 200  # per move, where neither visits nor time are limited
LEAVES = 8  # at most, evaluated at once: faster, but the search is less well informed,
VISITS_PER_LEAF = 32  # so that a move needs this many visits for each
LAG_S = 0.2  # kept back from every time limit
QUIT_GRACE_S = 2.0  # how long a move is still thought about once `quit` has arrived
RESIGN_MOVES = 3  # own moves in a row that look lost before it resigns
DEAD_OWNERSHIP = -0.5  # a chain whose points are owned less than this by its colour is dead
MAX_EDGES = 20_000_000  # where a tree stops growing: about 0.4 GB
PV_LENGTH = 15
RESIGN = -1


@dataclass(frozen=True)
class Options:
    """How the engine plays."""

    checkpoint: str = "9x9"  # path or shipped name
    visits: int | None = None  # per move
    time_s: float | None = None  # per move at most, whatever the clock allows
    resign: float = 0.02  # chance of winning below which it resigns; 0: never
    device: str = "auto"
    threads: int = 1
    seed: int = 1

    def __post_init__(self):
        if self.visits is not None and self.visits < 0:
            raise ValueError(f"visits {self.visits} are less than none")
        if self.time_s is not None and not self.time_s > 0:
            raise ValueError(f"time {self.time_s} is not a positive number of seconds")
        if not 0 <= self.resign < 1:
            raise ValueError(f"resign {self.resign} is not between 0 and 1")


@dataclass
class Clock:
    """Time settings, and what is left to each colour."""

    main_s: float | None = None  # None: no limit
    period_s: float = 0.0  # of Canadian overtime
    stones: int = 0  # to play in a period
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


class Engine:
    """A GTP session: a game with its history, a clock, and a search of the present position."""

    def __init__(self, options: Options | None = None, rules: Rules | None = None) -> None:
        self.options, self.clock = options or Options(), Clock()
        self.boards = [Board(9, rules or Rules())]  # the game's positions, the present one last
        self.moves: list[tuple[int, int]] = []  # (colour, move), between those positions
        self.has_quit = False
        self.is_interrupted: Callable[[], bool] = lambda: True  # has another line arrived?
        self.must_hurry: Callable[[], bool] = lambda: False  # has `quit` arrived?
        self._num_lost = 0  # own moves in a row that looked lost
        self._net, self._evaluators = None, {}  # evaluators by size
        self._search, self._searched = None, ()  # and the game as the search knows it

    @property
    def board(self) -> Board:
        return self.boards[-1]

    def respond(self, line: str | bytes) -> str:
        """Return the whole answer to a line: "" if it needs none, else closed by a blank line."""
        return "".join(self.answer(line))

    def answer(self, line: str | bytes) -> Iterator[str]:
        """Yield the answer to a line in pieces; an analysis has one whenever there is news."""
        parsed = parse_line(line)
        if parsed is None:
            return
        number, name, arguments = parsed
        opening = f"={number}\n"
        try:
            if name not in COMMANDS:
                raise ValueError(f"unknown command {name[:40]!r}")
            text = COMMANDS[name][0](self, arguments)
            if text is None or isinstance(text, str):
                yield _format_answer("=", number, text or "")
                return
            for piece in text:
                yield opening + piece + "\n"
                opening = ""
            yield opening + "\n"
        except Exception as error:  # nothing that is sent may end the session
            if not isinstance(error, ValueError | OSError):
                traceback.print_exc()
            message = str(error) or repr(error)
            yield _format_answer("?", number, message) if opening else "\n"

    def restart(self, board: Board) -> None:
        """Begin a game at a position."""
        self.boards, self.moves, self._num_lost, self._searched = [board], [], 0, ()

    def play(self, move: int, color: int) -> None:
        """Play a move of either colour. Raises IllegalMove."""
        board = self.board.copy()
        board.play(move, color)
        self.boards.append(board)
        self.moves.append((color, move))

    def change_rules(self, rules: Rules) -> None:
        """Go on under other rules or komi."""
        for board in self.boards:
            board.rules = rules
        self._searched = ()

    def position(self, color: int) -> Board:
        """Return the board with `color` to move, and in play again if the game was over."""
        board = self.board.copy()
        if board.is_over:
            board = _with_stones(board, board.stones().ravel())
        board.to_play = color
        return board

    def evaluator(self):
        """Return the network's evaluator for the board's size."""
        from .checkpoint import load_checkpoint, load_network
        from .evaluator import make_evaluator

        size, options = self.board.size, self.options
        if self._net is None:
            self._net = load_network(load_checkpoint(options.checkpoint))
        if size not in self._evaluators:
            self._evaluators[size] = make_evaluator(
                self._net, size, device=options.device, max_batch=LEAVES, threads=options.threads
            )
        return self._evaluators[size]

    def evaluate(self, board: Board):
        """Return the network's own opinion of a position, for the player to move: (1, ...)."""
        planes = np.zeros((1, NUM_PLANES, board.size, board.size), dtype=np.float32)
        board.write_planes(planes[0])
        return self.evaluator().evaluate(planes)

    def search_at(self, color: int):
        """Return the search, its root here with `color` to move; it keeps what it can."""
        from .search import Search

        evaluator, board = self.evaluator(), self.position(color)
        game = (id(self.boards[0]), *self.moves)
        if self._search is None or self._search.boards[0].size != board.size:
            visits = self.options.visits or LEAVES * VISITS_PER_LEAF
            config = SearchConfig(leaves=max(1, min(LEAVES, visits // VISITS_PER_LEAF)))
            rng = np.random.default_rng(self.options.seed)
            self._search = Search(evaluator, config, [board], rng)
        elif not self._follow(game, color):
            self._search.reset(0, board)
        self._searched = game
        return self._search

    def _follow(self, game: tuple, color: int) -> bool:
        """Play the moves since the last search in its tree, if they follow from it."""
        known, to_play = self._searched, self._search.boards[0].to_play
        if not known or game[: len(known)] != known or self.board.is_over:
            return False
        for mover, move in game[len(known) :]:
            if mover != to_play:
                return False
            self._search.play(0, move)
            to_play = opponent(mover)
        return to_play == color

    def choose(self, color: int) -> int:
        """Think, and return a move for `color` or RESIGN."""
        started, board = time.monotonic(), self.position(color)
        if self._may_pass(board):
            return board.size**2
        search = self.search_at(color)
        limits_s = self.clock.limit(color, len(self.moves), board.size), self.options.time_s
        seconds = min((limit for limit in limits_s if limit is not None), default=None)
        visits, most = self.options.visits, MAX_EDGES // (board.size**2 + 1)
        if visits is None:
            visits = DEFAULT_VISITS if seconds is None else most
        search.run(
            max(1, min(visits, most) - search.result(0).num_visits),
            deadline=None if seconds is None else started + seconds,
            stop=self.must_hurry,
        )
        result = search.result(0)
        self.clock.spend(color, time.monotonic() - started)
        is_lost = (result.value + 1) / 2 < self.options.resign
        self._num_lost = self._num_lost + 1 if is_lost else 0
        return RESIGN if self._num_lost >= RESIGN_MOVES else int(result.move)

    def _may_pass(self, board: Board) -> bool:
        """Need the player to move not think: is nothing left to gain, or does a pass win?

        Dead stones that would count for the opponent are captured first: the search sees to that.
        """
        alive, area = board.pass_alive(), board.area()
        if (alive != EMPTY).all() and (alive == area).all():
            return True
        if not self.moves or self.moves[-1] != (opponent(board.to_play), board.size**2):
            return False
        sign = 1 if board.to_play == BLACK else -1
        return sign * board.score() > 0 and (self.is_plain() or sign * self.score() > 0)

    def is_plain(self) -> bool:
        """Do the rules count every stone on the board as alive, as Tromp-Taylor does?"""
        return self.board.rules == replace(RULES["tromp-taylor"], komi=self.board.rules.komi)

    def dead_stones(self) -> list[int]:
        """Return the dead stones as moves: by the network's ownership, checked by Benson's rule."""
        board = self.position(self.board.to_play)
        owner = self.evaluate(board).ownership.ravel()  # (N * N,) for the player to move
        stones, alive = board.stones().ravel(), board.pass_alive().ravel()
        dead = []
        for move in np.flatnonzero(stones).tolist():
            color = int(stones[move])
            owned = owner[board.chain(move)].mean() * (1 if color == board.to_play else -1)
            is_doubtful = alive[move] == EMPTY and owned < DEAD_OWNERSHIP
            if alive[move] == opponent(color) or is_doubtful:
                dead.append(move)
        return dead

    def score(self) -> float:
        """Count the board as the rules say, Black minus White, dead stones taken off."""
        board = self.board
        if self.is_plain():
            return board.score()
        stones, dead = board.stones().ravel(), self.dead_stones()
        lost = [
            taken + int((stones[dead] == color).sum())
            for color, taken in zip((BLACK, WHITE), board.prisoners, strict=True)
        ]
        stones[dead] = EMPTY
        cleaned = _with_stones(board, stones)
        if board.rules.scoring == "area":
            return cleaned.score()
        territory = cleaned.area().ravel()[stones == EMPTY]
        points = int((territory == BLACK).sum()) - int((territory == WHITE).sum())
        return points + lost[1] - lost[0] - board.rules.komi


def _with_stones(board: Board, stones: np.ndarray) -> Board:
    """Return a board that begins with (N * N,) stones."""
    placed = Board(board.size, board.rules)
    placed.place(*(np.flatnonzero(stones == color).tolist() for color in (BLACK, WHITE)))
    return placed


def parse_line(line: str | bytes) -> tuple[str, str, list[str]] | None:
    """Split a line into (id or "", command, arguments); None if there is nothing to answer."""
    if isinstance(line, bytes):
        line = line.decode("utf-8", "replace")
    if not line.strip(" \t\r\n") or line.lstrip().startswith("#"):
        return None
    words = re.sub(r"[\x00-\x08\x0a-\x1f\x7f]", "", line.partition("#")[0]).split()
    number = words.pop(0) if words and re.fullmatch(r"[0-9]+", words[0]) else ""
    return number, words[0] if words else "", words[1:]


def _format_answer(mark: str, number: str, text: str) -> str:
    """Close an answer: no blank line inside, and nothing but ASCII."""
    lines = [line.rstrip() for line in text.splitlines()]
    text = "\n".join(line for i, line in enumerate(lines) if line or i == 0)
    return f"{mark}{number} {text}".encode("ascii", "backslashreplace").decode() + "\n\n"


def serve(engine: Engine, stdin, write: Callable[[str], object]) -> None:
    """Answer the lines of a raw binary stream until `quit` or its end.

    A thread reads, so that an analysis sees the next line come and `quit` cuts thinking short.
    """
    lines, quit_at = queue.SimpleQueue(), []
    engine.is_interrupted = lambda: not lines.empty()
    engine.must_hurry = lambda: bool(quit_at) and time.monotonic() > quit_at[0] + QUIT_GRACE_S
    threading.Thread(target=_read_lines, args=(stdin, lines, quit_at), daemon=True).start()
    while not engine.has_quit and (line := lines.get()) is not None:
        for piece in engine.answer(line):
            write(piece)


def _read_lines(stdin, lines: queue.SimpleQueue, quit_at: list[float]) -> None:
    """Put every line into the queue, then None; stop reading at `quit`."""
    rest = b""
    while chunk := stdin.read(1 << 16):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if (parse_line(line) or ("", "", ()))[1] == "quit":
                quit_at.append(time.monotonic())
            lines.put(line)
            if quit_at:
                return
    quit_at.append(time.monotonic())
    lines.put(rest)
    lines.put(None)


def run(options: Options, rules: Rules) -> None:
    """Serve the process's own stdin and stdout; what else is printed goes to stderr."""
    sys.stdout.flush()
    output = os.dup(1)
    os.dup2(2, 1)
    with open(0, "rb", buffering=0, closefd=False) as stdin, open(output, "wb", 0) as stdout:
        serve(Engine(options, rules), stdin, lambda text: stdout.write(text.encode()))


# ---- commands: (engine, arguments) -> None, the text of the answer, or its lines as they come ----


def _parse(kind: type, arguments: list[str], index: int, what: str):
    try:
        return kind(arguments[index])
    except (IndexError, ValueError, OverflowError):
        raise ValueError(f"no {what} in {' '.join(arguments)[:60]!r}") from None


def _color(arguments: list[str]) -> int:
    return _parse(parse_color, arguments, 0, "colour")


def _known_command(engine: Engine, arguments: list[str]) -> str:
    return str(" ".join(arguments) in COMMANDS).lower()


def _quit(engine: Engine, arguments: list[str]) -> None:
    engine.has_quit = True


def _boardsize(engine: Engine, arguments: list[str]) -> None:
    size = check_size(_parse(int, arguments, 0, "size"))
    engine.restart(Board(size, engine.board.rules))


def _clear_board(engine: Engine, arguments: list[str]) -> None:
    engine.restart(Board(engine.board.size, engine.board.rules))


def _komi(engine: Engine, arguments: list[str]) -> None:
    engine.change_rules(replace(engine.board.rules, komi=_parse(float, arguments, 0, "komi")))


def _play(engine: Engine, arguments: list[str]) -> None:
    color, vertex = _color(arguments), arguments[1] if len(arguments) > 1 else ""
    try:
        if vertex.lower() != "resign":
            engine.play(parse_vertex(vertex, engine.board.size), color)
    except IllegalMove as error:
        raise ValueError(f"illegal move: {error}") from None


def _genmove(engine: Engine, arguments: list[str], is_played: bool = True) -> str:
    color = _color(arguments)
    move = engine.choose(color)
    if is_played and move != RESIGN:
        engine.play(move, color)
    return _format_move(engine, move)


def _format_move(engine: Engine, move: int) -> str:
    return "resign" if move == RESIGN else format_vertex(move, engine.board.size)


def _undo(engine: Engine, arguments: list[str]) -> None:
    if not engine.moves:
        raise ValueError("cannot undo")
    engine.boards.pop()
    engine.moves.pop()


def _showboard(engine: Engine, arguments: list[str]) -> str:
    board, size = engine.board, engine.board.size
    rows = [f"{size - i:2} {row} {size - i}" for i, row in enumerate(str(board).split("\n"))]
    columns = "   " + " ".join(COLUMNS[:size])
    taken = "Black lost {} stones, White {}".format(*board.prisoners)
    status = f"{format_color(board.to_play)} to move, komi {board.rules.komi:g}, {taken}"
    return "\n".join(["", columns, *rows, columns, status])


def _vertices(engine: Engine, moves: list[int]) -> str:
    return " ".join(format_vertex(move, engine.board.size) for move in moves)


def _list_stones(engine: Engine, arguments: list[str]) -> str:
    stones = engine.board.stones().ravel()
    return _vertices(engine, np.flatnonzero(stones == _color(arguments)).tolist())


def _captures(engine: Engine, arguments: list[str]) -> str:
    return str(engine.board.prisoners[1 if _color(arguments) == BLACK else 0])


def most_handicap(size: int) -> int:
    """Return how many fixed handicap stones a board has room for (GTP specification, 4.1.1)."""
    return 0 if size < 7 else 4 if size % 2 == 0 or size == 7 else 9


def handicap_moves(size: int, number: int) -> list[int]:
    """Return the points of a fixed handicap (GTP specification, 4.1.1)."""
    if not 2 <= number <= most_handicap(size):
        raise ValueError(f"invalid number of stones {number}")
    low = 3 if size >= 13 else 2
    high, middle = size - 1 - low, size // 2
    points = [(high, low), (low, high), (low, low), (high, high)]  # row from the top, column
    points += [(middle, low), (middle, high), (low, middle), (high, middle)]
    if number > 4 and number % 2:
        points.insert(number - 1, (middle, middle))
    return [row * size + column for row, column in points[:number]]


def _handicap(engine: Engine, arguments: list[str], kind: str) -> str | None:
    size = engine.board.size
    if engine.moves or engine.board.stones().any():
        raise ValueError("board not empty")
    if kind == "set":
        moves = [parse_vertex(text, size) for text in arguments]
        if len(moves) < 2:
            raise ValueError(f"bad vertex list {' '.join(arguments)[:60]!r}")
    else:
        number = _parse(int, arguments, 0, "number of stones")
        moves = handicap_moves(size, min(number, most_handicap(size)) if kind == "free" else number)
    board = Board(size, engine.board.rules, WHITE)
    board.place(moves)
    engine.restart(board)
    return None if kind == "set" else _vertices(engine, moves)


def _time_settings(engine: Engine, arguments: list[str]) -> None:
    main_s, period_s = (_parse(float, arguments, i, "seconds") for i in (0, 1))
    stones = _parse(int, arguments, 2, "number of stones")
    is_unlimited = period_s > 0 and stones == 0  # the specification's way to say so
    engine.clock = Clock(None if is_unlimited else main_s, period_s, stones)


def _time_left(engine: Engine, arguments: list[str]) -> None:
    color, seconds = _color(arguments), _parse(float, arguments, 1, "seconds")
    stones = _parse(int, arguments, 2, "number of stones")
    engine.clock.left[color] = max(0.0, seconds), max(0, stones)


def _final_score(engine: Engine, arguments: list[str]) -> str:
    score = engine.score()
    return f"{format_color(BLACK if score > 0 else WHITE)}+{abs(score):g}" if score else "0"


def _final_status_list(engine: Engine, arguments: list[str]) -> str:
    if arguments[:1] not in (["alive"], ["seki"], ["dead"]):
        raise ValueError(f"invalid status {' '.join(arguments)[:60]!r}")
    board, dead, lines = engine.board, engine.dead_stones(), []
    for move in np.flatnonzero(board.stones()).tolist():
        chain = board.chain(move)
        status = "dead" if move in dead else "alive"  # nothing tells seki apart yet
        if move == chain[0] and status == arguments[0]:
            lines.append(_vertices(engine, chain))
    return "\n".join(lines)


def _loadsgf(engine: Engine, arguments: list[str]) -> None:
    from .sgf import Skipped, load_games

    last = arguments[-1] if len(arguments) > 1 and arguments[-1].isdecimal() else ""
    path = " ".join(arguments[:-1] if last else arguments)
    if not Path(path).is_file():
        raise ValueError(f"cannot load file {path!r}")
    record = next(iter(load_games([path])), None)
    if not isinstance(record, GameRecord):
        reason = record.reason if isinstance(record, Skipped) else "no game"
        raise ValueError(f"cannot load file {path!r}: {reason}")
    rules = replace(engine.board.rules, komi=record.rules.komi)
    engine.restart(record.board())
    for move in record.moves.tolist()[: max(0, int(last) - 1) if last else None]:
        engine.play(move, engine.board.to_play)
    engine.change_rules(rules)


def _printsgf(engine: Engine, arguments: list[str]) -> str | None:
    from .sgf import format_sgf

    first, size, moves = engine.boards[0], engine.board.size, []
    to_play = start = engine.moves[0][0] if engine.moves else first.to_play
    for color, move in engine.moves:
        moves += [move] if color == to_play else [size * size, move]  # a pass between two of one
        to_play = opponent(color)
    stones = first.stones().astype(np.int8).ravel()
    setup = stones if stones.any() else None
    text = format_sgf(GameRecord(size, first.rules, np.array(moves, np.int16), start, setup))
    if not arguments:
        return text
    Path(" ".join(arguments)).write_text(text, encoding="utf-8")
    return None


def _get_rules(engine: Engine, arguments: list[str]) -> str:
    rules = engine.board.rules
    values = {"ko": rules.ko.upper(), "score": rules.scoring.upper(), "suicide": rules.suicide}
    return json.dumps(values | {"tax": "NONE", "whiteHandicapBonus": "0", "hasButton": False})


def _set_rules(engine: Engine, arguments: list[str]) -> None:
    engine.change_rules(parse_rules(" ".join(arguments), engine.board.rules))


def parse_rules(text: str, rules: Rules) -> Rules:
    """Read a preset's name, or JSON that changes `rules`; komi stays."""
    preset = RULES.get(text.strip().lower().replace("_", "-"))
    if preset:
        return replace(preset, komi=rules.komi)
    try:
        values = json.loads(text)
        ko, scoring = values.get("ko", rules.ko), values.get("score", rules.scoring)
        suicide = bool(values.get("suicide", rules.suicide))
        return replace(rules, ko=ko.lower(), scoring=scoring.lower(), suicide=suicide)
    except (ValueError, AttributeError, RecursionError):
        raise ValueError(f"unknown rules {text[:60]!r}; there are {', '.join(RULES)}") from None


def _raw_network(engine: Engine, arguments: list[str]) -> str:
    board = engine.position(engine.board.to_play)
    evaluation, white = engine.evaluate(board), 1 if board.to_play == WHITE else -1
    logits = np.where(board.legal_moves(), evaluation.logits[0].astype(np.float64), -np.inf)
    policy = np.exp(logits - logits.max())
    texts = [f"{p:.6f}" if p > 0 else "NAN" for p in policy / policy.sum()]  # as KataGo writes it
    owner = [f"{white * x:.6f}" for x in evaluation.ownership[0].ravel()]
    win = (1 + white * float(evaluation.value[0])) / 2
    lines = ["symmetry 0", f"whiteWin {win:.6f}", f"whiteLoss {1 - win:.6f}", "noResult 0"]
    lines += [f"whiteLead {white * float(evaluation.score[0]):.3f}", "policy"]
    lines += _rows(texts[:-1], board.size) + [f"policyPass {texts[-1]}", "whiteOwnership"]
    return "\n".join(lines + _rows(owner, board.size))


def _rows(texts: list[str], size: int) -> list[str]:
    return [" ".join(texts[i : i + size]) for i in range(0, size * size, size)]


def _analyze(
    engine: Engine, arguments: list[str], is_kata: bool, is_genmove: bool = False
) -> Iterator[str]:
    """Yield a line of analysis per interval; one, and the move, if it is to be played."""
    color, interval_s, has_ownership = _parse_analysis(engine, arguments)
    move = engine.choose(color) if is_genmove else None
    search = engine.search_at(color)
    most = MAX_EDGES // (engine.board.size**2 + 1)
    owner = ""
    if is_kata and has_ownership:
        points = engine.evaluate(engine.position(color)).ownership.ravel()
        owner = " ownership " + " ".join(f"{x:.3f}" for x in points)
    search.run(max(0, LEAVES + 1 - search.result(0).num_visits))  # a line has moves in it
    while not is_genmove:
        deadline = time.monotonic() + interval_s
        room = max(0, most - search.result(0).num_visits)
        search.run(room, deadline=deadline, stop=engine.is_interrupted)
        while time.monotonic() < deadline and not engine.is_interrupted():
            time.sleep(0.01)  # the tree is full
        if engine.is_interrupted():
            break
        yield _format_infos(search, is_kata) + owner
    yield _format_infos(search, is_kata) + owner
    if is_genmove:
        if move != RESIGN:
            engine.play(move, color)
        yield f"play {_format_move(engine, move)}"


_analyze_lz, _analyze_kata = (partial(_analyze, is_kata=is_kata) for is_kata in (False, True))


def _parse_analysis(engine: Engine, arguments: list[str]) -> tuple[int, float, bool]:
    """Return (colour, interval in seconds, is ownership wanted?); other keys are ignored."""
    words, color = [word.lower() for word in arguments], engine.board.to_play
    if words and words[0] in ("b", "w", "black", "white"):
        color = parse_color(words.pop(0))
    if words and words[0][0].isdigit():
        words.insert(0, "interval")
    pairs = dict(zip(words[::2], words[1::2], strict=False))
    interval = _parse(float, [pairs.get("interval", "100")], 0, "interval in hundredths")
    if len(words) % 2 or not 0 <= interval < 1e6:
        raise ValueError(f"syntax error: {' '.join(arguments)[:60]!r}")
    return color, max(interval / 100, 0.01), pairs.get("ownership") == "true"


def _format_infos(search, is_kata: bool) -> str:
    """Write every visited move, the best first, as the player to move sees it."""
    result, size, infos = search.result(0), search.boards[0].size, []
    order = np.lexsort((-result.priors, -result.visits)).tolist()
    for rank, move in enumerate(move for move in order if result.visits[move] > 0):
        win = min(1.0, max(0.0, (1 + float(result.values[move])) / 2))
        prior, lead = float(result.priors[move]), float(result.scores[move])
        numbers = f"winrate {round(win * 10000)} prior {round(prior * 10000)}"
        if is_kata:
            numbers = f"winrate {win:.6f} prior {prior:.6f} scoreMean {lead:.3f}"
            numbers += f" scoreLead {lead:.3f}"
        line = [format_vertex(m, size) for m in search.principal_variation(0, move, PV_LENGTH)]
        infos.append(
            f"info move {line[0]} visits {result.visits[move]} {numbers} order {rank}"
            f" pv {' '.join(line)}"
        )
    return " ".join(infos)


COMMANDS: dict[str, tuple[Callable, str]] = {
    "protocol_version": (lambda engine, arguments: "2", "the version of GTP"),
    "name": (lambda engine, arguments: "minigo", "the name of the engine"),
    "version": (lambda engine, arguments: __version__, "the version of the engine"),
    "known_command": (_known_command, "COMMAND: is it one of these?"),
    "list_commands": (lambda engine, arguments: "\n".join(COMMANDS), "all of these"),
    "quit": (_quit, "end the session"),
    "boardsize": (_boardsize, "SIZE: begin with an empty board of 2 to 19"),
    "clear_board": (_clear_board, "begin again with an empty board"),
    "komi": (_komi, "POINTS: what White gets for moving second, in whole or half points"),
    "get_komi": (lambda engine, arguments: f"{engine.board.rules.komi:g}", "the komi"),
    "play": (_play, "COLOR VERTEX: play a move; a colour may move twice in a row"),
    "genmove": (_genmove, "COLOR: think, play a move and name it"),
    "reg_genmove": (partial(_genmove, is_played=False), "COLOR: name a move without playing it"),
    "undo": (_undo, "take the last move back"),
    "showboard": (_showboard, "draw the board"),
    "list_stones": (_list_stones, "COLOR: its stones"),
    "captures": (_captures, "COLOR: how many stones it has captured"),
    "fixed_handicap": (partial(_handicap, kind="fixed"), "NUMBER: stones on the star points"),
    "place_free_handicap": (partial(_handicap, kind="free"), "NUMBER: so many stones, or fewer"),
    "set_free_handicap": (partial(_handicap, kind="set"), "VERTEX...: put handicap stones"),
    "time_settings": (_time_settings, "MAIN PERIOD STONES: seconds, then stones per period"),
    "time_left": (_time_left, "COLOR SECONDS STONES: the clock; 0 stones in main time"),
    "final_score": (_final_score, "the count; dead stones come off, but for Tromp-Taylor rules"),
    "final_status_list": (_final_status_list, "alive | seki | dead: the chains that are"),
    "loadsgf": (_loadsgf, "FILE [NUMBER]: load a game as it was before a move, or all of it"),
    "printsgf": (_printsgf, "[FILE]: write the game as SGF, or as the answer"),
    "kata-get-rules": (_get_rules, "the rules as JSON"),
    "kata-set-rules": (_set_rules, f"RULES: {', '.join(RULES)}, or JSON"),
    "kata-raw-nn": (_raw_network, "the network's win rate, score, policy and ownership"),
    "lz-analyze": (_analyze_lz, "[COLOR] [HUNDREDTHS]: win rates to 10000, until the next line"),
    "kata-analyze": (_analyze_kata, "[COLOR] [HUNDREDTHS] [ownership true]: win rates to 1"),
    "lz-genmove_analyze": (
        partial(_analyze_lz, is_genmove=True),
        "genmove that shows its thoughts",
    ),
    "kata-genmove_analyze": (partial(_analyze_kata, is_genmove=True), "the same, win rates to 1"),
    "stop": (lambda engine, arguments: None, "end an analysis, as any line does"),
}


def describe_commands() -> str:
    """Return the commands, a line each, for `minigo gtp --help`."""
    return "\n".join(f"  {name:21} {text}" for name, (_, text) in COMMANDS.items())
