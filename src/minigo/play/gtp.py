"""GTP 2 and the analysis commands that Sabaki uses: lines in, answers out; `engine.py` plays.

`COMMANDS`, at the end, says of every command who answers it, what its arguments are, and its help;
`read_words` reads the arguments, `Session.answer` makes an answer of a line, `serve` of a stream.
The rules, the search and the network are loaded when a command first needs them: a client's first
questions are answered at once.
Sources: Farnebäck 2002, "Specification of the Go Text Protocol, version 2, draft 2"; KataGo's
docs/GTP_Extensions.md; Leela Zero's lz-analyze; kgsGtp's manual; GoGui's analyze commands.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import queue
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..config import RULES, PlayConfig, Rules, change
from ..coords import (
    BLACK,
    COLUMNS,
    WHITE,
    check_size,
    format_color,
    format_vertex,
    parse_color,
    parse_vertex,
    sign_of,
)
from ..machine import format_error

if TYPE_CHECKING:
    from ..search import Search
    from .engine import Engine, Kind

QUIT_GRACE_S = 2.0  # how long a move is still thought about once `quit` has arrived
IDLE_S = 0.5  # without a line, before it prepares itself for a first move
MAX_LINE_BYTES = 1 << 20  # of a line, the rest is dropped
MIN_VISITS = 9  # before a line of analysis: it has moves in it
PV_LENGTH = 15
# Of KataGo's rules, those that minigo has no others of:
FIXED = {"tax": "NONE", "whiteHandicapBonus": "0", "hasButton": False, "friendlyPassOk": False}
Answer = str | Iterator[str] | None  # the whole of it, or its lines as they come


class Session:
    """A conversation with one client, and the engine that it is about."""

    def __init__(self, config: PlayConfig | None = None, rules: Rules | None = None) -> None:
        self.config, self.rules = config or PlayConfig(), rules
        self.has_quit = False
        self.lines: queue.SimpleQueue | None = None  # of a stream, yet to be answered
        self.quit_at = math.inf  # when the `quit` among them arrived

    @cached_property
    def engine(self) -> Engine:
        from .engine import Engine

        engine = Engine(self.config, self.rules)
        engine.is_interrupted = lambda: self.lines is None or not self.lines.empty()
        engine.must_hurry = lambda: time.monotonic() > self.quit_at + QUIT_GRACE_S
        return engine

    def ponder(self) -> None:
        """Think ahead if the last command was a move of its own; an error goes to stderr, once."""
        engine = vars(self).get("engine")  # None before a command first needs it
        if not engine or not engine.waits:
            return
        try:
            engine.ponder()
        except Exception as error:
            engine.waits = False
            text = f"minigo: cannot think ahead: {format_error(error)}"
            print(text, file=sys.stderr, flush=True)

    def respond(self, line: str | bytes) -> str:
        """Return the whole answer to a line: "" if it needs none, else closed by a blank line."""
        return "".join(self.answer(line))

    def answer(self, line: str | bytes) -> Iterator[str]:
        """Yield the answer to a line in pieces; an analysis has one whenever there is news."""
        parsed = parse_line(line)
        if parsed is None:
            return
        number, name, words = parsed
        opening = f"={number}\n"
        try:
            text = self._obey(name, words)
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
            yield _format_answer("?", number, format_error(error)) if opening else "\n"

    def _obey(self, name: str, words: list[str]) -> Answer:
        if name not in COMMANDS:
            raise ValueError(f"unknown command {name[:40]!r}")
        handler, text = COMMANDS[name]
        subject = self if name in SESSION_COMMANDS else self.engine
        return handler(subject, *read_words(text, words, subject))


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


def serve(session: Session, stdin, write: Callable[[str], object]) -> None:
    """Answer the lines of a raw binary stream until `quit` or its end.

    A thread reads, so that an analysis sees the next line come and `quit` cuts thinking short.
    """
    session.lines = queue.SimpleQueue()
    threading.Thread(target=_read_lines, args=(stdin, session), daemon=True).start()
    while not session.has_quit:
        if session.config.ponder and session.lines.empty():
            session.ponder()
        line = _next_line(session.lines)
        if line is None:
            return
        for piece in session.answer(line):
            write(piece)


def _next_line(lines: queue.SimpleQueue) -> bytes | None:
    """Wait for a line; a client that lets it wait finds PyTorch imported at its first move."""
    if "torch" not in sys.modules:
        try:
            return lines.get(timeout=IDLE_S)
        except queue.Empty:
            threading.Thread(target=_import_network, daemon=True).start()
    return lines.get()


def _import_network() -> None:
    with contextlib.suppress(ImportError):  # a move will say what is missing
        from .. import evaluator  # noqa: F401

        importlib.import_module("openvino")


def _read_lines(stdin, session: Session) -> None:
    """Put every line into the session's queue, then None; stop reading at `quit`."""
    rest = b""
    while chunk := stdin.read(1 << 16):
        *whole, rest = (rest + chunk).split(b"\n")
        rest = rest[:MAX_LINE_BYTES]
        for line in whole:
            session.lines.put(line)
            if (parse_line(line) or ("", "", ()))[1] == "quit":
                session.quit_at = time.monotonic()
                return
    session.quit_at = time.monotonic()
    session.lines.put(rest)
    session.lines.put(None)


