"""People's games: which are kept and held out, and that the cache gives what the archive holds."""

import os
import zipfile
from collections import Counter
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from minigo import games as archive
from minigo._board import Board
from minigo.config import Rules
from minigo.coords import BLACK, NUM_SYMMETRIES, WHITE, symmetry_table
from minigo.games import format_left_out, game_key, load_human_games, read_games
from minigo.ranks import parse_rank
from minigo.record import GameRecord
from minigo.sgf import Skipped, format_sgf, load_games

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
RULES = Rules("simple", suicide=True)
GAMES = [
    f"(;SZ[9]KM[6.5]RE[B+{n}]BR[{n}d]AB[aa][b{'abc'[n]}];W[cc];B[d{'abc'[n]}])" for n in (0, 1)
]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(archive, "MIN_BYTES", 0)
    return tmp_path / "cache" / "minigo"


def write_zip(path, *games: str):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.sgf", "\n".join(games))
    return path


def describe(games) -> list[str]:
    return [game.reason if isinstance(game, Skipped) else repr(game) for game in games]


@pytest.mark.parametrize("name", ["a.zip", os.fsdecode(b"\xff.zip")])
def test_an_archive_is_read_once(tmp_path, monkeypatch, name):
    path = write_zip(tmp_path / name, *GAMES, "(;SZ[9])", "(;SZ[9])", "(;SZ[30];B[aa])")
    expected = describe(load_games([path]))
    assert describe(read_games([path])) == expected
    monkeypatch.delattr(archive, "load_games")  # from here on nothing reads the archive
    assert describe(read_games([path])) == expected
    assert describe(read_games([path, path])) == 2 * expected


def test_a_changed_archive_is_read_again(tmp_path, cache):
    path = write_zip(tmp_path / "a.zip", GAMES[0])
    assert len(list(read_games([path]))) == 1
    write_zip(path, *GAMES)
    assert len(list(read_games([path]))) == 2
    os.utime(path, ns=(1, 1))
    assert len(list(read_games([path]))) == 2 and len(list(cache.iterdir())) == 2


def test_a_new_file_in_a_folder_counts(tmp_path):
    folder = tmp_path / "games"
    folder.mkdir()
    for number in (1, 2):
        (folder / f"{number}.sgf").write_text(GAMES[number - 1])
        assert len(list(read_games([folder]))) == number


@pytest.mark.parametrize("suffix", ["games", "json"])
@pytest.mark.parametrize("keep", [0, 20, -1])
def test_a_damaged_cache_is_made_anew(tmp_path, cache, suffix, keep):
    path = write_zip(tmp_path / "a.zip", *GAMES)
    expected = describe(read_games([path]))
    (packed,) = cache.glob(f"*.{suffix}")
    data = packed.read_bytes()
    packed.write_bytes(data[:keep])
    assert describe(read_games([path])) == expected
    assert packed.read_bytes() == data


def test_reading_half_of_an_archive_packs_nothing(tmp_path, cache):
    path = write_zip(tmp_path / "a.zip", *GAMES)
    games = read_games([path])
    next(games)
    games.close()
    assert not cache.exists()


def test_without_a_cache_folder_the_archive_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    path = write_zip(tmp_path / "a.zip", *GAMES)
    assert len(list(read_games([path]))) == len(list(read_games([path]))) == 2


def test_on_a_full_disk_the_archive_is_read_and_nothing_left_behind(tmp_path, cache, monkeypatch):
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(archive.RecordWriter, "write", Mock(side_effect=full))
    path = write_zip(tmp_path / "a.zip", *GAMES)
    assert len(list(read_games([path]))) == 2 and not list(cache.iterdir())


