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
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .. import __version__
from ..config import RULES, PlayConfig, Rules, change, handicap_moves
from ..coords import BLACK, COLUMNS, WHITE, format_color, format_vertex, parse_color, parse_vertex
from ..machine import choose_device, format_error, write_whole

if TYPE_CHECKING:
    from ..search import Search
    from .engine import Engine

QUIT_GRACE_S = 2.0  # how long a move is still thought about once `quit` has arrived
IDLE_S = 0.5  # without a line, before it prepares itself for a first move
MIN_VISITS = 9  # before a line of analysis: it has moves in it
PV_LENGTH = 15
# KataGo's names: of fields of `PlayConfig`, and of `Rules`.
PARAMETERS = {"maxVisits": ("visits", int), "maxTime": ("time_s", float)}
PARAMETERS |= {"numSearchThreads": ("threads", int)}
RULE_FIELDS = {"whiteHandicapBonus": "handicap_bonus", "friendlyPassOk": "friendly_pass"}
RULE_FIELDS |= {"ko": "ko", "score": "scoring", "scoring": "scoring", "suicide": "suicide"}


class Session:
    """A conversation with one client, and the engine that it is about."""

    def __init__(self, config: PlayConfig, rules: Rules | None = None) -> None:
        self.config, self.rules = config, rules
        self.lines: queue.SimpleQueue | None = None  # of a stream, yet to be answered
        # When the `quit` among them arrived, and when the one being answered was taken up.
        self.quit_at, self.began_at = math.inf, 0.0

    @cached_property
    def engine(self) -> Engine:
        from .engine import Engine

        engine = Engine(self.config, self.rules)
        engine.is_interrupted = lambda: self.lines is None or not self.lines.empty()
        engine.must_hurry = lambda: self.began_at <= self.quit_at < time.monotonic() - QUIT_GRACE_S
        return engine

    def ponder(self) -> None:
        """Think ahead if the last command was a move of its own; an error goes to stderr, once."""
        engine = vars(self).get("engine")  # None before a command first needs it
        if not engine or engine.board is not engine.own or engine.is_interrupted():
            return
        try:
            next(engine.think(engine.board.to_play, math.inf, is_endless=True))
        except Exception as error:
            engine.own = None
            print(f"minigo: cannot think ahead: {format_error(error)}", file=sys.stderr, flush=True)

    def answer(self, line: str | bytes) -> Iterator[str]:
        """Yield the answer to a line in pieces; an analysis has one whenever there is news."""
        number, name, words = parse_line(line)
        if not number + name:
            return
        opening = f"={number}\n"
        try:
            if name not in COMMANDS:
                raise ValueError(f"unknown command {name[:40]!r}")
            handler, text = COMMANDS[name]
            subject = [self.engine] if name in ENGINE_COMMANDS else []
            answer = handler(*subject, *read_words(text, words, *subject))
            if isinstance(answer, Iterator):
                for piece in answer:
                    yield opening + piece + "\n"
                    opening = ""
                yield opening + "\n"
            else:
                yield _format_answer(f"={number}", answer or "")
        except Exception as error:  # nothing that is sent may end the session
            if not isinstance(error, ValueError | OSError):
                traceback.print_exc()
            yield _format_answer(f"?{number}", format_error(error)) if opening else "\n"


def parse_line(line: str | bytes) -> tuple[str, str, list[str]]:
    """Split a line into id, command and arguments; both "" if there is nothing to answer."""
    if isinstance(line, bytes):
        line = line.decode("utf-8-sig", "replace")
    text = re.sub(r"[\x00-\x08\x0a-\x1f\x7f]", "", line.partition("#")[0])
    words = re.findall(r"[^ \t]+", text)  # not at other spaces, which a file's name may have
    number = words.pop(0) if words and re.fullmatch(r"[0-9]+", words[0]) else ""
    return number, words[0] if words else "", words[1:]


def _format_answer(mark: str, text: str) -> str:
    """Close an answer: no blank line inside, and nothing but ASCII."""
    text = re.sub(r"\s*\n", "\n", text).rstrip()
    return f"{mark} {text}".encode("ascii", "backslashreplace").decode() + "\n\n"


