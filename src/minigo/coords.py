"""Colours, moves and their text forms, and the eight symmetries; nothing that knows a rule.

A move is an int, `row * N + col` from the top-left corner; N * N is pass: there are A = N * N + 1.
"""

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

EMPTY, BLACK, WHITE, WALL = 0, 1, 2, 3
MIN_SIZE, MAX_SIZE = 2, 19
COLUMNS = "ABCDEFGHJKLMNOPQRST"  # GTP leaves out I
NUM_SYMMETRIES = 8


def check_size(size: int) -> int:
    """Return `size`, or raise ValueError if no board has it."""
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError(f"board size {size} is not between {MIN_SIZE} and {MAX_SIZE}")
    return size


def sign_of(color: int) -> int:
    """Return +1 for Black, -1 for White."""
    return 1 if color == BLACK else -1


def signs_of(colors: "np.ndarray") -> "np.ndarray":
    """Return int8 of the same shape: +1 where Black is, -1 where White is, else 0."""
    return (colors == BLACK).astype("int8") - (colors == WHITE).astype("int8")


def parse_color(text: str) -> int:
    """Read "b", "W", "black" or "white" in any case."""
    if text.lower() not in ("b", "black", "w", "white"):
        raise ValueError(f"{text!r} is not a colour")
    return BLACK if text[0] in "bB" else WHITE


def format_color(color: int) -> str:
    """Write a colour as SGF and GTP do: "B" or "W"."""
    return "?BW"[color]


def parse_vertex(text: str, size: int) -> int:
    """Read a GTP vertex such as "C3" or "pass" as a move."""
    if text.lower() == "pass":
        return size * size
    col, row = COLUMNS.find(text[:1].upper()), text[1:]
    if not (0 <= col < size and row.isascii() and row.isdigit() and 1 <= int(row) <= size):
        raise ValueError(f"{text!r} is not a vertex of a {size}x{size} board")
    return (size - int(row)) * size + col


def format_vertex(move: int, size: int) -> str:
    """Write a move as a GTP vertex: "C3" or "pass"."""
    row, col = divmod(move, size)
    return "pass" if row == size else f"{COLUMNS[col]}{size - row}"


def format_point(move: int, size: int) -> str:
    """Write a move as an SGF point: "cc", or "" for pass."""
    row, col = divmod(move, size)
    return "" if row == size else chr(ord("a") + col) + chr(ord("a") + row)


@lru_cache
def symmetry_table(size: int) -> "np.ndarray":
    """Return (8, A) int16: where each of the eight symmetries of the square moves every move.

    Row 0 is the identity and pass stays pass. Symmetry s mirrors the columns if s & 1, the rows
    if s & 2, and then swaps rows and columns if s & 4.
    """
    import numpy as np  # here, so that `minigo gtp` says its name in half the time

    points = np.arange(size * size).reshape(size, size)
    squares = [square[::i, ::j] for square in (points, points.T) for i in (1, -1) for j in (1, -1)]
    table = np.array([np.append(square, size * size) for square in squares], dtype=np.int16)
    table.flags.writeable = False  # it is shared
    return table
