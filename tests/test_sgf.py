"""SGF: what real archives hold comes in as games or as counted reasons, and goes out again."""

import bz2
import functools
import gzip
import io
import os
import re
import subprocess
import sys
import tarfile
import threading
import zipfile

import numpy as np
import pytest
from sgfmill import sgf as sgfmill_sgf

from minigo import sgf
from minigo.config import RULES, PlayConfig, Rules
from minigo.coords import BLACK, WHITE
from minigo.play.engine import Engine
from minigo.record import GameRecord
from minigo.sgf import (
    GameTree,
    Skipped,
    format_game,
    format_sgf,
    load_game,
    load_games,
    parse_result,
)
from test_record import assert_same

GAME = "(;FF[4]GM[1]SZ[9]KM[7]RE[B+3.5]RU[Chinese]BR[2d]WR[1d]SO[test];B[cc];W[gg];B[];W[dd])"


def read(tmp_path, data: bytes | str, name: str = "a.sgf") -> list:
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return list(load_games([path]))


def read_one(tmp_path, data: bytes | str) -> GameRecord:
    games = read(tmp_path, data)
    assert len(games) == 1 and isinstance(games[0], GameRecord), games
    return games[0]


def game_with(**properties: str) -> str:
    root = {"FF": "4", "SZ": "9"} | properties
    return "(;" + "".join(f"{k}[{v}]" for k, v in root.items()) + ";B[cc];W[gg];B[dd])"


def zip_of(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("_", "."), data)
    return file.getvalue()


