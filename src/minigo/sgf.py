"""SGF files, collections and archives of them <-> game records; the grammar is sgfmill's.

`load_games` takes what can teach, and the rest is a `Skipped` with a short reason, never an
exception; `load_game` takes a game as people edited it, whole.
"""

import bz2
import codecs
import gzip
import json
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
from itertools import chain, pairwise
from pathlib import Path, PurePath

import numpy as np
from sgfmill import sgf_grammar
from sgfmill.sgf import Sgf_game, Tree_node
from sgfmill.sgf_grammar import Coarse_game_tree

from ._board import Board
from .config import RULES, Rules, change
from .coords import BLACK, EMPTY, MAX_SIZE, MIN_SIZE, WHITE, format_color, format_point, parse_color
from .record import GameRecord

MAX_FILE_BYTES = 1 << 29  # of one file, unpacked
_OPENERS = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}
_ARCHIVE_ERRORS = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError)
_ARCHIVE_ERRORS += (MemoryError, OverflowError)  # of a size that no file has
_ARCHIVE_ERRORS += (EOFError, OSError, RuntimeError, ValueError, IndexError, struct.error)
# Standards, and the encodings in which games come that extend them by rare characters.
_CODECS = {"utf-8": "utf-8", "gb2312": "gb18030", "big5": "cp950", "shift_jis": "cp932"}
_CODECS |= {"euc_kr": "cp949", "euc_jp": "euc_jp", "ascii": "cp1252"}
_CODECS |= {"koi8_r": "koi8_r", "cp1251": "cp1251"}
_USUAL = re.compile(  # in names, results and events
    "[王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许韩曹彭曾古柯聂常时江芮方石金黑白中盘胜负子"
    "目半段级届第杯赛战局围棋名人天元大小三九本国华文明建平伟军东海新張劉陳楊黃趙吳孫馬羅鄭謝許韓葉"
    "蔡蘇盤勝負級屆賽戰圍國東偉田山井村上川木野崎藤原島佐橋渡辺依武宮治勲裕太加光期因坊戦聖敗黒番碁"
    "院一二不下是我的手心老风云龙飞月雪剑客清志波强君春秋生好这在有来到独求狼快乐星恒浩宇晓形势两分"
    "优次郎夫男之助美香恵真理和彦隆司修秀行栄吉博史哲俊英健朗直樹根羽良沢内松竹池河岡浜西北南長尾鈴"
    "今安岩竜押能力対回成德福義信仁宏家詩銘嘉皓김이박최정강조윤장임한오서신권황안송류전홍백흑불계승"
    "집반국배단급기대회창호현진영수민준성지훈환가나다라마바사아자하고구도로리무미부비선세소스여연용"
    "우유은의일재제주태해형화희순식동병규근남두둑람만면문범보복삼석]"
)
_UNUSUAL = re.compile("[\x80-\x9f\ue000-\uf8ff\ufffdЀ-ӿ─-▟]")
_ACCENTED = re.compile(r"(?<=[A-Za-z])[À-ÿ’”…]|[À-ÿ“](?=[A-Za-z])")
_RUSSIAN = re.compile(
    r"(?<![^\0-@\[-`{-\x7f])[А-Я][а-яё]{2,}(?:[ ,.-]+[а-яё]+)*(?![^\0-@\[-`{-\x7f])"
)
_KANA, _HALF_WIDTH = re.compile("[ぁ-ヶー]"), re.compile("[｡-ﾟ]")
# Signs of ISO-2022, of HZ, of GBK or EUC-JP that happens to be UTF-8.
_DOUBTFUL = re.compile(r"\x1b|~\{|(?<![\w\u0300-\u036f])[ɐ-˿\u0300-\u036fԀ-֏]")
_CHARSET = re.compile(rb"CA\s*\[\s*(?:x-|windows-(?=9))?([\w-]+)\s*\]", re.IGNORECASE)
_VALUE = r"\s*+\[(?:[^\\\]]++|\\.)*+\]"
_PROPERTY = re.compile("[A-Za-z]" + _VALUE, re.DOTALL)
_TREE = re.compile(rf"\(\s*;(?:\s*+[A-Za-z;()]|{_VALUE})*+", re.DOTALL)
# Where a game begins; a variation, too, may begin with `info`. A comment that quotes a game has
# "\]" for "]".
_ROOT = rb"\(\s*;\s*(?:FF|GM|SZ|CA|AP|(?P<info>EV|PB|PW|DT|RU|KM|US))\s*\["
_ROOT = re.compile(_ROOT + rb"(?![^\\\]]{0,99}\\\])")
_BRACKET = re.compile(rb"\[(?:[^\\\]]++|\\.)*+(?:\]|\Z)|([()])", re.DOTALL)
_START = re.compile(rb"\(\s*;")
_SETUP = {"AB": BLACK, "AW": WHITE, "AE": EMPTY}
_RULES = {("positional", True): "Tromp-Taylor", ("situational", False): "AGA"}
_RULES |= {("situational", True): "NZ"}  # ko and suicide; "Chinese" where they are others
_RESULT = re.compile(
    r"(?:(?P<black>black|b|黑|黒|흑)|(?P<white>white|w|白|백))(?![a-z])[番棋方の은는이가]?[\s:]*"
    r"(?:\+(?P<margin>.*)|(?P<before>(?:has |[\s\d.,/半点點目집반中盘盤押し불계不計计で호])*)"
    r"(?:wins?|won|胜|勝ち?|승|赢|贏|(?P<loses>los[et]s?|resign(?:s|ed)?|forfeit(?:s|ed)?|gives? up"
    r"|gave up|conced(?:es?|ed)|time[sd]? out|[负負敗败输輸投패]|[认認][输輸]|기권))(?![a-z])"
    r"(?P<after>(?!.*(?:black|white|[黑黒흑白백负負败敗胜勝승패])).*))?"
)
_TIME_OR_FORFEIT = re.compile(r"(\+|by |on )\s*[tf]|time|forfeit|[超时時][时時间間]")
_SIGNS = str.maketrans({"＋": "+", "−": "-", "．": ".", "½": " 1/2", "¼": " 1/4", "¾": " 3/4"})
_SIGNS |= str.maketrans("一二三四五六七八九", "123456789")
_NO_KOMI = re.compile(r"(?:none|no(?: komi)?|[无無]|なし|不[贴貼]目?|없음)\Z")
_KOMI_WORDS = re.compile(
    r"(?:(revers\w*|[逆反倒]|白(?=[贴貼]))|komi|コミ(?:出し)?|공제|互先|[黑黒]?[棋方]?[贴貼出덤])[\s,:=]*"
)
_UNITS = re.compile(r"by|and|points?|pts?|moku|zi|[目子点點집호又]")
_NUMBER = re.compile(r"(\d+[.,]?\d*|[.,]\d+)?(?:\s*(?<!\d)([13])/([24]))?\s*([半반])?")


