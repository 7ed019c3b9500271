"""SGF files, collections and archives of them <-> game records; the grammar is sgfmill's.

Reading is lenient: what can't be used is a `Skipped` with a short reason, never an exception.
"""

import bz2
import gzip
import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path, PurePath

import numpy as np
from sgfmill import sgf_grammar, sgf_properties
from sgfmill.sgf_grammar import Coarse_game_tree

from ._board import IllegalMove
from .config import Rules
from .coords import BLACK, EMPTY, MAX_SIZE, MIN_SIZE, WHITE, format_color, format_point
from .record import GameRecord

MAX_FILE_BYTES = 1 << 29  # of one file, unpacked
_OPENERS = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}
_ARCHIVE_ERRORS = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError)
_ARCHIVE_ERRORS += (EOFError, OSError, RuntimeError, ValueError, IndexError, struct.error)
_CHARSETS = {b"gb": "gb18030", b"bi": "big5", b"eu": "euc_kr", b"sh": "sjis", b"sj": "sjis"}
_CHARSET = re.compile(rb"CA\s*\[\s*([\w-]+)\s*\]")
# Where a game begins for certain; "(;" alone may also begin a variation.
_ROOT = re.compile(rb"\(\s*;\s*(?:FF|GM|SZ|CA|AP|GN|EV|PB|PW|DT|RU|KM|US|GC)\s*\[")
_START = re.compile(rb"\(\s*;")
_SETUP = {"AB": BLACK, "AW": WHITE, "AE": EMPTY}
_ROOT_ONLY = {"SZ", "GM", "FF"}
_RULES = {("positional", True): "Tromp-Taylor", ("situational", False): "AGA"}
_RULES |= {("situational", True): "NZ"}  # ko and suicide; "Chinese" where they are others
_WINNER = re.compile(
    r"(?:(?P<black>black|b|黑棋?|黒)|(?P<white>white|w|白棋?))(?![a-z])"
    r"(?:\s*(?:wins?|won|胜|勝)(?![a-z]))?(?:\s*(?:by|on))?[\s+:]*(?P<how>.*)",
    re.DOTALL,
)
_TIME_OR_FORFEIT = re.compile(r"(?:\+|\b(?:by|on)\s)\s*[tf]|time|forfeit|超时|超時|時間")
_POINTS = re.compile(r"(\d+(?:[.,]\d+)?)?\s*(1/2|½|目半)?(?:\s*[pm目胜勝].*)?", re.DOTALL)


@dataclass(frozen=True)
class Skipped:
    """A file, a game, or the rest of a game after its end that was left out, and why."""

    name: str  # path, with the members of archives and the number of the game in its file
    reason: str


def load_games(
    paths: Iterable[str | Path], strict: bool = False, is_session: bool = False
) -> Iterator[GameRecord | Skipped]:
    """Yield the games of SGF files, of folders, and of zip and tar archives, one by one.

    Main line only. Folders are searched to the bottom, archives one level deep, in memory; hidden
    files are left alone. Every game was played through under `Rules("simple", suicide=True)`; what
    follows two passes is `Skipped` after it. `result` is None where a game ended on time or by
    forfeit: that says nothing about the position. Komi is by default that of `Rules`, 0.5 with
    handicap. Raises ValueError for a path that doesn't exist, and if `strict` in place of the first
    `Skipped`. is_session: a game as a client edits it, which may have no stone or move yet, and
    goes on after two passes.
    """
    for path in [paths] if isinstance(paths, str | Path) else paths:
        for name, data in _open(Path(path)):
            for game in _games(name, data, is_session):
                if strict and isinstance(game, Skipped):
                    raise ValueError(f"{game.name}: {game.reason}")
                yield game


def read_names(path: str | Path) -> list[str]:
    """Return Black's name, White's, the result and the event of a file's first game, or ""."""
    for _, data in _open(Path(path)):
        tree = next(_parse_collection(_transcode(data)), None)
        return [_text(tree.sequence[0] if tree else {}, name) for name in ("PB", "PW", "RE", "EV")]