def run(config: PlayConfig, rules: Rules) -> None:
    """Serve the process's own stdin and stdout; what else is printed goes to stderr."""
    sys.stdout.flush()
    output = os.dup(1)
    os.dup2(2, 1)
    with open(0, "rb", buffering=0, closefd=False) as stdin, open(output, "wb", 0) as stdout:
        serve(Session(config, rules), stdin, lambda text: stdout.write(text.encode()))
    if "torch" in sys.modules:
        os._exit(0)  # PyTorch takes up to 2 s to come down, and Sabaki waits 3 s after `quit`


def _seconds(text: str) -> float:
    seconds = float(text)
    if not -1e9 < seconds < 1e9:
        raise ValueError
    return max(0.0, seconds)


KINDS: dict[str, tuple[str, Callable[[str], Any]]] = {  # of words: in the help, in an error
    "COLOR": ("colour", parse_color),
    "SIZE": ("size", int),
    "POINTS": ("komi", float),
    "NUMBER": ("number of stones", int),
    "MAIN": ("seconds", _seconds),
    "PERIOD": ("seconds", _seconds),
    "SECONDS": ("seconds", _seconds),
    "STONES": ("number of stones", int),
}


def read_words(text: str, words: list[str], engine: Engine | Session | None = None) -> list:
    """Read the arguments that a command's help names; what stands behind them is ignored.

    "KIND..." and "[KIND KIND]..." go on until the words end. From a kind on that is none of KINDS
    the rest is the words themselves: the command knows what they are. Raises ValueError.
    """
    usage, values = text.partition(": ")[0] if ": " in text else "", []
    kinds = usage.split()
    if usage.endswith("..."):
        kinds = usage.strip("[.]").split()
        kinds *= math.ceil(len(words) / len(kinds))
    for at, kind in enumerate(kinds):
        word = words[at] if at < len(words) else ""
        if kind == "VERTEX":
            values.append(-1 if word.lower() == "resign" else parse_vertex(word, engine.board.size))
        elif kind in KINDS:
            values.append(_read(*KINDS[kind], word, words))
        else:
            return values + words[at:]
    return values


def _read(what: str, parse: Callable[[str], Any], word: str, words: list[str]) -> Any:
    try:
        return parse(word)
    except (ValueError, OverflowError):
        raise ValueError(f"no {what} in {' '.join(words)[:60]!r}") from None


def _say(text: str) -> Callable[[Session], str]:
    return lambda session: text


def _known_command(session: Session, *words: str) -> str:
    return str(" ".join(words) in COMMANDS).lower()


def _quit(session: Session) -> None:
    session.has_quit = True