def serve(session: Session, stdin: BinaryIO, write: Callable[[str], object]) -> None:
    """Answer the lines of a stream until `quit` or its end.

    A thread reads, so that an analysis sees the next line come and `quit` cuts thinking short. A
    client that lets it wait finds OpenVINO imported at its first move.
    """
    session.lines, line = queue.SimpleQueue(), b"\n"
    threading.Thread(target=_read_lines, args=(stdin, session), daemon=True).start()
    while line:
        if session.config.ponder:
            session.ponder()
        try:
            line = session.lines.get(timeout=None if "openvino" in sys.modules else IDLE_S)
        except queue.Empty:
            threading.Thread(target=_import_network, daemon=True).start()
            line = session.lines.get()
        session.began_at = time.monotonic()  # after `quit`, from a file: it has all its time
        for piece in session.answer(line):
            write(piece)


def _import_network() -> None:
    with contextlib.suppress(ImportError):  # a move will say what is missing
        for name in ("minigo.evaluator", "openvino"):
            importlib.import_module(name)
        choose_device("auto")  # imports PyTorch where there is a GPU


def _read_lines(stdin: BinaryIO, session: Session) -> None:
    """Put every line up to `quit` into the session's queue, then b""."""
    with contextlib.suppress(OSError):  # its terminal has gone
        for line in stdin:
            session.lines.put(line)
            if parse_line(line)[1] == "quit":
                break
    session.quit_at = time.monotonic()
    session.lines.put(b"")


def run(config: PlayConfig, rules: Rules) -> None:
    """Serve the process's own stdin and stdout; what else is printed goes to stderr."""
    sys.stdout.flush()
    output = os.dup(1)
    os.dup2(2, 1)
    with open(output, "wb", 0) as stdout:
        stdin = os.fdopen(0, "rb", closefd=False)  # closing it would wait for the next line
        serve(Session(config, rules), stdin, lambda text: stdout.write(text.encode()))
    if "openvino" in sys.modules:
        os._exit(0)  # it takes up to 2 s to come down, and Sabaki waits 3 s after `quit`


def _seconds(text: str) -> float:
    seconds = float(text)
    if not math.isfinite(seconds):
        raise ValueError
    return max(0.0, seconds)


KINDS: dict[str, tuple[str, Callable[[str], Any]]] = {  # of words: in the help, in an error
    "COLOR": ("colour", parse_color),
    "POINTS": ("komi", lambda word: float(word) + 0),  # not -0
    "STONES": ("number of stones", int),
    **dict.fromkeys(("MAIN", "PERIOD", "SECONDS"), ("seconds", _seconds)),
}


def read_words(text: str, words: list[str], engine: Engine | None = None) -> list:
    """Read the arguments that a command's help names; what stands behind them is ignored.

    "KIND..." and "[KIND KIND]..." go on until the words end. From a kind on that is none of KINDS
    the rest is the words themselves: the command knows what they are. Raises ValueError.
    """
    usage, values = text.rpartition(": ")[0], []
    kinds = usage.split()
    if usage.endswith("..."):
        kinds = usage.strip("[.]").split()
        kinds *= math.ceil(len(words) / len(kinds))
    for kind, word in zip(kinds, chain(words, repeat("")), strict=False):
        if kind == "VERTEX":
            values.append(parse_vertex(word, engine.board.size))
        elif kind in KINDS:
            values.append(_read(*KINDS[kind], word, words))
        else:
            return values + words[len(values) :]
    return values


def _read(what: str, parse: Callable[[str], Any], word: str, words: list[str]) -> Any:
    try:
        if "_" in word or not word.isascii():  # which Python takes for numbers
            raise ValueError
        return parse(word)
    except (ValueError, OverflowError):
        raise ValueError(f"no {what} in {' '.join(words)[:60]!r}") from None