def _open(path: Path) -> Iterator[tuple[str, bytes | str]]:
    """Yield the name and the bytes of each file, or each in an archive, or why there are none."""
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    for file in list_files(path):
        if not _is_hidden(file.relative_to(path)):
            try:
                for member, open_member in _members(file):
                    yield f"{file}:{member}" if member else str(file), _load(open_member)
            except _ARCHIVE_ERRORS as error:
                is_unreadable = isinstance(error, PermissionError)
                yield str(file), "unreadable" if is_unreadable else "broken archive"


def list_files(path: Path) -> list[Path]:
    """Return a folder's files to the bottom, in order; of a file itself."""
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def _is_hidden(path: str | Path) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in PurePath(path).parts)


def _members(path: Path) -> Iterator[tuple[str, Callable]]:
    """Yield the name of each file in an archive, or "" for a file that is none, and its opener."""
    with open(path, "rb") as file:
        head = file.read(512)
    opener = _OPENERS.get(head[:2], open)
    if head.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not (info.is_dir() or _is_hidden(info.filename)):
                    yield info.filename, partial(archive.open, info)
    elif head[257:262] == b"ustar" or opener is not open and tarfile.is_tarfile(path):
        with tarfile.open(path) as archive:
            for info in archive:
                if info.isfile() and not _is_hidden(info.name):
                    yield info.name, partial(archive.extractfile, info)
    else:
        yield "", partial(opener, path, "rb")


def _load(open_member: Callable) -> bytes | str:
    try:
        with open_member() as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except tarfile.TarError:
        raise  # nothing is to be found after it
    except _ARCHIVE_ERRORS as error:
        return "encrypted" if type(error) is RuntimeError else "broken archive"
    return data if len(data) <= MAX_FILE_BYTES else "too large"


def _games(name: str, data: bytes | str, is_session: bool) -> Iterator[GameRecord | Skipped]:
    if isinstance(data, str):
        yield Skipped(name, data)
        return
    number = 0
    for number, tree in enumerate(_parse_collection(_transcode(data)), start=1):
        try:
            yield from _read_game(tree, is_session)
        except ValueError as error:
            yield Skipped(f"{name} game {number}", str(error))
    if number == 0:
        yield Skipped(name, "not SGF" if data.strip() else "empty file")


