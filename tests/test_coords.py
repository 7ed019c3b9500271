"""Moves and their text forms, and the eight symmetries."""

import numpy as np
import pytest

from minigo import coords
from minigo.coords import BLACK, WHITE, format_point, format_vertex, parse_color, parse_vertex

SIZES = range(coords.MIN_SIZE, coords.MAX_SIZE + 1)


@pytest.mark.parametrize("size", SIZES)
def test_every_move_has_its_own_text_and_is_read_back(size):
    moves = range(size * size + 1)
    assert [parse_vertex(format_vertex(move, size), size) for move in moves] == list(moves)
    assert len({format_point(move, size) for move in moves}) == size * size + 1


@pytest.mark.parametrize(
    ("size", "vertex", "point", "move"),
    [(19, "A19", "aa", 0), (19, "T19", "sa", 18), (19, "A1", "as", 342), (19, "T1", "ss", 360)]
    + [(19, "Q16", "pd", 72), (19, "J1", "is", 350), (9, "E5", "ee", 40), (9, "pass", "", 81)]
    + [(5, "C4", "cb", 7), (2, "B1", "bb", 3)],
)
def test_known_moves(size, vertex, point, move):
    assert (format_vertex(move, size), format_point(move, size)) == (vertex, point)
    assert parse_vertex(vertex, size) == move


def test_vertices_in_any_case_and_old_passes():
    assert parse_vertex("q16", 19) == parse_vertex("Q16", 19)
    assert parse_vertex("PASS", 9) == parse_vertex("Pass", 9) == 81


@pytest.mark.parametrize(
    "text",
    ["", "E", "5", "I5", "i5", "J10", "E0", "E-1", "E+1", "K5", "E5 ", "EE5", "é5", "E５", "E²"],
)
def test_bad_vertices_are_refused_and_named(text):
    with pytest.raises(ValueError, match="is not a vertex of a 9x9 board"):
        parse_vertex(text, 9)


def test_colors():
    assert [parse_color(text) for text in ("b", "B", "black", "Black")] == [BLACK] * 4
    assert [parse_color(text) for text in ("w", "W", "white", "WHITE")] == [WHITE] * 4
    assert (coords.format_color(BLACK), coords.format_color(WHITE)) == ("B", "W")
    for text in ("", "x", "bw", "blanc"):
        with pytest.raises(ValueError, match="is not a colour"):
            parse_color(text)


def test_sizes():
    assert [coords.check_size(size) for size in SIZES] == list(SIZES)
    for size in (-1, 0, 1, 20, 26):
        with pytest.raises(ValueError, match=f"size {size} "):
            coords.check_size(size)


@pytest.mark.parametrize("size", SIZES)
def test_symmetries_are_mirrors_and_a_swap_and_pass_stays(size, rng):
    image, table = rng.random((size, size)), coords.symmetry_table(size)
    assert table.shape == (8, size * size + 1) and table.dtype == np.int16
    assert (table[:, -1] == size * size).all()
    for symmetry, moved_to in enumerate(table):
        expected = image
        if symmetry & 1:
            expected = expected[:, ::-1]
        if symmetry & 2:
            expected = expected[::-1]
        if symmetry & 4:
            expected = expected.T
        moved = np.full(size * size, np.nan)
        moved[moved_to[:-1]] = image.ravel()
        assert (moved.reshape(size, size) == expected).all()