def _boardsize(engine: Engine, *words: str) -> None:
    try:
        (size,) = {_read("size", int, word, []) for word in words}  # "9 9" is KataGo's
        engine.start(size)
    except ValueError:
        raise ValueError("unacceptable size") from None


def _parameter(engine: Engine, name: str = "", *_: str) -> str:
    if name not in PARAMETERS:
        raise ValueError(f"unknown parameter {name[:40]!r}; there are {', '.join(PARAMETERS)}")
    return str(getattr(engine.config, PARAMETERS[name][0])).lower()  # "none": no limit


def _set_parameter(engine: Engine, name: str = "", *words: str) -> None:
    _parameter(engine, name)  # raises unless it is one
    field, kind = PARAMETERS[name]
    is_lifted = words == ("none",) and field != "threads"
    value = None if is_lifted else _read(name, kind, "".join(words[:1]), [name, *words])
    engine.config = change(engine.config, **{field: value})


def _set_position(engine: Engine, *stones: int) -> None:
    pairs = list(zip(stones[::2], stones[1::2], strict=True))
    black, white = ([move for color, move in pairs if color == own] for own in (BLACK, WHITE))
    engine.start(engine.board.size, black, white)


def _showboard(engine: Engine) -> str:
    board, size = engine.board, engine.board.size
    rows = [f"{size - i:2} {row} {size - i}" for i, row in enumerate(str(board).split("\n"))]
    columns = "   " + " ".join(COLUMNS[:size])
    taken = "Black lost {} stones, White {}".format(*board.prisoners)
    status = f"{format_color(board.to_play)} to move, komi {engine.rules.komi:g}, {taken}"
    return "\n".join(["", columns, *rows, columns, status])


def _vertices(engine: Engine, moves: list[int]) -> str:
    return " ".join(format_vertex(move, engine.board.size) for move in moves)


def _list_stones(engine: Engine, color: int) -> str:
    return _vertices(engine, (engine.board.stones().ravel() == color).nonzero()[0].tolist())


def _captures(engine: Engine, color: int) -> str:
    return str(engine.board.prisoners[WHITE - color])  # Black lost, White lost


def place_handicap(engine: Engine, number: int, is_free: bool = False) -> str:
    """Put the stones of a handicap on the board, and say where they are."""
    moves = handicap_moves(engine.board.size, number, is_free)
    _set_handicap(engine, *moves)
    return _vertices(engine, moves)


def _set_handicap(engine: Engine, *moves: int) -> None:
    if len(engine.boards) > 1 or engine.board.stones().any():
        raise ValueError("board not empty")
    if len(moves) < 2:
        raise ValueError(f"bad vertex list {_vertices(engine, moves)!r}")
    engine.start(engine.board.size, moves, to_play=WHITE)


def _loadsgf(engine: Engine, *words: str) -> None:
    from ..sgf import load_game

    path, number = re.fullmatch("(.*?)(?: ([0-9]+))?", " ".join(words)).groups()
    positions, num_moves = load_game(path)[1], number and max(0, int(number) - 1)
    engine.start(positions[0][2].size)
    engine.take(positions, engine.rules, num_moves)


def _printsgf(engine: Engine, *words: str) -> str | None:
    from ..sgf import format_sgf

    text = format_sgf(engine.record())
    if words in ((), ("-",)):
        return text
    write_whole(Path(" ".join(words)), text)


def _describe_rules(rules: Rules) -> dict[str, str | bool]:
    """Return rules as KataGo has them, without komi; minigo plays no other tax, and no button."""
    told = {"ko": rules.ko.upper(), "scoring": rules.scoring.upper(), "suicide": rules.suicide}
    told |= {"friendlyPassOk": rules.friendly_pass, "whiteHandicapBonus": rules.handicap_bonus}
    return told | {"tax": "SEKI" if rules.scoring == "territory" else "NONE", "hasButton": False}