def test_small_archives_are_not_packed(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(archive, "MIN_BYTES", 1 << 20)
    assert len(list(read_games([write_zip(tmp_path / "a.zip", *GAMES)]))) == 2
    assert not cache.exists()


def test_strict_reading_names_the_game_although_it_is_packed(tmp_path):
    path = write_zip(tmp_path / "a.zip", *GAMES, "(;SZ[9])")
    assert len(list(read_games([path]))) == 3
    with pytest.raises(ValueError, match="a.sgf game 3: no moves"):
        list(read_games([path], strict=True))


def play_close(rng, num_moves: int = 12, size: int = 5, **fields) -> GameRecord:
    """Make a game of people with one idea: a move next to the last one, if there is room."""
    board, moves = Board(size, RULES), [size * size // 2]
    board.play(moves[0])
    row, col = np.divmod(np.arange(size * size), size)
    while len(moves) < num_moves:
        legal = board.legal_moves()[:-1]
        distance = abs(row - row[moves[-1]]) + abs(col - col[moves[-1]])
        close = legal & (distance == 1)
        moves.append(int(rng.choice(np.flatnonzero(close if close.any() else legal))))
        board.play(moves[-1])
    return GameRecord(size, RULES, np.array(moves, np.int16), **fields)


def write_games(path: Path, games: list[GameRecord]) -> Path:
    return write_zip(path, *map(format_sgf, games))


def turn(game: GameRecord, symmetry: int) -> GameRecord:
    table, setup = symmetry_table(5)[symmetry], None
    if game.setup is not None:
        setup = np.empty_like(game.setup)
        setup[table[:-1]] = game.setup
    return GameRecord(5, RULES, table[game.moves], game.to_play, setup)


def test_a_game_is_the_same_however_it_is_turned(rng):
    setup = np.zeros(25, np.int8)
    setup[[0, 7]] = BLACK, WHITE
    moves = np.array([3, 25, 14], np.int16)
    games = [GameRecord(5, RULES, moves), GameRecord(5, RULES, moves, WHITE)]
    games += [GameRecord(5, RULES, moves, setup=setup), GameRecord(5, RULES, moves[::-1])]
    games += [play_close(rng) for _ in range(20)]
    keys = [game_key(game) for game in games]
    assert len(set(keys)) == len(games)
    for symmetry in range(NUM_SYMMETRIES):
        assert [game_key(turn(game, symmetry)) for game in games] == keys


def test_passes_at_the_end_make_no_other_game(rng):
    game = play_close(rng)
    passed = GameRecord(5, RULES, np.append(game.moves, [25, 25]).astype(np.int16))
    assert game_key(game) == game_key(passed)


def test_keys_never_change():
    """They decide for good which games are held out from networks that ship."""
    assert game_key(GameRecord(9, RULES, np.arange(40, dtype=np.int16))) == 6829622820401738557


def test_held_out_games_do_not_depend_on_the_other_games(rng, tmp_path):
    games = [play_close(rng) for _ in range(300)]
    everything = load_human_games([write_games(tmp_path / "a.zip", games)], holdout_frac=0.2)
    half = load_human_games([write_games(tmp_path / "b.zip", games[::-2])], holdout_frac=0.2)
    keys = {game_key(game) for game in everything.held_out}
    assert {game_key(game) for game in half.held_out} <= keys
    assert not keys & {game_key(game) for game in everything.training + half.training}
    assert 0.1 < len(everything.held_out) / 300 < 0.3


def test_what_is_left_out_is_counted(rng, tmp_path):
    ranks = {"black_rank": "9p", "white_rank": "2400"}
    games = [play_close(rng, **ranks)] * 2 + [play_close(rng, 4, **ranks), play_close(rng)]
    games += [play_close(rng, black_rank="9p", white_rank="1d")]
    games += [GameRecord(9, RULES, np.arange(20, dtype=np.int16), **ranks)]
    path = write_games(tmp_path / "a.zip", games)
    found = load_human_games([path], sizes=[5], min_rank="3d")
    assert len(found.training) + len(found.held_out) == 1
    reasons = ("duplicate", "under 5 moves", "rank unknown", "rank too low", "not 5x5")
    assert found.left_out == Counter(reasons)
    table = format_left_out(found)
    assert all(f"        1  left out: {reason}" in table for reason in reasons)


def test_the_lowest_rank_may_be_a_rating(rng, tmp_path):
    weaker = ("2349", "2350", "3d", "4d", "9p")
    games = [play_close(rng, black_rank="9p", white_rank=rank) for rank in weaker]
    found = load_human_games([write_games(tmp_path / "a.zip", games)], min_rank="2350")
    kept = {game.white_rank for game in found.training + found.held_out}
    assert kept == {"2350", "4d", "9p"} and found.left_out == {"rank too low": 2}


@pytest.mark.parametrize(
    ("text", "rank"),
    [("1k", 0), ("30k", -29), ("1d", 1), ("9d", 9), ("1p", 10), ("9p", 18), ("9 dan pro", 18)]
    + [("九段", 9), ("初段", 1), ("5 kyu", -4), ("6d?", 6), ("2350", 3.5), ("1500?", -5)]
    + [("", None), ("NR", None), ("?", None), ("strong", None)],
)
def test_ranks_are_read(text, rank):
    assert parse_rank(text) == rank


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is missing")
def test_real_archives_are_read_whole():
    found = load_human_games([DATA / "13x13-human.zip", DATA / "13x13-bots.zip"], sizes=[13])
    assert len(found.training) + len(found.held_out) == 103 and not found.left_out
    famous = load_human_games([DATA / "alphago-lee-sedol"], holdout_frac=1.0)
    assert sorted(len(game.moves) for game in famous.held_out) == [176, 180, 186, 211, 280]