def _set(engine: Engine, name: str = "", *values: str) -> None:
    kinds = {"visits": int, "time": float, "threads": int}
    if name not in kinds:
        raise ValueError(f"unknown setting {name[:40]!r}; there are {', '.join(kinds)}")
    is_lifted = values == ("none",) and name != "threads"
    value = None if is_lifted else _read(name, kinds[name], "".join(values[:1]), [name, *values])
    engine.change_config(**{"time_s" if name == "time" else name: value})


def _boardsize(engine: Engine, size: int) -> None:
    engine.start(check_size(size))


def _komi(engine: Engine, komi: float) -> None:
    engine.change_rules(change(engine.board.rules, komi=komi))


def _play(engine: Engine, color: int, move: int) -> None:
    if move >= 0:
        engine.play(move, color)


def _set_position(engine: Engine, *stones: int) -> None:
    pairs = list(zip(stones[::2], stones[1::2], strict=True))
    black, white = ([move for color, move in pairs if color == own] for own in (BLACK, WHITE))
    engine.start(engine.board.size, black, white)


def _showboard(engine: Engine) -> str:
    board, size = engine.board, engine.board.size
    rows = [f"{size - i:2} {row} {size - i}" for i, row in enumerate(str(board).split("\n"))]
    columns = "   " + " ".join(COLUMNS[:size])
    taken = "Black lost {} stones, White {}".format(*board.prisoners)
    status = f"{format_color(board.to_play)} to move, komi {board.rules.komi:g}, {taken}"
    return "\n".join(["", columns, *rows, columns, status])


def _vertices(engine: Engine, moves: list[int]) -> str:
    return " ".join(format_vertex(move, engine.board.size) for move in moves)


def _list_stones(engine: Engine, color: int) -> str:
    stones = engine.board.stones().ravel().tolist()
    return _vertices(engine, [move for move, stone in enumerate(stones) if stone == color])


def _captures(engine: Engine, color: int) -> str:
    return str(engine.board.prisoners[WHITE - color])  # Black lost, White lost


def _handicap(engine: Engine, number: int, is_free: bool = False) -> str:
    moves = handicap_moves(engine.board.size, number, is_free)
    _set_handicap(engine, *moves)
    return _vertices(engine, moves)


def _set_handicap(engine: Engine, *moves: int) -> None:
    if engine.moves or engine.board.stones().any():
        raise ValueError("board not empty")
    if len(moves) < 2:
        raise ValueError(f"bad vertex list {_vertices(engine, moves)!r}")
    engine.start(engine.board.size, moves, to_play=WHITE)


def handicap_moves(size: int, number: int, is_free: bool = False) -> list[int]:
    """Return the points of a fixed handicap, or as many of a free one as there is room for.

    GTP specification, 4.1.1. Raises ValueError.
    """
    most = 0 if size < 7 else 4 if size % 2 == 0 or size == 7 else 9
    number = min(number, most) if is_free else number
    if not 2 <= number <= most:
        raise ValueError(f"invalid number of stones {number}")
    low = 3 if size >= 13 else 2
    high, middle = size - 1 - low, size // 2
    points = [(high, low), (low, high), (low, low), (high, high)]  # row from the top, column
    points += [(middle, low), (middle, high), (low, middle), (high, middle)]
    if number > 4 and number % 2:
        points.insert(number - 1, (middle, middle))
    return [row * size + column for row, column in points[:number]]


def _loadsgf(engine: Engine, *words: str) -> None:
    path, number = re.fullmatch("(.*?)(?: ([0-9]+))?", " ".join(words)).groups()
    engine.load(path, number and max(0, int(number) - 1))


def _printsgf(engine: Engine, *words: str) -> str | None:
    from ..sgf import format_sgf

    text = format_sgf(engine.record())
    if not words:
        return text
    Path(" ".join(words)).write_text(text, encoding="utf-8")
    return None


def _get_rules(engine: Engine) -> str:
    rules = engine.board.rules
    values = {"ko": rules.ko.upper(), "score": rules.scoring.upper(), "suicide": rules.suicide}
    return json.dumps(values | FIXED)


def _set_rules(engine: Engine, *words: str) -> None:
    engine.change_rules(parse_rules(" ".join(words), engine.board.rules))