@dataclass(frozen=True)
class Skipped:
    """A file, a game, or the rest of a game after its end that was left out, and why."""

    name: str  # path, with the members of archives and the number of the game in its file
    reason: str


def load_games(paths: Iterable[str | Path], strict: bool = False) -> Iterator[GameRecord | Skipped]:
    """Yield the games of SGF files, of folders, and of zip and tar archives, one by one.

    Main line only. Folders are searched to the bottom, archives one level deep, in memory; hidden
    files are left alone. Every game was played through under `Rules("simple", suicide=True)`; what
    follows two passes is `Skipped` after it. `result` is None where a game ended on time or by
    forfeit: that says nothing about the position. Komi is by default that of `Rules`, 0.5 with
    handicap. Raises ValueError for a path that doesn't exist, if `strict` for the first `Skipped`.
    """
    for path in [paths] if isinstance(paths, str | Path) else paths:
        for name, data in _open(Path(path)):
            for game in _games(name, data):
                if strict and isinstance(game, Skipped):
                    raise ValueError(f"{game.name}: {game.reason}")
                yield game


def load_game(path: str | Path) -> tuple[Coarse_game_tree, list[tuple[int, str, Board]]]:
    """Return the tree of a file's first game, whose last ")" may be missing, and its positions.

    Main line: a node's number, "B" or "W" if such a move led there, the board. Else it was set up,
    which begins anew, or as the last but for who is to move: a colour twice. Raises ValueError.
    """
    try:
        data = next(_open(Path(path)), ("", ""))[1] if Path(path).is_file() else ""
        if isinstance(data, str):
            raise ValueError(data or "no file with a game")
        tree, _, board = _read_first(data)
        return tree, list(_play(sgf_grammar.main_sequence_iter(tree), board))
    except ValueError as error:
        raise ValueError(f"cannot load file {str(path)!r}: {error}") from None