def _set_rules(engine: Engine, *words: str) -> None:
    """Take a name of KataGo's, or JSON, of which what isn't named stays; so does komi."""
    text = " ".join(words)
    names = {name.replace("-", ""): rules for name, rules in RULES.items()}
    preset = names.get(re.sub("[-_ ]", "", text.lower()).replace("nz", "newzealand"))
    try:
        told = _describe_rules(preset) if preset else json.loads(text) or None  # {} names none
        values = {RULE_FIELDS[name]: told[name] for name in RULE_FIELDS.keys() & told.keys()}
        values |= {name: values[name].lower() for name in ("ko", "scoring") if name in values}
        rules = change(engine.rules, **values)
        possible = _describe_rules(rules) | {"score": rules.scoring.upper()}
        if not told.items() <= possible.items():
            raise ValueError
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"unknown rules {text[:60]!r}; there are {', '.join(RULES)}") from None
    engine.change_rules(rules)


def _set_kgs_rules(engine: Engine, *words: str) -> None:
    _set_rules(engine, *["chinese-kgs"] if words == ("chinese",) else words)


def _set_rule(engine: Engine, name: str = "", value: str = "", *_: str) -> None:
    told = {"TRUE": True, "FALSE": False}.get(value.upper(), value.upper())
    _set_rules(engine, json.dumps({name: told}))


def _start_kgs_clock(engine: Engine, system: str = "", *numbers: str) -> None:
    told = {"none": ("0", "1", "0"), "absolute": (*numbers[:1], "0", "0")}
    told |= {"byoyomi": numbers, "canadian": numbers}
    if system.lower() not in told:
        raise ValueError(f"unknown time system {system.lower()[:40]!r}")
    main_s, period_s, stones = read_words("MAIN PERIOD STONES: ", list(told[system.lower()]))
    engine.start_clock(main_s, period_s, 1 if system.lower() == "byoyomi" else stones)


def _genmove(engine: Engine, color: int, **how: Any) -> str:
    move = engine.genmove(color, **how)
    return "resign" if move is None else format_vertex(move, engine.board.size)


def _final_score(engine: Engine) -> str:
    score = engine.score()
    return f"{format_color(BLACK if score > 0 else WHITE)}+{abs(score):g}" if score else "0"


def _final_status_list(engine: Engine, status: str = "", *_: str) -> str:
    from .endgame import statuses

    if status not in ("alive", "seki", "dead"):
        raise ValueError(f"invalid status {status[:60]!r}")
    chains = statuses(engine.board, engine.owner(engine.board.to_play))[status]
    return "\n".join(_vertices(engine, stones) for stones in chains)


def _analyze(
    engine: Engine, *words: str, is_lz: bool = False, plays: bool = False
) -> Iterator[str]:
    """Yield a line of analysis per interval, until another line arrives or a move is played."""
    color, shown, avoided = _parse_analysis(engine, words)
    owner, nothing = "", engine.avoided
    if shown["ownership"]:
        points = engine.owner(color) if color == BLACK else -engine.owner(color)
        owner = " ownership " + " ".join(f"{x:.3f}" for x in points.tolist())
    engine.avoided = avoided
    try:
        for search in engine.think(color, max(shown["interval"] / 100, 0.01), is_endless=not plays):
            yield _format_infos(search, is_lz, shown, avoided[color].tolist()) + owner
        if plays:
            yield f"play {_genmove(engine, color, search=search)}"
    finally:
        engine.avoided = nothing