def _transcode(data: bytes) -> bytes:
    """Return bytes in which "[", "]" and "\\" are never a half of another character."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace").encode()
    if b"\0" in data[:1000]:
        return b""  # a picture, a program: no text at all
    with suppress(UnicodeDecodeError):
        data.decode()
        return data  # UTF-8, whatever it claims to be
    charset = _CHARSET.search(data, 0, 2000)
    codec = charset and _CHARSETS.get(charset[1][:2].lower())
    return data.decode(codec, "replace").encode() if codec else data


def _parse_collection(data: bytes) -> Iterator[Coarse_game_tree | None]:
    """Yield the tree of each game, or None for a broken one, which costs only itself."""
    starts = [match.start() for match in _ROOT.finditer(data)]
    for start, end in pairwise([0, *starts, len(data)]):
        text = data[start:end]
        try:
            yield from sgf_grammar.parse_sgf_collection(text)
        except ValueError:
            if _START.search(text):
                with suppress(ValueError):  # what follows a game may be what is broken
                    yield sgf_grammar.parse_sgf_game(text)
                yield None


def _main_line(tree: Coarse_game_tree) -> tuple[dict[str, list[bytes]], str, list[bytes]]:
    """Return the properties until the first move, and the moves' colours and points.

    First moves that are the stones of a handicap become set-up.
    """
    root, colors, points = {}, "", []
    for node in sgf_grammar.main_sequence_iter(tree):
        if not points:
            for name, values in node.items():
                root.setdefault(name, []).extend(values)
        elif not _SETUP.keys().isdisjoint(node):
            raise ValueError("set-up after the first move")
        elif not _ROOT_ONLY.isdisjoint(node):
            raise ValueError("two games in one")
        for name, values in node.items():
            if name == "B" or name == "W":
                colors += name * len(values)
                points += values
    handicap = _text(root, "HA")
    count = int(handicap[:4]) if handicap.isdecimal() and _SETUP.keys().isdisjoint(root) else 0
    if 2 <= count <= MAX_SIZE**2:
        if colors[: count + 1] not in ("B" * count, "B" * count + "W"):
            raise ValueError("handicap without stones")
        root["AB"], points, colors = points[:count], points[count:], colors[count:]
    return root, colors, points


def _read_game(tree: Coarse_game_tree | None, is_session: bool) -> Iterator[GameRecord]:
    """Yield the game, if it can be used; what can't raises ValueError(reason), after it, too."""
    if tree is None:
        raise ValueError("broken SGF")
    root, colors, points = _main_line(tree)
    if _text(root, "GM") not in ("1", ""):
        raise ValueError("not Go")
    size = _parse_size(_text(root, "SZ"))
    setup, plies = _parse_setup(root, size), [_parse_point(point, size) for point in points]
    if not plies and setup is None and not is_session:
        raise ValueError("no moves")
    if "BB" in colors or "WW" in colors:
        raise ValueError("colours don't alternate")
    both_pass = (ply for ply, pair in enumerate(pairwise(plies)) if min(pair) == size * size)
    end = len(plies) if is_session else next(both_pass, len(plies)) + 2
    result = _text(root, "RE")
    record = GameRecord(
        size,
        _parse_rules(_text(root, "RU"), _text(root, "KM"), setup is not None),
        np.array(plies[:end], np.int16),
        WHITE if (colors or _text(root, "PL").upper()).startswith("W") else BLACK,
        setup,
        *((None, None) if _TIME_OR_FORFEIT.search(result.lower()) else parse_result(result)),
        source=_text(root, "SO"),
        black_rank=_text(root, "BR"),
        white_rank=_text(root, "WR"),
    )
    try:
        record.board(len(record.moves))
    except IllegalMove:
        raise ValueError("illegal move") from None
    except ValueError:
        raise ValueError("bad set-up") from None
    yield record
    if end < len(plies):
        raise ValueError("moves after the end")


def _text(root: dict[str, list[bytes]], name: str) -> str:
    return _parse_text(root[name][0]) if name in root else ""


@lru_cache(4096)  # few values, many games
def _parse_text(value: bytes) -> str:
    value = sgf_grammar.simpletext_value(value).strip()
    for codec in ("utf-8", "gb2312"):  # the latter takes hardly any text that is Latin-1
        with suppress(UnicodeDecodeError):
            return value.decode(codec)
    return value.decode("latin-1")


def _parse_size(text: str) -> int:
    sides = set(re.findall(r"\d+", text)) or {"19"}
    size = int(sides.pop()[:4])
    if sides or not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError("board size")
    return size


@lru_cache(4096)
def _parse_point(value: bytes, size: int) -> int:
    try:
        point = sgf_properties.interpret_go_point(b"".join(value.lower().split()), size)
    except ValueError:
        raise ValueError("point off the board") from None
    if point is None:
        return size * size
    row, col = point  # sgfmill counts rows from below
    return (size - 1 - row) * size + col


def _parse_setup(root: dict[str, list[bytes]], size: int) -> np.ndarray | None:
    setup, presenter = np.zeros(size * size, np.int8), sgf_properties.Presenter(size, "UTF-8")
    for name in [name for name in _SETUP if name in root]:
        try:
            points = presenter.interpret(name, [b"".join(v.lower().split()) for v in root[name]])
        except ValueError:
            raise ValueError("point off the board") from None
        moves = [(size - 1 - row) * size + col for row, col in points]
        if _SETUP[name] and setup[moves].any():
            raise ValueError("bad set-up")
        setup[moves] = _SETUP[name]
    return setup if setup.any() else None


def _parse_rules(name: str, komi: str, has_setup: bool) -> Rules:
    is_territory = name.lower().startswith(("jap", "kor", "日", "韩", "韓"))
    points = 0.5 if has_setup else Rules().komi
    if number := re.match(r"[-+]?\d{1,4}(?:[.,]\d+)?", komi):
        points = float(number[0].replace(",", "."))
    if abs(points) >= 100:  # Fox and others write hundredths
        points /= 100
    if points * 2 % 1 and abs(points) < 4:  # 3.75 Chinese stones are 7.5 points
        points *= 2
    return Rules("simple", True, "territory" if is_territory else "area", round(points * 2) / 2)