class GameTree:
    """A game that grows: sgfmill's tree of nodes, and our rules. Raises ValueError for bad SGF."""

    def __init__(self, data: bytes) -> None:
        game, root, self.board = _read_first(data)
        game.sequence[0]["SZ"] = [str(self.board.size).encode()]
        self.tree = Sgf_game.from_coarse_game_tree(game, "UTF-8")
        self.root, name = self.tree.root, _text(root, "RU").lower()
        default = "japanese" if self.board.rules.scoring == "territory" else "chinese"
        self.rules_name = {"nz": "new-zealand"}.get(name, name if name in RULES else default)

    def __str__(self) -> str:
        return self.tree.serialise().decode()

    @property
    def last(self) -> Tree_node:
        """Return the end of the main line."""
        return self.tree.get_last_node()

    def nodes(self) -> list[Tree_node]:
        """Return all nodes, each before those that follow it, and its variations in order."""
        found, ahead = [], [self.root]
        while ahead:
            found.append(ahead.pop())
            ahead += reversed(found[-1])
        return found

    def line(self, node: Tree_node) -> list[Tree_node]:
        """Return the nodes from the root to one."""
        return [*self.tree.get_sequence_above(node), node]

    def positions(self, node: Tree_node) -> list[tuple[int, str, Board]]:
        """Return the positions of the line to a node, as `load_game` does."""
        return list(_play((n.get_raw_property_map() for n in self.line(node)), self.board))

    def add(self, node: Tree_node, color: int, move: int) -> Tree_node:
        """Return the node after a move, a new one where nobody has played it yet."""
        name, size = format_color(color), self.board.size
        for child in node:
            if child.has_property(name) and _parse_point(child.get_raw(name), size) == move:
                return child
        child = node.new_child()
        child.set_raw(name, format_point(move, size).encode())
        return child

    def describe(self, node: Tree_node) -> tuple[str, str, str]:
        """Return who moved there ("B", "W", ""), Black's win rate, and a judge's "!" or "?"."""
        mark = "!" * node.has_property("TE") or "?" * node.has_property("BM")
        return (node.get_raw_move()[0] or "").upper(), self.text(node, "SBKV"), mark

    def text(self, node: Tree_node, name: str) -> str:
        """Return a property of a node as plain text, "" where it has none."""
        return _text(node.get_raw_property_map(), name)


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
                reason = "unreadable" if isinstance(error, PermissionError) else "broken archive"
                yield str(file), reason


def list_files(path: Path) -> list[Path]:
    """Return a folder's files to the bottom, in order; of a file itself."""
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def _is_hidden(path: str | Path) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in PurePath(path).parts)


def _members(path: Path) -> Iterator[tuple[str, Callable]]:
    """Yield the name of each file in an archive, or "" for a file that is none, and its opener."""
    head = b""
    if path.is_file():  # else a pipe, which says all only once
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