def _parse_analysis(engine: Engine, arguments: tuple[str, ...]) -> tuple:
    """Return the colour, what to show, and `Engine.avoided`, by keys of KataGo's."""
    words, color, size = [*arguments], engine.board.to_play, engine.board.size
    shown = {"interval": 100.0, "minmoves": 0, "maxmoves": size * size + 1}
    shown |= {"rootinfo": False, "ownership": False, "pvvisits": False}
    avoided, limited = engine.avoided.copy(), {}  # the latter by colour: its avoids, or its allow
    try:
        if words and words[0].lower() in ("b", "w", "black", "white"):
            color = parse_color(words.pop(0))
        if words and words[0][0].isdigit():
            words.insert(0, "interval")
        while words:
            key, value = words.pop(0).lower(), words.pop(0).lower()
            if key in shown:
                kind, shown[key] = type(shown[key]), json.loads(value)
                if kind(shown[key]) != shown[key] or not (key == "maxmoves") <= shown[key] < 1e6:
                    raise ValueError
                continue
            side, vertices, depth = parse_color(value), words.pop(0), int(words.pop(0))
            limited[side] = limited.get(side, "") + key
            if depth < 1 or not re.fullmatch("allow|(avoid)+", limited[side]):
                raise ValueError
            if key == "allow":
                avoided[side], depth = depth, 0
            avoided[side, [parse_vertex(v, size) for v in vertices.split(",") if v]] = depth
    except (LookupError, ValueError, TypeError, OverflowError, RecursionError):
        raise ValueError(f"syntax error: {' '.join(arguments)[:60]!r}") from None
    legal = [engine.board.is_legal(move, color) for move in range(size * size + 1)]
    if avoided[color, : len(legal)][legal].all():
        raise ValueError("no legal move is allowed")
    return color, shown, avoided


def _format_infos(search: Search, is_lz: bool, shown: dict, avoided: list[int]) -> str:
    """Write every visited move, the best first, as the player to move sees it."""
    search.run(max(0, MIN_VISITS - search.forest.num_visits(0)))
    result, size, infos = search.result(0), search.boards[0].size, []
    visits, priors = result.moves["visits"].tolist(), result.moves["prior"].tolist()
    moves = [move for move, prior in enumerate(priors) if prior > 0 and not avoided[move]]
    moves.sort(key=lambda move: (move != result.move, -visits[move], -priors[move]))
    number = int(min(shown["maxmoves"], max(shown["minmoves"], sum(map(bool, visits)))))
    for rank, move in enumerate(moves[:number]):
        win, lead = _format_value(result.moves[move] if visits[move] else result.root)
        numbers = f"winrate {win} prior {priors[move]:.6f} scoreMean {lead} scoreLead {lead}"
        if is_lz:
            numbers = f"winrate {round(float(win) * 10000)} prior {round(priors[move] * 10000)}"
        variation = search.forest.principal_variation(0, move, PV_LENGTH)
        pv = " ".join(format_vertex(reply, size) for reply, _ in variation)
        infos.append(f"info move {format_vertex(move, size)} visits {visits[move]} {numbers}")
        infos.append(f"order {rank} pv {pv}")
        if shown["pvvisits"]:
            infos.append("pvVisits " + " ".join(str(count) for _, count in variation))
    if shown["rootinfo"]:
        win, lead = _format_value(result.root)
        infos.append(f"rootInfo visits {result.root['visits']} winrate {win} scoreLead {lead}")
    return " ".join(infos)


def _format_value(found: Any) -> tuple[str, str]:
    return f"{min(1.0, max(0.0, (1 + float(found['win'])) / 2)):.6f}", f"{found['score']:.3f}"


GOGUI_COMMANDS = """\
string/Final Score/final_score
plist/Dead Stones/final_status_list dead
plist/Seki/final_status_list seki
string/Rules/kata-get-rules
string/CPU Time/cputime
none/Set Visits/kata-set-param maxVisits %s
none/Set Time/kata-set-param maxTime %s"""
_think_aloud = partial(_analyze, plays=True)

