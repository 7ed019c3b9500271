"""Packed archives: what comes from the cache is what the archive holds, whatever happens to it."""

import os
import zipfile

import pytest

from minigo import games as archive
from minigo.games import read_games
from minigo.sgf import Skipped, load_games

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


def refuse(*arguments):
    raise AssertionError("the archive was read again")


def describe(games) -> list:
    return [
        game.reason
        if isinstance(game, Skipped)
        else (game.size, game.rules, game.moves.tolist(), game.result, game.score)
        + (game.setup.tolist(), game.to_play, game.black_rank)
        for game in games
    ]


def test_an_archive_is_read_once(tmp_path, monkeypatch):
    path = write_zip(tmp_path / "a.zip", *GAMES, "(;SZ[9])", "(;SZ[9])", "(;SZ[30];B[aa])")
    expected = describe(load_games([path]))
    assert describe(read_games([path])) == expected
    monkeypatch.setattr(archive, "load_games", refuse)
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
    (folder / "a.sgf").write_text(GAMES[0])
    assert len(list(read_games([folder]))) == 1
    (folder / "b.sgf").write_text(GAMES[1])
    assert len(list(read_games([folder]))) == 2


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
    assert not list(cache.iterdir())


def test_without_a_cache_folder_the_archive_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    path = write_zip(tmp_path / "a.zip", *GAMES)
    assert len(list(read_games([path]))) == len(list(read_games([path]))) == 2


def test_small_archives_are_not_packed(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(archive, "MIN_BYTES", 1 << 20)
    assert len(list(read_games([write_zip(tmp_path / "a.zip", *GAMES)]))) == 2
    assert not cache.exists()


def test_strict_reading_names_the_game_although_it_is_packed(tmp_path):
    path = write_zip(tmp_path / "a.zip", *GAMES, "(;SZ[9])")
    assert len(list(read_games([path]))) == 3
    with pytest.raises(ValueError, match="a.sgf game 3: no moves"):
        list(read_games([path], strict=True))


def test_a_missing_path_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="nowhere: no such file or folder"):
        list(read_games([tmp_path / "nowhere"]))