def _games(name: str, data: bytes | str) -> Iterator[GameRecord | Skipped]:
    if isinstance(data, str):
        yield Skipped(name, data)
        return
    number = 0
    for number, tree in enumerate(_parse_collection(data), start=1):
        try:
            yield from _read_game(tree)
        except ValueError as error:
            yield Skipped(f"{name} game {number}", str(error))
    if number == 0:
        yield Skipped(name, "not SGF" if data.strip() else "empty file")


def _parse_collection(data: bytes) -> Iterator[Coarse_game_tree | None]:
    """Yield the tree of each game, or None for a broken one, which costs only itself."""
    codec = json.detect_encoding(data)
    if codec.startswith(("utf-16", "utf-32")):
        data = data.decode(codec, "replace").encode()
    if not (start := _START.search(data)) or b"\0" in data[: start.start()]:
        return  # a picture, a program: no text at all
    roots, texts, depth, first = [*_ROOT.finditer(data)], [], 0, 0
    ends = [(root.start(), root["info"]) for root in roots] + [(len(data), None)]
    for (start, _), (end, is_info) in pairwise([(0, None), *ends]):
        texts.append(_to_utf8(data[start:end]))
        depth += _depth(texts[-1]) if is_info else 0
        if is_info and depth > 0 and texts[-1].rstrip().endswith((b"]", b")")):  # a variation's
            continue
        if len(texts) > 1 and None not in (trees := _parse(_to_utf8(data[first:end]))):
            yield from trees
        else:
            yield from chain.from_iterable(map(_parse, texts))
        texts, depth, first = [], 0, end


def _parse(text: bytes) -> list[Coarse_game_tree | None]:
    """Return the games of a text, at its end None if it is broken."""
    try:
        return sgf_grammar.parse_sgf_collection(text)
    except ValueError:
        if not _START.search(text):
            return []
    with suppress(ValueError):  # what follows a game may be what is broken, or its end
        return [sgf_grammar.parse_sgf_game(text + b")" * _depth(text)), None]
    return [None]


def _depth(text: bytes) -> int:
    """Return how many trees are open at the end."""
    brackets = _BRACKET.findall(text)
    return brackets.count(b"(") - brackets.count(b")")


def _to_utf8(data: bytes) -> bytes:
    """Return a game in UTF-8, read so that most properties are found, and the likeliest text."""
    with suppress(UnicodeDecodeError):
        if not _DOUBTFUL.search(data.decode()):
            return data
    enough = data[: (1 << 18) + re.search(rb"[\x80-\xff]|\x1b|~\{", data).start()]  # to tell
    choices, declared = [("iso2022_jp_2",) * 2, ("hz", "hz"), *_CODECS.items()], None
    with suppress(LookupError):
        name = codecs.lookup(_CHARSET.findall(data)[0].decode()).name
        if re.match("big|cp|euc|gb|iso(?!8859-1$)|joh|koi|mac|shi|tis", name):  # codecs of text
            choices.insert(0, declared := (name, _CODECS.get(name, name)))

    def rank(choice: tuple[str, str]) -> tuple[int, float]:
        standard, text = choice[0], enough.decode(choice[1], "replace")
        foreign = re.sub(r"[\0-\x7f]", "", text)
        score = len(foreign.encode(standard, "ignore").decode(standard, "ignore"))
        score += 2 * len(_USUAL.findall(text)) + 2 * len(_ACCENTED.findall(text))
        rest = _RUSSIAN.sub("", text)
        score += 2 * (len(text) - len(rest))
        likely = standard == "euc_jp" or choice == declared  # else they are others' letters
        rest = _HALF_WIDTH.sub("の" * (standard == "euc_jp") if likely else "\x80", rest)
        score += (2 if standard in ("shift_jis", "euc_jp") else -1) * len(_KANA.findall(rest))
        score -= 3 * len(_UNUSUAL.findall(rest))
        count = sum(len(_PROPERTY.findall(tree)) for tree in _TREE.findall(text))
        return count, score / max(1, len(foreign)) + (choice == declared)

    return data.decode(max(choices, key=rank)[1], "replace").encode()