@lru_cache(4096)
def parse_result(text: str) -> tuple[float | None, float | None]:
    """Read RE in its many spellings as (result, score), both Black's; None where it doesn't say.

    "B+3.5" is (1.0, 3.5), "W+R" and "White wins on time" are (-1.0, None), "0" is (0.0, 0.0).
    """
    text = text.strip().lower().translate({ord("＋"): "+", ord("−"): "-"})
    if text in ("0", "0.0", "jigo", "持碁"):
        return 0.0, 0.0
    if text.startswith(("draw", "tie", "和")):
        return 0.0, None
    winner = _WINNER.fullmatch(text)
    if not winner:
        return None, None
    sign = 1.0 if winner["black"] else -1.0
    points = _POINTS.fullmatch(winner["how"].strip())
    whole, half = points.groups() if points else ("", "")
    margin = float((whole or "0").replace(",", ".")) + (0.5 if half else 0)
    return sign, sign * margin if 0 < margin < 1000 else None


def format_result(result: float | None, score: float | None = None) -> str:
    """Write RE: "B+3.5", "W+" (won by an unknown margin), "0", or "?"."""
    if result is None:
        return "?"
    if result == 0:
        return "0" if score == 0 else "Draw"
    return f"{format_color(BLACK if result > 0 else WHITE)}+" + (f"{abs(score):g}" if score else "")


def format_sgf(
    record: GameRecord,
    black: str = "",
    white: str = "",
    comments: dict[int, str] | None = None,
    result: str = "",
    event: str = "",
    win_rates: dict[int, float] | None = None,
) -> str:
    """Write one game as SGF FF[4], with the players' names where they are known.

    comments: text for the position after so many moves, 0 for the root; win_rates: Black's there,
    in percent, of which Sabaki draws a graph (SBKV). `result` such as "B+R" says more than the
    record does; by default it is `format_result` of the record's.
    """
    rules, is_japanese = record.rules, record.rules.scoring == "territory"
    name = "Japanese" if is_japanese else _RULES.get((rules.ko, rules.suicide), "Chinese")
    root = {"FF": "4", "GM": "1", "CA": "UTF-8", "AP": "minigo", "SZ": str(record.size)}
    root |= {"KM": f"{rules.komi:g}", "RU": name, "SO": record.source, "EV": event}
    root |= {"RE": result or format_result(record.result, record.score)}
    root |= {"PB": black, "PW": white, "BR": record.black_rank, "WR": record.white_rank}
    nodes = [{name: [text] for name, text in root.items() if text} | _format_setup(record)]
    for ply, move in enumerate(record.moves.tolist()):
        color = record.to_play if ply % 2 == 0 else 3 - record.to_play
        nodes.append({format_color(color): [format_point(move, record.size)]})
    for ply, comment in (comments or {}).items():
        nodes[ply]["C"] = [comment]
    for ply, win_rate in (win_rates or {}).items():
        nodes[ply]["SBKV"] = [f"{win_rate:.2f}"]
    tree, escape = Coarse_game_tree(), sgf_grammar.escape_text
    tree.sequence = [{k: [escape(v.encode()) for v in node[k]] for k in node} for node in nodes]
    return sgf_grammar.serialise_game_tree(tree).decode()


def _format_setup(record: GameRecord) -> dict[str, list[str]]:
    setup, is_white = record.setup, record.to_play == WHITE
    if setup is None:
        return {"PL": ["W"]} if is_white else {}
    moves = {name: np.flatnonzero(setup == _SETUP[name]).tolist() for name in ("AB", "AW")}
    node = {
        name: [format_point(m, record.size) for m in moves[name]] for name in moves if moves[name]
    }
    if is_white and not moves["AW"] and len(moves["AB"]) >= 2:  # where SGF's HA begins
        node["HA"] = [str(len(moves["AB"]))]
    return node | {"PL": [format_color(record.to_play)]}