def parse_rules(text: str, rules: Rules) -> Rules:
    """Read a preset's name, or JSON as of `kata-get-rules` that changes `rules`; komi stays."""
    preset = RULES.get(text.lower().replace("_", "-"))
    if preset:
        return change(preset, komi=rules.komi)
    try:
        values = json.loads(text) or None  # {} names no rules
        ko, scoring = values.pop("ko", rules.ko), values.pop("score", rules.scoring)
        suicide = values.pop("suicide", rules.suicide)
        if not isinstance(suicide, bool) or not values.items() <= FIXED.items():
            raise ValueError
        return change(rules, ko=ko.lower(), scoring=scoring.lower(), suicide=suicide)
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"unknown rules {text[:60]!r}; there are {', '.join(RULES)}") from None


def _start_clock(
    engine: Engine, main_s: float, period_s: float, stones: int, is_byoyomi: bool = False
) -> None:
    from .engine import Clock

    is_unlimited = period_s > 0 and stones <= 0 and not is_byoyomi  # as the specification has it
    stones = 1 if is_byoyomi else max(0, stones)
    engine.start_clock(Clock(None if is_unlimited else main_s, period_s, stones, is_byoyomi))


def _start_kgs_clock(engine: Engine, system: str = "", *numbers: str) -> None:
    told = {"none": 0, "absolute": 1, "byoyomi": 3, "canadian": 3}.get(system.lower())
    if told is None:
        raise ValueError(f"unknown time system {system.lower()[:40]!r}")
    words = [*numbers[:told], *["0", "1", "0"][told:]]
    values = read_words("MAIN PERIOD STONES: ", words)
    _start_clock(engine, *values, is_byoyomi=system.lower() == "byoyomi")


def _time_left(engine: Engine, color: int, seconds: float, stones: int) -> None:
    engine.clock.tell(color, seconds, stones)


def _genmove(engine: Engine, color: int, kind: Kind = "play") -> str:
    return _format_own(engine, engine.genmove(color, kind))


def _format_own(engine: Engine, move: int) -> str:
    return "resign" if move < 0 else format_vertex(move, engine.board.size)


def _final_score(engine: Engine) -> str:
    score = engine.score()
    return f"{format_color(BLACK if score > 0 else WHITE)}+{abs(score):g}" if score else "0"


def _final_status_list(engine: Engine, status: str = "", *_: str) -> str:
    if status not in ("alive", "seki", "dead"):
        raise ValueError(f"invalid status {status[:60]!r}")
    return "\n".join(_vertices(engine, chain) for chain in engine.statuses()[status])


def _raw_network(engine: Engine) -> str:
    board = engine.position(engine.board.to_play)
    evaluation, white = engine.evaluate(board), -sign_of(board.to_play)
    texts = [f"{p:.6f}" if p > 0 else "NAN" for p in engine.policy(board)]  # as KataGo writes it
    owner = [f"{white * x:.6f}" for x in evaluation.ownership[0].ravel()]
    win = (1 + white * float(evaluation.value[0])) / 2
    lines = ["symmetry 0", f"whiteWin {win:.6f}", f"whiteLoss {1 - win:.6f}", "noResult 0"]
    lines += [f"whiteLead {white * float(evaluation.score[0]):.3f}", "policy"]
    lines += _rows(texts[:-1], board.size) + [f"policyPass {texts[-1]}", "whiteOwnership"]
    return "\n".join(lines + _rows(owner, board.size))


def _rows(texts: list[str], size: int) -> list[str]:
    return [" ".join(texts[i : i + size]) for i in range(0, size * size, size)]


def _analyze(engine: Engine, *words: str, is_kata: bool) -> Iterator[str]:
    """Yield a line of analysis per interval, until another line arrives."""
    color, interval_s, has_ownership = _parse_analysis(engine, words)
    search, owner = engine.search_at(color), _format_ownership(engine, color, has_ownership)
    while True:
        deadline = time.monotonic() + interval_s
        search.run(1 << 30, deadline=deadline, stop=engine.is_interrupted)
        while time.monotonic() < deadline and not engine.is_interrupted():
            time.sleep(0.01)  # the tree is full
        yield _format_infos(search, is_kata) + owner
        if engine.is_interrupted():
            return