def _read_first(data: bytes) -> tuple[Coarse_game_tree, dict[str, list[bytes]], Board]:
    """Return a file's first game, fit to be written again, its header and the empty board."""
    tree = next(_parse_collection(data), None)
    header, trees = _read_header(tree)[:2], [tree]
    for each in trees:
        trees += each.children
        for node in each.sequence:
            node.pop("", None)  # in small letters alone, which are no part of a name
    return tree, *header


def _read_header(tree: Coarse_game_tree | None) -> tuple[dict[str, list[bytes]], Board, int]:
    """Return the properties until the first move, the empty board, and the handicap."""
    if tree is None:
        raise ValueError("broken SGF")
    root = {}
    for node in sgf_grammar.main_sequence_iter(tree):
        for name, values in node.items():
            root.setdefault(name, []).extend(values)
        if "B" in node or "W" in node:
            break
    if _text(root, "GM") not in ("1", ""):
        raise ValueError("not Go")
    size, handicap = _parse_size(_text(root, "SZ")), _text(root, "HA")
    handicap = int(handicap) if re.fullmatch("[2-9]|[1-9][0-9]{1,2}", handicap) else 0
    has_stones = handicap > 0 or any(map(bytes.strip, root.get("AB", [])))
    is_fox = any(name.lower().startswith(b"fox") for name in root.get("AP", ()))
    rules = _parse_rules(_text(root, "RU"), _text(root, "KM"), has_stones, is_fox)
    return root, Board(size, rules), handicap


def _play(
    nodes: Iterable[dict], board: Board, is_strict: bool = False
) -> Iterator[tuple[int, str, Board]]:
    """Yield the positions of a line of nodes as `load_game` does; `is_strict`: if all are legal."""
    yield 0, "", board
    for number, node in enumerate(nodes):
        if (edited := _set_up(board, node)) is not board:
            board = edited
            yield number, "", board
        for color, point in [(name, p) for name in node if name in ("B", "W") for p in node[name]]:
            if board.to_play != parse_color(color):
                yield number, "", (board := _set_up(board, {"PL": [color.encode()]}))
            if not board.is_legal(move := _parse_point(point, board.size)):
                if is_strict:
                    raise ValueError("illegal move")
                place = {"AE": [point]}  # it is executed all the same (FF[4], "Move vs. Place")
                yield number, "", (board := _set_up(board, place))
            board = board.copy()
            board.play(move)
            yield number, color, board


def _set_up(board: Board, node: dict[str, list[bytes]]) -> Board:
    """Return the board as a node's set-up makes it: with its stones, its history is forgotten."""
    size, to_play = board.size, board.to_play
    if node.keys().isdisjoint("BW") and _text(node, "PL")[:1] in tuple("BWbw"):
        to_play = parse_color(_text(node, "PL")[:1])
    if _SETUP.keys().isdisjoint(node):
        if to_play != board.to_play:
            board = board.copy()
            board.to_play = to_play
        return board
    if not set(node.get("AB", ())).isdisjoint(filter(bytes.strip, node.get("AW", ()))):
        raise ValueError("bad set-up")
    stones = board.stones()
    for name in [name for name in _SETUP if name in node]:
        for value in filter(bytes.strip, node[name]):
            corners = [divmod(_parse_point(corner, size), size) for corner in value.split(b":")]
            rows, cols = zip(*corners, strict=True)
            if max(rows) == size:
                raise ValueError("point off the board")
            stones[min(rows) : max(rows) + 1, min(cols) : max(cols) + 1] = _SETUP[name]
    try:
        return GameRecord(size, board.rules, np.zeros(0, np.int16), to_play, stones.ravel()).board()
    except ValueError:
        raise ValueError("bad set-up") from None