# Who answers a command, given the engine, if it needs one, and the arguments; its line of help,
# which names those arguments, up to a colon, as `read_words` reads them.
Commands = dict[str, tuple[Callable[..., str | Iterator[str] | None], str]]  # all, or its lines
SESSION_COMMANDS: Commands = {  # answered before the rules are loaded
    "protocol_version": (lambda: "2", "the version of GTP"),
    "name": (lambda: "minigo", "the name of the engine"),
    "version": (lambda: __version__, "the version of the engine"),
    "known_command": (lambda *name: json.dumps(" ".join(name) in COMMANDS), "COMMAND: is it one?"),
    "list_commands": (lambda: "\n".join(COMMANDS), "all of these"),
    "quit": (lambda: "", "end the session"),
    "stop": (lambda: "", "end an analysis, as any line does"),
    "cputime": (lambda: f"{time.process_time():.3f}", "seconds used so far"),
    "gogui-analyze_commands": (lambda: GOGUI_COMMANDS, "GoGui's menu of them"),
}
ENGINE_COMMANDS: Commands = {
    "boardsize": (_boardsize, "WIDTH [HEIGHT]: begin with an empty board"),
    "clear_board": (lambda engine: engine.start(engine.board.size), "begin again, with no stones"),
    "komi": (lambda engine, komi: engine.change_rules(komi=komi), "POINTS: what White gets"),
    "get_komi": (lambda engine: f"{engine.rules.komi:g}", "the komi"),
    "play": (lambda engine, *move: engine.play(*move), "COLOR VERTEX: play a move of any colour"),
    "set_position": (_set_position, "[COLOR VERTEX]...: begin with these stones on the board"),
    "genmove": (_genmove, "COLOR: think, play a move and name it"),
    "reg_genmove": (partial(_genmove, kind="suggest"), "COLOR: name a move without playing it"),
    "kgs-genmove_cleanup": (partial(_genmove, kind="cleanup"), "COLOR: capturing what is dead"),
    "undo": (lambda engine: engine.undo(), "take the last move back"),
    "showboard": (_showboard, "draw the board"),
    "list_stones": (_list_stones, "COLOR: its stones"),
    "captures": (_captures, "COLOR: how many stones it has captured"),
    "fixed_handicap": (place_handicap, "STONES: so many on the star points"),
    "place_free_handicap": (partial(place_handicap, is_free=True), "STONES: so many, or fewer"),
    "set_free_handicap": (_set_handicap, "VERTEX...: put handicap stones"),
    "time_settings": (lambda engine, *told: engine.start_clock(*told), "MAIN PERIOD STONES: clock"),
    "kgs-time_settings": (
        _start_kgs_clock,
        "none | absolute MAIN | byoyomi MAIN PERIOD PERIODS | canadian MAIN PERIOD STONES: by name",
    ),
    "time_left": (lambda engine, *left: engine.clock.tell(*left), "COLOR SECONDS STONES: are left"),
    "final_score": (_final_score, "the count; dead stones come off, but for Tromp-Taylor's"),
    "final_status_list": (_final_status_list, "alive | seki | dead: the chains that are"),
    "loadsgf": (_loadsgf, "FILE [NUMBER]: load a game as it was before a move, or all of it"),
    "printsgf": (_printsgf, "[FILE]: write the game as SGF, or as the answer"),
    "kata-get-rules": (lambda engine: json.dumps(_describe_rules(engine.rules)), "as JSON"),
    "kata-set-rules": (_set_rules, f"RULES: {', '.join(RULES)}, or JSON"),
    "kata-set-rule": (_set_rule, "NAME VALUE: one of those in the JSON"),
    "kgs-rules": (_set_kgs_rules, "RULES: KGS's, whose chinese are chinese-kgs"),
    "kata-list-params": (lambda engine: " ".join(PARAMETERS), "what can be set"),
    "kata-get-param": (_parameter, "NAME: one of them"),
    "kata-set-param": (_set_parameter, "NAME VALUE: from the next move on; none: no limit"),
    "kata-get-models": (lambda engine: json.dumps([{"name": engine.network_name()}]), "as JSON"),
    "lz-analyze": (partial(_analyze, is_lz=True), "[COLOR] [HUNDREDTHS] [KEY VALUE ...]: to 10000"),
    "kata-analyze": (_analyze, "[COLOR] [HUNDREDTHS] [KEY VALUE ...]: to 1, until a line comes"),
    "lz-genmove_analyze": (partial(_think_aloud, is_lz=True), "AS ABOVE: and a move"),
    "kata-genmove_analyze": (_think_aloud, "AS ABOVE: and a move"),
}
COMMANDS = SESSION_COMMANDS | ENGINE_COMMANDS
_LINES = "\n".join(f"  {name:22} {text}" for name, (_, text) in COMMANDS.items())
DESCRIPTION = f"commands:\n{_LINES}"  # for `minigo gtp --help`