def _analyze_genmove(engine: Engine, *words: str, is_kata: bool) -> Iterator[str]:
    """Yield lines of analysis while it thinks, then the move."""
    color, interval_s, has_ownership = _parse_analysis(engine, words)
    owner = _format_ownership(engine, color, has_ownership)
    for search in engine.think(color, interval_s):
        yield _format_infos(search, is_kata) + owner
    yield f"play {_format_own(engine, engine.genmove(color, thought=search))}"


def _parse_analysis(engine: Engine, arguments: Sequence[str]) -> tuple[int, float, bool]:
    """Return (colour, interval in seconds, is ownership wanted?).

    Other keys of KataGo's (avoid, allow, minmoves, maxmoves) are ignored.
    """
    words, color = [word.lower() for word in arguments], engine.board.to_play
    if words and words[0] in ("b", "w", "black", "white"):
        color = parse_color(words.pop(0))
    if words and words[0][0].isdigit():
        words.insert(0, "interval")
    pairs = dict(zip(words[::2], words[1::2], strict=False))
    interval = pairs.get("interval", "100")
    interval = _read("interval in hundredths", float, interval, [interval])
    if len(words) % 2 or not 0 <= interval < 1e6:
        raise ValueError(f"syntax error: {' '.join(arguments)[:60]!r}")
    return color, max(interval / 100, 0.01), pairs.get("ownership") == "true"


def _format_ownership(engine: Engine, color: int, is_wanted: bool) -> str:
    if not is_wanted:
        return ""
    points = (sign_of(color) * engine.owner(color)).tolist()
    return " ownership " + " ".join(f"{x:.3f}" for x in points)


def _format_infos(search: Search, is_kata: bool) -> str:
    """Write every visited move, the best first, as the player to move sees it."""
    search.run(max(0, MIN_VISITS - search.forest.num_visits(0)))
    result, size, infos = search.result(0), search.boards[0].size, []
    visits, priors = result.moves["visits"].tolist(), result.moves["prior"].tolist()
    moves = [move for move in range(len(visits)) if visits[move] > 0]
    moves.sort(key=lambda move: (move != result.move, -visits[move], -priors[move]))
    for rank, move in enumerate(moves):
        win = min(1.0, max(0.0, (1 + float(result.moves["win"][move])) / 2))
        numbers = f"winrate {round(win * 10000)} prior {round(priors[move] * 10000)}"
        if is_kata:
            lead = f"{result.moves['score'][move]:.3f}"
            numbers = (
                f"winrate {win:.6f} prior {priors[move]:.6f} scoreMean {lead} scoreLead {lead}"
            )
        variation = search.forest.principal_variation(0, move, PV_LENGTH)
        line = [format_vertex(reply, size) for reply in variation]
        infos.append(f"info move {line[0]} visits {visits[move]} {numbers} order {rank}")
        infos.append(f"pv {' '.join(line)}")
    return " ".join(infos)


GOGUI_COMMANDS = """\
string/Final Score/final_score
plist/Dead Stones/final_status_list dead
plist/Seki/final_status_list seki
hstring/Network/kata-raw-nn
string/Rules/kata-get-rules
string/CPU Time/cputime
none/Set Visits/minigo-set visits %s
none/Set Time/minigo-set time %s"""