def _read_game(tree: Coarse_game_tree | None) -> Iterator[GameRecord]:
    """Yield the game, if it can be used; what can't raises ValueError(reason), after it, too."""
    root, board, handicap = _read_header(tree)
    positions, boards = _play(sgf_grammar.main_sequence_iter(tree), board, is_strict=True), []
    for _, color, board in positions:
        if board.num_moves == 0 and len(boards) > 1:
            raise ValueError("set-up after the first move")
        if color:
            boards.append(board)
        elif board.num_moves == 0:
            boards = [board]
        if color and board.is_over:
            break
    if handicap and _SETUP.keys().isdisjoint(root):  # its stones are the first moves
        colors = [3 - board.to_play for board in boards[1 : handicap + 2]]
        if colors not in ([BLACK] * handicap, [BLACK] * handicap + [WHITE]):
            raise ValueError("handicap without stones")
        boards = boards[handicap:]
    setup, moves = boards[0].stones().ravel(), [board.last_move for board in boards[1:]]
    if not moves and not setup.any():
        raise ValueError("no moves")
    if any(board.to_play == later.to_play for board, later in pairwise(boards)):
        raise ValueError("colours don't alternate")
    setup, moves, start = setup if setup.any() else None, np.array(moves, np.int16), boards[0]
    result, about = _text(root, "RE"), {"source": _text(root, "SO")}
    about |= {"black_rank": _text(root, "BR"), "white_rank": _text(root, "WR")}
    label = (None, None) if _TIME_OR_FORFEIT.search(result.lower()) else parse_result(result)
    yield GameRecord(start.size, start.rules, moves, start.to_play, setup, *label, **about)
    if any(color for _, color, _ in positions):
        raise ValueError("moves after the end")


def _text(root: dict[str, list[bytes]], name: str) -> str:
    value = root[name][0] if name in root else b""
    return sgf_grammar.simpletext_value(value).decode("utf-8", "replace").strip()


def _parse_size(text: str) -> int:
    sides = set(re.findall(r"\d+", text)) or {"19"}
    size = int(sides.pop()[:4])
    if sides or not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError("board size")
    return size


@lru_cache(4096)
def _parse_point(value: bytes, size: int) -> int:
    text = b"".join(value.lower().split())
    if text in (b"", b"tt"):
        return size * size
    if len(text) != 2 or not 0 <= min(text) - ord("a") <= max(text) - ord("a") < size:
        raise ValueError("point off the board")
    return (text[1] - ord("a")) * size + text[0] - ord("a")


@lru_cache(4096)
def _parse_rules(name: str, komi: str, has_stones: bool, is_fox: bool) -> Rules:
    """Read RU, and KM in its many spellings, negative where Black gets it."""
    scoring = "territory" if name.lower().startswith(("jap", "kor", "日", "韩", "韓")) else "area"
    text, points = komi.translate(_SIGNS).strip("? ").lower(), 0.5 if has_stones else Rules().komi
    try:
        if text:
            points = _parse_points(_KOMI_WORDS.sub(" ", _NO_KOMI.sub("0", text.lstrip("+-"))))
        if points >= 100 or (points >= 50 and is_fox):  # hundredths
            points = points / 50 if 250 <= points < 400 else points / 100  # of stones, of points
        sign = -1 if text.startswith("-") or any(_KOMI_WORDS.findall(text)) else 1
        return change(Rules("simple", True, scoring), komi=sign * points + 0)  # not -0
    except (TypeError, ValueError):  # no number, or one out of bounds
        raise ValueError("unusable komi") from None


def _parse_points(text: str) -> float | None:
    """Read points, or stones ("子", or with quarters), which are worth two."""
    number = _NUMBER.fullmatch(_UNITS.sub(" ", text).strip())
    if not number or not any(number.groups()):
        return None
    whole, numerator, denominator, half = number.groups()
    points = float((whole or "0").replace(",", ".")) + (0.5 if half else 0)
    points += int(numerator or 0) / int(denominator or 1)
    return points * 2 if "子" in text or (points < 4 and points * 2 % 1) else points