def tar_of(mode: str, **members: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(f"folder/{name.replace('_', '.')}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def encrypted_zip() -> bytes:
    data = bytearray(zip_of(a_sgf=GAME.encode()))
    data[6] |= 1  # the flag in the local header and in the directory
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def damaged_zip() -> bytes:
    data = bytearray(zip_of(a_sgf=GAME.encode() * 50))
    data[60] ^= 255
    return bytes(data)


def lying_tar() -> bytes:
    info = tarfile.TarInfo("a.sgf")
    info.type, info.size = tarfile.XHDTYPE, 1 << 80
    return info.tobuf(tarfile.GNU_FORMAT)


def misnamed_zip(name: bytes) -> bytes:
    data = bytearray(zip_of(ä_sgf=GAME.encode()))  # not ASCII: flagged as UTF-8
    place = data.index(b"PK\x01\x02") + 46  # the name in the directory
    data[place : place + len(name) + (not name)] = name or b"\0"  # a name ends at a zero byte
    return bytes(data)


def test_a_game_is_read_whole(tmp_path):
    record = read_one(tmp_path, GAME)
    assert record.size == 9 and record.rules == Rules("simple", True, komi=7.0)
    assert record.moves.dtype == np.int16 and record.moves.tolist() == [20, 60, 81, 30]
    assert (record.to_play, record.setup, record.ownership) == (BLACK, None, None)
    assert (record.result, record.score) == (1.0, 3.5)
    assert (record.black_rank, record.white_rank, record.source) == ("2d", "1d", "test")


MESSY = {
    "Latin-1 names": game_with(PB="Jos\xe9", SO="Caf\xe9").encode("latin-1"),
    "GB2312 names": game_with(CA="gb2312", PB="古力", SO="围棋").encode("gb2312"),
    "GBK with a bracket for a byte": game_with(CA="GBK", SO="昡").encode("gbk"),
    "GB2312 that nothing announces": game_with(SO="围棋", RE="黑中盘胜").encode("gb2312"),
    "claims GB2312, is UTF-8": game_with(CA="gb2312", SO="围").encode(),
    "UTF-8 with a byte order mark": b"\xef\xbb\xbf" + game_with().encode(),
    "UTF-16": game_with().encode("utf-16"),
    "a header of nonsense": game_with(KM="?", RE="@", BR="[?", HA="x", RU="", GM=""),
    "the size twice": "(;SZ[9]SZ[19];B[cc];W[gg];B[dd])",
    "text before and after": "From: me\n\n" + game_with() + "\n-- \n",
    "white space": "\n( ;\tSZ [9] ;B[cc]\n;\nW[gg]\n\n;B[dd] )\n ",
    "lower-case letters in names": "(;GaMe[1]SiZe[9];Black[cc];White[gg];B[dd])",
    "upper-case points": "(;SZ[9];B[CC];W[GG];B[dd])",
    "a closing bracket in a comment": r"(;SZ[9]C[a \] ;B[aa\] \\];B[cc];W[gg];B[dd])",
    "variations": "(;SZ[9];B[cc](;W[gg](;B[dd])(;B[aa]))(;W[aa]))",
    "a variation with a name of its own": "(;SZ[9](;GN[x];B[cc](;GC[y]W[gg];B[dd]))(;B[aa]))",
    "a game without FF": "(;B[cc]SZ[9];W[gg];B[dd])",
    "clocks and comments": "(;SZ[9];B[cc]BL[30];W[gg]WL[29.5]C[hm];B[dd])",
    "colons in the size": game_with(SZ="9:9"),
    "an empty list of stones": game_with(AB=""),
    "an escaped bracket after Shift-JIS's": game_with(C=r"[表\] and (能\])").encode("cp932"),
    "set-up in the second node": "(;SZ[9];AB[aa]AW[ab];B[cc];W[gg];B[dd])",
    "zeros in a name and at the end": game_with(PB="a\0b") + "\0\0",
    "a game in a comment": game_with(C=r"(;FF[4\]SZ[19\];B[aa\])"),
    "facts of the game in its variations": "(;PB[a]SZ[9];B[cc](;EV[b]W[gg];B[dd])(;PB[c]W[aa]))",
    "a trap far away": game_with(C="a" * 300_000, SO="誠").encode("gbk"),
}


@pytest.mark.parametrize("data", MESSY.values(), ids=MESSY)
def test_a_messy_game_is_read(tmp_path, data):
    record = read_one(tmp_path, data)
    assert record.size == 9 and record.moves.tolist() == [20, 60, 30]


# Codec, what CA may say, and a text with characters whose second byte is "\\" or "]".
TRAPS = [
    ("cp932", "|x-sjis|windows-31j|cp932|Shift-JIS", "二十表ソ能従"),
    ("gbk", "|GBK|cp936|x-gbk|GB2312|gb18030", "王誠誡昡第三届"),
    ("cp950", "|Big5|cp950|windows-950", "許功蓋因黑中盤勝"),
    ("cp949", "|EUC-KR|ks_c_5601-1987|cp949", "이창호 백 불계승"),
    ("iso2022_jp", "|ISO-2022-JP", "二十段 本因坊戦"),
    ("hz", "", "围棋 古力九段 十 表"),
    ("latin-1", "|ISO-8859-1|windows-1252", "José] Müller, André"),
    ("utf-8-sig", "|GBK|UTF-8|nonsense|hex", "表 百"),
    *(("utf-8", "", "Nguye\u0302\u0303n"), ("utf-8", "", "Hawaiʻi"), ("utf-8", "", "Հայ")),
    *((codec, "", "表 백") for codec in ("utf-16", "utf-16-le", "utf-16-be", "utf-32")),
    ("cp932", "UTF-8|ISO-8859-1|Big5|rot13", "二十段 井山裕太"),
    ("gbk", "UTF-8|ISO-8859-1|Shift_JIS|Big5", "古力王誠九段"),
    *(("koi8-r", "|KOI8-R", "Иванов"), ("cp1251", "|windows-1251", "Кубок мира, Казань")),
    *(("euc_jp", "|EUC-JP", "羽根直樹"), ("euc_jp", "", "ﾎﾝｲﾝﾎﾞｳ")),
    ("cp932", "Shift_JIS", "ﾔﾏﾀﾞ"),
    *(("iso8859-2", "ISO-8859-2", "Łódź] Wałęsa"), ("iso2022_kr", "ISO-2022-KR", "이창호 백")),
]


@pytest.mark.parametrize(
    ("codec", "label", "text"),
    [(c, label, t) for c, labels, t in TRAPS for label in labels.split("|")],
)
@pytest.mark.parametrize("place", ["before", "after"])
def test_no_encoding_costs_a_move_or_the_size(tmp_path, codec, label, text, place):
    value = text.replace("]", "\\]")
    charset, texts = f"CA[{label}]" if label else "", f"GN[{value}]C[{value}\\] see]"
    root = charset + texts if place == "before" else texts + charset
    data = f"(;FF[4]GM[1]{root}SO[{value}]SZ[9]KM[5.5]C[{value}];B[cc];W[gg]C[{value}];B[dd])"
    record = read_one(tmp_path, data.encode(codec))
    assert (record.size, record.rules.komi, record.moves.tolist()) == (9, 5.5, [20, 60, 30])
    assert record.source == text


NAMES = {
    "gbk": "古力 柯洁 聂卫平 黑中盘胜 常昊 马晓春 时越 王磊 我是高手 陈耀烨 周睿羊 罗洗河 连笑",
    "cp950": "周俊勳 王立誠 張栩 林海峰 黑中盤勝 陳詩淵 王銘琬 吳清源 許家元 第一屆 名人賽 功",
    "cp932": "井山裕太 趙治勲 武宮正樹 依田紀基 高尾紳路 白中押し勝ち 一力遼 ソ 囲碁 たろう 表",
    "cp949": "이창호 조훈현 이세돌 박정환 신진서 최철한 유창혁 서봉수 흑불계승 삼성화재배 명인전",
    "euc_jp": "井山裕太 趙治勲 依田紀基 羽根直樹 小松英樹 長谷川直 久保秀夫 表二段 さくら アキラ",
    "latin-1": "José Müller Zürich François Åke Öberg Ágnes Söderström André Núñez",
    "koi8-r": "Иванов Динерштейн Шикшин Чёрных Горжалцан",
    "cp1251": "Иванов Динерштейн Шикшин Чёрных Горжалцан",
}


@pytest.mark.parametrize(("codec", "name"), [(c, n) for c in NAMES for n in NAMES[c].split()])
def test_one_name_tells_the_encoding(tmp_path, codec, name):
    assert read_one(tmp_path, game_with(SO=name).encode(codec)).source == name


def test_games_of_one_collection_may_be_in_different_encodings(tmp_path):
    texts = {"cp932": "二十表", "gbk": "王誠", "cp950": "許功蓋", "utf-8": "表", "latin-1": "André"}
    games = [game_with(SO=text, GN=text).encode(codec) for codec, text in texts.items()]
    records = read(tmp_path, b"\n".join(games))
    assert [record.source for record in records] == [*texts.values()]
    assert all(record.moves.tolist() == [20, 60, 30] for record in records)


@pytest.mark.parametrize("codec", ["gbk", "cp932", "cp950", "utf-8", "cp949"])
def test_half_a_character_costs_no_move(tmp_path, codec):
    name = "李王陳" if codec != "cp949" else "이박최"
    for cut in (-1, -2, None):
        data = game_with(PB="@", PW="@").encode().replace(b"@", name.encode(codec)[:cut])
        assert read_one(tmp_path, data).moves.tolist() == [20, 60, 30]


def test_a_result_in_another_encoding(tmp_path):
    record = read_one(tmp_path, MESSY["GB2312 that nothing announces"])
    assert record.source == "围棋" and record.result == 1.0


# What is no game -> how many games still come in, and the reasons for the rest.
BAD = {
    "empty": (b"", 0, ["empty file"]),
    "blank": (b" \n\n", 0, ["empty file"]),
    "prose": (b"It was a dark and stormy night.", 0, ["not SGF"]),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0(;B[aa])", 0, ["not SGF"]),
    "a web page": ("<html><body>(;-) not found</body></html>", 0, ["broken SGF"]),
    "no first semicolon": (GAME.replace("(;", "("), 0, ["not SGF"]),
    "no beginning": (GAME[8:], 0, ["not SGF"]),
    "an unescaped bracket": (game_with(PB="a]b"), 0, ["broken SGF"]),
    "cut short": (GAME[:60], 0, ["broken SGF"]),
    "cut in a value": (GAME[:-2], 0, ["broken SGF"]),
    "garbage in the middle": (GAME.replace(";W[gg]", "@@@"), 0, ["broken SGF"]),
    "a broken game among others": (GAME + GAME[:-2] + "\n" + GAME, 2, ["broken SGF"]),
    "an unclosed game among others": (GAME + GAME[:-1] + "\n" + GAME, 3, ["broken SGF"]),
    "something else after a game": (GAME + "see you (;-)", 1, ["broken SGF"]),
    "chess": (game_with(GM="3"), 0, ["not Go"]),
    "size 25": (game_with(SZ="25"), 0, ["board size"]),
    "size 1": (game_with(SZ="1"), 0, ["board size"]),
    "9 by 13": (game_with(SZ="9:13"), 0, ["board size"]),
    "no moves": ("(;SZ[9])", 0, ["no moves"]),
    "moves in a comment": ("(;SZ[9]C[ ;B[aa])", 0, ["no moves"]),
    "off the board": (game_with(SZ="5"), 0, ["point off the board"]),
    "a point of one letter": ("(;SZ[9];B[c])", 0, ["point off the board"]),
    "a colour twice": ("(;SZ[9];B[cc];B[dd])", 0, ["colours don't alternate"]),
    "occupied": ("(;SZ[9];B[cc];W[cc])", 0, ["illegal move"]),
    "ko": ("(;SZ[9]AB[ba][ab][bc]AW[ca][db][cc][bb];B[cb];W[bb])", 0, ["illegal move"]),
    "set-up without liberties": ("(;SZ[9]AB[aa]AW[ab][ba];B[cc])", 0, ["bad set-up"]),
    "two stones on a point": ("(;SZ[9]AB[aa]AW[aa];B[cc])", 0, ["bad set-up"]),
    "set-up later": ("(;SZ[9];B[cc];AW[aa];B[dd])", 0, ["set-up after the first move"]),
    "HA without stones": ("(;SZ[9]HA[2];W[cc];B[dd])", 0, ["handicap without stones"]),
    "one game in another": ("(;SZ[9];B[cc];SZ[9];B[cc])", 0, ["illegal move"]),
    "glued, unclosed": (GAME[:-1] + GAME, 2, ["broken SGF"]),
    "an unclosed variation": ("(;SZ[9];B[cc](;W[gg];B[dd](;W[aa])", 1, ["broken SGF"]),
    "komi of no number": (game_with(KM="some"), 0, ["unusable komi"]),
    "komi beyond all bounds": (game_with(KM="9" * 400), 0, ["unusable komi"]),
    "PL in mid-game": ("(;SZ[9];B[cc];PL[B];B[dd])", 0, ["colours don't alternate"]),
    "a colour twice after a pass": ("(;SZ[9];B[cc];W[];W[dd])", 0, ["colours don't alternate"]),
    "after the end": ("(;SZ[9];B[cc];W[];B[];W[dd])", 1, ["moves after the end"]),
    "damaged zip": (damaged_zip(), 0, ["broken archive"]),
    "zip cut short": (zip_of(a_sgf=GAME.encode())[:-30], 0, ["broken archive"]),
    "gzip cut short": (gzip.compress(GAME.encode())[:-9], 0, ["broken archive"]),
    "tar cut short": (tar_of("w", a_sgf=GAME.encode() * 100)[:1500], 0, ["broken archive"]),
    "tar of a size that no file has": (lying_tar(), 0, ["broken archive"]),
    "zip with a name of no encoding": (misnamed_zip(b"\xff"), 0, ["broken archive"]),
    "zip with no name": (misnamed_zip(b""), 0, ["broken archive"]),
    "encrypted zip": (encrypted_zip(), 0, ["encrypted"]),
    "zip in zip": (zip_of(a_zip=zip_of(b_sgf=b""), c_sgf=GAME.encode()), 1, ["not SGF"]),
}


@pytest.mark.parametrize(("data", "num_games", "reasons"), BAD.values(), ids=BAD)
def test_what_is_left_out_has_a_reason(tmp_path, data, num_games, reasons):
    games = read(tmp_path, data)
    skipped = [game for game in games if isinstance(game, Skipped)]
    assert [game.reason for game in skipped] == reasons
    assert len(games) - len(skipped) == num_games
    assert all(game.name.startswith(str(tmp_path / "a.sgf")) for game in skipped)
    with pytest.raises(ValueError, match=f"a.sgf.*: {reasons[0]}"):
        list(load_games([tmp_path / "a.sgf"], strict=True))


def test_a_missing_path_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="nowhere: no such file or folder"):
        list(load_games([tmp_path / "nowhere"]))


def test_a_skipped_game_is_named_by_its_place(tmp_path):
    games = read(tmp_path, zip_of(x_sgf=(GAME + "(;SZ[9])" + GAME).encode()), "b.zip")
    assert games[1] == Skipped(f"{tmp_path}/b.zip:x.sgf game 2", "no moves")


BOMB = """
import resource, sys
from minigo.sgf import load_games
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print([getattr(game, "reason", "game") for game in load_games(sys.argv[1:])])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


def test_a_large_file_in_a_small_archive_costs_three_times_its_size_in_memory(tmp_path):
    path = tmp_path / "bomb.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("a.sgf", "w", force_zip64=True) as member,
    ):
        member.write(GAME.encode())
        for _ in range(128):
            member.write(b"x" * (1 << 20))
        member.write(GAME.encode() + b"(;SZ[9])")
    run = [sys.executable, "-c", BOMB, str(path)]
    lines = subprocess.run(run, capture_output=True, text=True, check=True).stdout.splitlines()
    assert path.stat().st_size < 4 << 20 and lines[0] == "['game', 'game', 'no moves']"
    assert int(lines[1]) < 3 * 128


@pytest.mark.parametrize("form", ["zip", "tar", "sgf.bz2"])
def test_what_is_larger_than_the_limit_is_too_large(tmp_path, monkeypatch, form):
    monkeypatch.setattr(sgf, "MAX_FILE_BYTES", 100)
    games = {"zip": zip_of, "tar": functools.partial(tar_of, "w")}
    data = bz2.compress(GAME.encode() * 2)
    if form in games:
        data = games[form](a_sgf=b"(;SZ[9];B[aa])", b_sgf=GAME.encode() * 2)
    found = read(tmp_path, data)
    reasons = [game.reason for game in found if isinstance(game, Skipped)]
    assert reasons == ["too large"] and len(found) == 1 + (form in games)


ARCHIVES = {
    "zip": zip_of(a_sgf=GAME.encode(), b_sgf=(GAME * 2).encode()),
    "tar": tar_of("w", a_sgf=GAME.encode(), b_sgf=(GAME * 2).encode()),
    "tar.gz": tar_of("w:gz", a_sgf=GAME.encode(), b_sgf=(GAME * 2).encode()),
    "tar.xz": tar_of("w:xz", a_sgf=GAME.encode(), b_sgf=(GAME * 2).encode()),
    "sgf.bz2": bz2.compress((GAME * 3).encode()),
}


@pytest.mark.parametrize("data", ARCHIVES.values(), ids=ARCHIVES)
def test_archives_are_read_whole(tmp_path, data):
    games = read(tmp_path, data, "archive")
    assert [len(game.moves) for game in games] == [4, 4, 4]


@pytest.mark.parametrize("archive", [zip_of, functools.partial(tar_of, "w:gz")])
def test_reading_an_archive_writes_no_file(tmp_path, archive):
    data = archive(**{"../evil_sgf": GAME.encode(), "a_sgf": GAME.encode()})
    (tmp_path / "in").mkdir()
    assert len(read(tmp_path / "in", data)) == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "a.sgf"]


def test_a_pipe_is_read_whole(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_text, args=(GAME * 999,)).start()
    assert len(list(load_games([pipe]))) == 999


def test_folders_are_read_in_order_and_hidden_files_left_alone(tmp_path):
    for name, num_moves in (("b/x.sgf", 2), ("a.sgf", 1), (".hidden", 9), ("__MACOSX/c.sgf", 9)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("(;SZ[9]" + ";B[aa];W[bb]"[: 6 * num_moves] + ")")
    assert [len(game.moves) for game in load_games([tmp_path])] == [1, 2]


def test_passes_are_empty_or_tt_and_what_follows_two_is_cut(tmp_path):
    record, skipped = read(tmp_path, "(;SZ[9];B[cc];W[tt];B[];W[dd];B[ee])")
    assert record.moves.tolist() == [20, 81, 81] and skipped.reason == "moves after the end"


def test_handicap_stones_in_their_three_forms(tmp_path):
    placed = read_one(tmp_path, "(;SZ[9]HA[2]AB[cc][gg];W[ee];B[dd])")
    played = read_one(tmp_path, "(;SZ[9]HA[2];B[cc];B[gg];W[ee];B[dd])")
    for record in (placed, played):
        assert record.to_play == WHITE and record.rules.komi == 0.5
        assert np.flatnonzero(record.setup == BLACK).tolist() == [20, 60]
        assert record.moves.tolist() == [40, 30]
    assert read_one(tmp_path, "(;SZ[9]HA[1];B[cc];W[gg])").setup is None


def test_set_up_lists_and_rectangles(tmp_path):
    record = read_one(tmp_path, "(;SZ[9]AB[aa:cb][ii]AW[ee]AE[aa];W[gg];B[dd])")
    assert np.flatnonzero(record.setup == BLACK).tolist() == [1, 2, 9, 10, 11, 80]
    assert np.flatnonzero(record.setup == WHITE).tolist() == [40]
    assert record.to_play == WHITE
    for stones in ("[cb:aa][ii:ii]", "[ab:ca][ii]"):  # by other corners
        again = read_one(tmp_path, f"(;SZ[9]AB{stones}AW[ee]AE[aa];W[gg];B[dd])")
        assert_same(record, again)


def test_a_set_up_position_needs_no_moves(tmp_path):
    record = read_one(tmp_path, "(;SZ[9]AB[aa]AW[ee]PL[W])")
    assert len(record.moves) == 0 and record.to_play == WHITE and record.setup[40] == WHITE


KOMI = {
    0.5: ".5|0,5|½|半目|1/2",
    0: "0|none|None|no komi|无|なし|0.00|不贴目|-0",
    5.5: "5.5|5 1/2|5½|275|550|2.75|2又3/4子",
    6.5: "6.5|6,5|６．５|6½|6目半|6.5目|黑贴6.5目|コミ6目半|덤 6집반|650|+6.5"
    "|六目半コミ出し|互先 コミ6目半|공제 6집반|6.5 points|komi: 6.5|3.25|黑贴3又1/4子",
    7: "7|7.0|350|3.5子||?|700",
    7.5: "375|3.75|7.50|750|3 3/4|3又3/4子|3¾|贴3.75子|3 3/4 zi|黑棋贴7.5目|komi=7.5|黑贴3又3/4子",
    3.5: "3.5|3目半",
    -5: "-5|−5|Reverse, 5|reverse komi 5|逆コミ5目|反贴5目|白贴5目|-500",
    50: "50",
}
NO_KOMI = ["abc", "white 5", "B+5", "15/2", "6-7", "1e3", "99999999", "6 and a bit", "nan", "inf"]


@pytest.mark.parametrize(("komi", "text"), [(k, text) for k in KOMI for text in KOMI[k].split("|")])
def test_komi_spellings(tmp_path, komi, text):
    assert read_one(tmp_path, game_with(KM=text)).rules.komi == komi


@pytest.mark.parametrize("text", NO_KOMI)
def test_komi_that_cant_be_read_is_no_other(tmp_path, text):
    assert [game.reason for game in read(tmp_path, game_with(KM=text))] == ["unusable komi"]
    with pytest.raises(ValueError, match="a.sgf': unusable komi"):
        load_game(tmp_path / "a.sgf")


@pytest.mark.parametrize(
    ("text", "komi"), [("50", 0.5), ("375", 7.5), ("650", 6.5), ("0", 0), ("6.5", 6.5)]
)
def test_komi_of_fox_is_in_hundredths(tmp_path, text, komi):
    for program in ("foxwq", "GNU Go:3.8]AP[foxwq"):  # as it writes it
        assert read_one(tmp_path, game_with(KM=text, AP=program)).rules.komi == komi


RESULTS = {
    (1.0, 3.5): "B+3.5|b+3.5|B+3,5|Black+3.5|B + 3.5 |Black wins by 3.5 points|黑胜3目半|B+3 1/2"
    "|黒3目半勝|黒3目半勝ち|White lost by 3.5|흑 3집반승|黑＋3.5|黑方胜3.5目|黑胜1又3/4子|白负3目半"
    "|White loses by 3.5 points|B+3½",
    (-1.0, -0.5): "W+0.5|W+1/2|W+½|white won by 0.5|白胜0.5目",
    (-1.0, -3.5): "Black lost by 3.5|白3目半勝|白三目半勝|W+3.5|백 3집반승",
    (-1.0, None): "W+R|W+Resign|White wins by resignation|W+|白中盘胜|W|W+T|White wins on time|W+F"
    "|Black resigns|B resigned|Black forfeits|黑负|黑中盘负|黒投了|백 불계승|흑 기권|黒番投了"
    "|흑 불계패|黒中押し負け|黑认输|黑棋认输|W wins|Black gives up|black has resigned|白不计胜"
    "|白番中押し勝ち",
    (1.0, None): "White resigns|白认输|백 기권|흑 불계승|白负|白番投了|白認輸|White gives up"
    "|W resigned|White resigned.|white gave up|White concedes|黑胜|B+R (White resigns)|白敗"
    "|白方认输|黑中盤勝|흑 승|White timed out",
    (0.0, 0.0): "0|Jigo|B+0|持碁",
    (0.0, None): "Draw|drawn|和棋|平局|ジゴ|Jigo (B 40, W 40)|무승부|빅",
    (None, None): "|?|Void|unfinished|won by Black|B-R|B: ?|Both lost|胜负未知|黑胜负|無勝負"
    "|White did not resign|Black won the nigiri, White won|両負け|Black is to play|White's clock"
    "|白胜? 黑胜?|black and white lost",
}


@pytest.mark.parametrize("expected", RESULTS)
def test_result_spellings(expected):
    for text in RESULTS[expected].split("|"):
        assert parse_result(text) == expected, text


def test_results_that_say_nothing_about_the_position_are_dropped(tmp_path):
    forfeits = ("B+F", "W+forfeit", "Black forfeits", "White lost on time", "白超时负", "백 시간승")
    for text in ("B+T", "W+Time", "Black wins on time", "Void", *forfeits):
        assert read_one(tmp_path, game_with(RE=text)).result is None


def test_results_go_out_as_they_came_in():
    for text in ("B+3.5", "W+10", "W+", "0", "Draw", "?"):
        assert sgf.format_result(*parse_result(text)) == text


def make_records() -> list[GameRecord]:
    setup = np.zeros(81, np.int8)
    setup[[20, 60]], setup[40] = BLACK, WHITE
    handicap = np.where(setup == BLACK, setup, 0).astype(np.int8)
    rules = Rules("simple", suicide=True, komi=-5.5)
    japanese = Rules("simple", suicide=True, scoring="territory", komi=6.5)
    moves = np.array([0, 81, 80, 10], np.int16)
    large = np.array([0, 18, 360, 361, 361], np.int16)
    return [
        GameRecord(9, rules, moves, result=1.0, score=2.5, source="a]b\\c: ✓", black_rank="2d"),
        GameRecord(9, japanese, moves, WHITE, setup, result=-1.0, white_rank="2350"),
        GameRecord(9, rules, moves, BLACK, handicap, result=0.0),
        GameRecord(9, rules, moves, WHITE, handicap),
        GameRecord(19, rules, large, WHITE, result=0.0, score=0.0),
    ]


def test_records_come_back_from_sgf(tmp_path):
    records = make_records()
    copies = read(tmp_path, "\n".join(map(format_sgf, records)))
    for a, b in zip(records, copies, strict=True):
        assert_same(a, b)


@pytest.mark.parametrize(("num_stones", "handicap"), [(0, None), (1, None), (2, 2), (9, 9)])
def test_handicap_begins_at_two_stones(num_stones, handicap):
    setup = np.zeros(81, np.int8)
    setup[:num_stones] = BLACK
    record = GameRecord(9, Rules(), np.zeros(0, np.int16), WHITE, setup)
    root = sgfmill_sgf.Sgf_game.from_string(format_sgf(record)).get_root()
    assert root.get("PL") == "w" and root.has_property("HA") == (handicap is not None)
    assert handicap is None or root.get("HA") == handicap


def test_sgf_is_what_other_programs_expect():
    comments = {0: "start", 2: "a ] \\ b"}
    text = format_sgf(make_records()[0], "Ann", "Bob", comments, result="B+R")
    game = sgfmill_sgf.Sgf_game.from_string(text)
    root = game.get_root()
    assert text.startswith("(;FF[4]") and root.get("GM") == 1 and root.get("RE") == "B+R"
    assert (game.get_size(), game.get_komi(), root.get("RU")) == (9, -5.5, "Chinese")
    assert (game.get_player_name("b"), game.get_player_name("w")) == ("Ann", "Bob")
    moves = [node.get_move() for node in game.get_main_sequence()[1:]]
    assert moves == [("b", (8, 0)), ("w", None), ("b", (0, 8)), ("w", (7, 1))]
    assert root.get("C") == "start" and game.get_main_sequence()[2].get("C") == "a ] \\ b"


def test_rules_are_named():
    names = {"tromp-taylor": "Tromp-Taylor", "chinese": "Chinese", "aga": "AGA"}
    names |= {"new-zealand": "NZ", "japanese": "Japanese", "korean": "Japanese"}
    for rules, name in names.items():
        text = format_sgf(GameRecord(9, RULES[rules], np.zeros(0, np.int16)))
        assert f"RU[{name}]" in text


KO = "(;SZ[4]AB[ba][ab][bc]AW[ca][db][cc][bb];B[cb];W[bb])"
SET_UP_LATER = "(;SZ[3];B[bb];W[ab];AW[aa]AE[bb];B[cc])"
# A game as people edit it, how many of its moves are loaded, the board then, and what is printed.
EDITED = {
    "set-up": (SET_UP_LATER, 9, "O..|O..|..X", "AW[aa][ab]PL[B] B[cc]"),
    "before it": (SET_UP_LATER, 1, "...|.X.|...", "B[bb]"),
    "with it": (SET_UP_LATER, 2, "O..|O..|...", "AW[aa][ab]PL[B]"),
    "at the end": ("(;SZ[3];B[bb];AE[bb]AB[aa]PL[B])", 9, "X..|...|...", "AB[aa]PL[B]"),
    "a rectangle": ("(;SZ[3];B[bb];AB[ba:aa])", 9, "XX.|.X.|...", "AB[aa][ba][bb]PL[W]"),
    "twice": ("(;SZ[3];B[bb];B[aa];W[cc])", 9, "X..|.X.|..O", "B[bb] W[] B[aa] W[cc]"),
    "once": ("(;SZ[3];B[bb];B[aa];W[cc])", 1, "...|.X.|...", "B[bb]"),
    "twice, a pass": ("(;SZ[3];B[];B[bb])", 9, "...|.X.|...", "B[] W[] B[bb]"),
    "handicap": ("(;SZ[3]HA[3];B[aa];B[cc];B[ca];W[bb])", 1, "X..|...|...", "B[aa]"),
    "White first": ("(;SZ[3]HA[2];W[bb];B[cc])", 9, "...|.O.|..X", "PL[W] W[bb] B[cc]"),
    "PL": ("(;SZ[3];B[aa];PL[b];B[cc])", 9, "X..|...|..X", "B[aa] W[] B[cc]"),
    "PL with a move": ("(;SZ[3];B[aa]PL[W];W[cc]PL[B])", 9, "X..|...|..O", "B[aa] W[cc]"),
    "unclosed": ("(;SZ[3];B[aa](;W[cc];B[bb]", 9, "X..|.X.|..O", "B[aa] W[cc] B[bb]"),
    "a collection": ("(;SZ[3];B[aa]\n(;SZ[9];B[cc]\n", 9, "X..|...|...", "B[aa]"),
    "two passes": ("(;SZ[3];B[];W[];B[bb])", 9, "...|.X.|...", "B[] W[] B[bb]"),
    "a ko retaken": (KO, 9, ".XO.|XO.O|.XO.|....", "AB[ba][ab][cb][bc]AW[ca][db][cc]PL[W] W[bb]"),
    "on a stone": ("(;SZ[3];B[bb];W[bb])", 9, "...|.O.|...", "PL[W] W[bb]"),
}


@pytest.mark.parametrize(("text", "number", "diagram", "printed"), EDITED.values(), ids=EDITED)
def test_a_game_is_loaded_as_people_edit_it(tmp_path, text, number, diagram, printed):
    path, engine = tmp_path / "a.sgf", Engine(PlayConfig())
    path.write_text(text)
    engine.take(load_game(path)[1], engine.rules, number)
    assert str(engine.board).replace(" ", "").replace("\n", "|") == diagram
    root, *moves = format_sgf(engine.record()).replace("\n", "")[2:-1].split(";")
    setup = "".join(re.findall(r"(?:AB|AW|PL)(?:\[..?\])+", root))
    assert " ".join(filter(None, [setup, *moves])) == printed


def test_a_game_that_cant_be_loaded_says_why(tmp_path):
    reasons = {"": "broken SGF", "(;SZ[9];B[c": "broken SGF", "(;GM[3];B[cc])": "not Go"}
    reasons |= {"(;SZ[9];B[cc];AB[aa]AW[ba][ab])": "bad set-up"}
    reasons |= {"(;SZ[9];AB[jj])": "point off the board", "(;SZ[9];AB[tt])": "point off the board"}
    for number, (text, reason) in enumerate(reasons.items()):
        path = tmp_path / f"{number}.sgf"
        path.write_text(text)
        with pytest.raises(ValueError, match=f"^cannot load file '.*/{number}.sgf': {reason}$"):
            load_game(path)
    for path in (tmp_path, tmp_path / "nowhere", ""):
        with pytest.raises(ValueError, match="no file with a game"):
            load_game(path)


def test_what_has_no_name_is_not_written(tmp_path):
    path = tmp_path / "a.sgf"
    path.write_text("(;SZ[9]k[x](;B[cc]k[x])(;B[dd]k[x]TR[aa]))")
    text = format_game(load_game(path)[0], {})
    assert "x" not in text and text.count("B[") == 2 and "TR[aa]" in text


RICH = r"""(;FF[4]GM[1]CA[Shift_JIS]SZ[9]KM[5.5]PC[東京]GN[能 \\]TM[600]OT[3x30 byo-yomi]PB[十段]
C[one: \] two];B[ee]C[]LB[ec:A]TR[ee][ff](;W[ec]BL[12]C[three]SBKV[1];B[cd]XX[own][two])
(;W[gg]C[what if];B[cc](;W[aa])(;W[bb])))"""


def test_a_game_is_written_with_all_that_was_in_its_file(tmp_path):
    path = tmp_path / "a.sgf"
    path.write_bytes(RICH.encode("cp932"))
    added = {0: {"SBKV": "50.00"}, 1: {"C": "a ] \\ b", "SBKV": "60.00"}}
    added[2] = {"C": "more", "SBKV": "7"}
    path.write_text(format_game(load_game(path)[0], added), encoding="utf-8")
    texts = RICH.encode(), path.read_bytes()
    before, after = map(sgfmill_sgf.Sgf_game.from_bytes, texts)
    pairs = [(before.get_root(), after.get_root())]
    for old, new in pairs:
        names = {*old.properties(), *new.properties()} - {"C", "SBKV", "CA"}
        assert all(old.get_raw_list(name) == new.get_raw_list(name) for name in names)
        pairs += zip(old, new, strict=True)
    assert len(pairs) == 8 and after.get_root().get("CA") == "UTF-8"
    comments = [new.get("C") for _, new in pairs if new.has_property("C")]
    assert comments == ["one: ] two", "a ] \\ b", "three\n\nmore", "what if"]
    game = GameTree(path.read_bytes())
    assert game.text(game.root, "PB") == "十段" and load_game(path)[1][-1][2].num_moves == 3


def test_a_tree_grows_by_new_moves_alone():
    game = GameTree(b"(;SZ[9]foo[3];B[ee];W[tt](;B[cc])(;B[dd]bar[x]))")
    assert game.add(game.root, BLACK, 40) is game.root[0]
    assert game.add(game.root[0], WHITE, 81) is game.root[0][0]  # a pass, though written as tt
    assert game.add(game.root[0], WHITE, 0) is game.root[0][1]
    assert len(GameTree(str(game).encode()).nodes()) == 6  # without names in small letters alone


def test_who_is_to_move_may_change_in_mid_game_and_prisoners_stay():
    game = GameTree(b"(;SZ[3]RU[Japanese];B[ba];W[aa];B[ab];PL[B];B[cc])")
    assert game.positions(game.last)[-1][2].prisoners == game.positions(game.last)[3][2].prisoners
    assert sum(game.positions(game.last)[-1][2].prisoners) == 1