# Who answers a command, given the session or the engine and the arguments; its line of help, which
# names those arguments, up to a colon, as `read_words` reads them.
Commands = dict[str, tuple[Callable[..., Answer], str]]
SESSION_COMMANDS: Commands = {  # answered before the rules are loaded
    "protocol_version": (_say("2"), "the version of GTP"),
    "name": (_say("minigo"), "the name of the engine"),
    "version": (_say(__version__), "the version of the engine"),
    "known_command": (_known_command, "COMMAND: is it one of these?"),
    "list_commands": (lambda session: "\n".join(COMMANDS), "all of these"),
    "quit": (_quit, "end the session"),
    "stop": (_say(""), "end an analysis, as any line does"),
    "cputime": (lambda session: f"{time.process_time():.3f}", "seconds used so far"),
    "gogui-analyze_commands": (_say(GOGUI_COMMANDS), "GoGui's menu of them"),
}
ENGINE_COMMANDS: Commands = {
    "boardsize": (_boardsize, "SIZE: begin with an empty board of 2 to 19"),
    "clear_board": (lambda engine: engine.start(engine.board.size), "begin again, with no stones"),
    "komi": (_komi, "POINTS: what White gets for moving second, in whole or half points"),
    "get_komi": (lambda engine: f"{engine.board.rules.komi:g}", "the komi"),
    "play": (_play, "COLOR VERTEX: play a move; a colour may move twice in a row"),
    "set_position": (_set_position, "[COLOR VERTEX]...: begin with these stones on the board"),
    "genmove": (_genmove, "COLOR: think, play a move and name it"),
    "reg_genmove": (partial(_genmove, kind="suggest"), "COLOR: name a move without playing it"),
    "kgs-genmove_cleanup": (
        partial(_genmove, kind="cleanup"),
        "COLOR: genmove that captures dead stones first",
    ),
    "undo": (lambda engine: engine.undo(), "take the last move back"),
    "showboard": (_showboard, "draw the board"),
    "list_stones": (_list_stones, "COLOR: its stones"),
    "captures": (_captures, "COLOR: how many stones it has captured"),
    "fixed_handicap": (_handicap, "NUMBER: stones on the star points"),
    "place_free_handicap": (partial(_handicap, is_free=True), "NUMBER: so many stones, or fewer"),
    "set_free_handicap": (_set_handicap, "VERTEX...: put handicap stones"),
    "time_settings": (_start_clock, "MAIN PERIOD STONES: seconds, then stones per period"),
    "kgs-time_settings": (
        _start_kgs_clock,
        "none | absolute MAIN | byoyomi MAIN PERIOD PERIODS | canadian MAIN PERIOD STONES: by name",
    ),
    "time_left": (_time_left, "COLOR SECONDS STONES: the clock; 0 stones in main time"),
    "final_score": (_final_score, "the count; dead stones come off, but for Tromp-Taylor rules"),
    "final_status_list": (_final_status_list, "alive | seki | dead: the chains that are"),
    "loadsgf": (_loadsgf, "FILE [NUMBER]: load a game as it was before a move, or all of it"),
    "printsgf": (_printsgf, "[FILE]: write the game as SGF, or as the answer"),
    "kata-get-rules": (_get_rules, "the rules as JSON"),
    "kata-set-rules": (_set_rules, f"RULES: {', '.join(RULES)}, or JSON"),
    "kgs-rules": (_set_rules, "RULES: the same"),
    "kata-raw-nn": (_raw_network, "the network's win rate, score, policy and ownership"),
    "lz-analyze": (partial(_analyze, is_kata=False), "[COLOR] [HUNDREDTHS]: rates to 10000"),
    "kata-analyze": (
        partial(_analyze, is_kata=True),
        "[COLOR] [HUNDREDTHS] [ownership true]: win rates to 1, until the next line",
    ),
    "lz-genmove_analyze": (
        partial(_analyze_genmove, is_kata=False),
        "[COLOR] [HUNDREDTHS]: genmove that shows its thoughts",
    ),
    "kata-genmove_analyze": (
        partial(_analyze_genmove, is_kata=True),
        "[COLOR] [HUNDREDTHS] [ownership true]: the same, win rates to 1",
    ),
    "minigo-set": (_set, "visits | time | threads NUMBER: from the next move on; none: no limit"),
}
COMMANDS = SESSION_COMMANDS | ENGINE_COMMANDS


def describe_commands() -> str:
    """Return the commands, a line each, for `minigo gtp --help`."""
    return "\n".join(f"  {name:22} {text}" for name, (_, text) in COMMANDS.items())