@lru_cache(4096)
def parse_result(text: str) -> tuple[float | None, float | None]:
    """Read RE in its many spellings as (result, score), both Black's; None where it doesn't say.

    "B+3.5" is (1.0, 3.5), "W+R" and "Black resigns" are (-1.0, None), "0" is (0.0, 0.0).
    """
    text = text.translate(_SIGNS).strip().lower()
    if text in ("0", "0.0", "jigo", "持碁"):
        return 0.0, 0.0
    if text.startswith(("draw", "tie", "jigo", "和", "平", "ジゴ", "무승부", "빅")):
        return 0.0, None
    if not (words := _RESULT.fullmatch(text)):
        return None, None
    sign = 1.0 if (words["black"] is None) == (words["loses"] is not None) else -1.0
    score = _parse_points(words["margin"] or f"{words['before'] or ''}{words['after'] or ''}")
    if score == 0:
        return 0.0, 0.0
    return sign, sign * score if score and score <= MAX_SIZE**2 else None


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
) -> str:
    """Write one game as SGF FF[4], with the players' names where they are known.

    comments: text for the position after so many moves, 0 for the root. `result` such as "B+R"
    says more than the record does; by default it is `format_result` of the record's.
    """
    rules, is_japanese = record.rules, record.rules.scoring == "territory"
    name = "Japanese" if is_japanese else _RULES.get((rules.ko, rules.suicide), "Chinese")
    root = {"FF": "4", "GM": "1", "AP": "minigo", "SZ": str(record.size)}
    root |= {"KM": f"{rules.komi:g}", "RU": name, "SO": record.source}
    root |= {"RE": result or format_result(record.result, record.score)}
    root |= {"PB": black, "PW": white, "BR": record.black_rank, "WR": record.white_rank}
    nodes = [{name: [text] for name, text in root.items() if text} | _format_setup(record)]
    for ply, move in enumerate(record.moves.tolist()):
        color = record.to_play if ply % 2 == 0 else 3 - record.to_play
        nodes.append({format_color(color): [format_point(move, record.size)]})
    tree, escape = Coarse_game_tree(), sgf_grammar.escape_text
    tree.sequence = [{k: [escape(v.encode()) for v in node[k]] for k in node} for node in nodes]
    return format_game(tree, {ply: {"C": text} for ply, text in (comments or {}).items()})


def format_game(tree: Coarse_game_tree, added: dict[int, dict[str, str]]) -> str:
    """Write a game as read, and what is `added` to main line's nodes by number, comments last."""
    nodes = list(sgf_grammar.main_sequence_iter(tree))
    nodes[0]["CA"] = [b"UTF-8"]
    for number, name, text in [(i, name, added[i][name]) for i in added for name in added[i]]:
        texts = [*filter(None, nodes[number].get(name, ()) if name == "C" else ())]
        nodes[number][name] = [b"\n\n".join([*texts, sgf_grammar.escape_text(text.encode())])]
    return sgf_grammar.serialise_game_tree(tree).decode()


def _format_setup(record: GameRecord) -> dict[str, list[str]]:
    setup, is_white = record.setup, record.to_play == WHITE
    if setup is None:
        return {"PL": ["W"]} if is_white else {}
    moves = {name: np.flatnonzero(setup == _SETUP[name]).tolist() for name in ("AB", "AW")}
    node = {k: [format_point(move, record.size) for move in moves[k]] for k in moves if moves[k]}
    if is_white and not moves["AW"] and len(moves["AB"]) >= 2:  # where SGF's HA begins
        node["HA"] = [str(len(moves["AB"]))]
    return node | {"PL": [format_color(record.to_play)]}
