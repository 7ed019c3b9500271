"""The rules of Go: what a position is, what a move does to it, who owns what at the end.

The compiled half is `_board.pyx`. A `Board` is a position with its history and komi.
"""

from collections.abc import Iterable

import numpy as np

from .config import Rules

NUM_PLANES: int
PLANE_NAMES: tuple[str, ...]

class IllegalMove(ValueError):
    """A move that the rules forbid; the board is unchanged."""

class Board:
    """A position of a game: stones, player to move, every earlier position, and the rules.

    Moves after the end are accepted (`is_over` tells), so that a GTP client can go on.
    """

    def __init__(self, size: int = 9, rules: Rules = ..., to_play: int = 1) -> None: ...
    @classmethod
    def from_diagram(cls, text: str, to_play: int = 1, rules: Rules = ...) -> Board:
        """Read rows of `X` (Black), `O` (White) and `.`; stones without liberties are refused.

        What `str(board)` writes, without labels; the size is the number of rows.
        """

    @property
    def size(self) -> int: ...
    @property
    def rules(self) -> Rules:
        """Can be assigned; the history stays."""
    @rules.setter
    def rules(self, rules: Rules) -> None: ...
    @property
    def to_play(self) -> int:
        """The colour to move, `BLACK` or `WHITE`. Can be assigned: a ko is then forgotten."""
    @to_play.setter
    def to_play(self, color: int) -> None: ...
    @property
    def num_moves(self) -> int:
        """Moves played, passes included, since the last `place` or the empty board."""
    @property
    def last_move(self) -> int:
        """The last move, or -1 at the beginning."""
    @property
    def num_passes(self) -> int:
        """Passes in a row at the end of the game so far."""
    @property
    def is_over(self) -> bool:
        """The last two moves were passes."""
    @property
    def ko(self) -> int:
        """The point that simple ko forbids to the player to move, or -1."""
    @property
    def hash(self) -> int:
        """Zobrist hash of the stones (64 bits): not of the player, not of the history."""
    @property
    def prisoners(self) -> tuple[int, int]:
        """Stones taken off the board so far: (black stones, white stones)."""
    def copy(self) -> Board: ...
    def place(self, black: Iterable[int], white: Iterable[int] = ()) -> None:
        """Put set-up stones on empty points, and start the history from there.

        Raises ValueError, leaving the board as it was, where a point is taken or a chain of the
        result has no liberty.
        """

    def play(self, move: int, color: int = 0) -> None:
        """Play `move` for `color`, by default the player to move. Raises IllegalMove."""

    def play_all(self, moves: Iterable[int]) -> None:
        """Play several moves, the colours alternating. Raises IllegalMove at the first bad one."""

    def is_legal(self, move: int, color: int = 0) -> bool: ...
    def legal_moves(self) -> np.ndarray:
        """Return (A,) bool for the player to move; pass is always legal."""

    def stones(self) -> np.ndarray:
        """Return (N, N) int8 of EMPTY, BLACK, WHITE."""

    def chain(self, move: int) -> list[int]:
        """Return the points of the chain that `move` is a stone of, in ascending order."""

    def liberties(self, move: int) -> int:
        """Count the liberties of the chain at a point, exactly."""

    def area(self) -> np.ndarray:
        """Return (N, N) int8: BLACK or WHITE where Tromp-Taylor counts a point, else EMPTY."""

    def score(self) -> float:
        """Black's area minus White's, minus komi: > 0 means that Black has won."""

    def pass_alive(self) -> np.ndarray:
        """Return (N, N) int8: the owner of each pass-alive stone and of its territory, else EMPTY.

        Alive even if the owner always passes (Benson 1976). Territory: the points, whatever lies
        on them, of regions that a colour's pass-alive chains enclose and in which the opponent
        can't live (every empty point next to such a chain).
        """

    def write_planes(self, planes: np.ndarray, symmetry: int = 0) -> None:
        """Write the network's input for the player to move into (NUM_PLANES, N, N) float32.

        PLANE_NAMES says what each plane holds; `symmetry` is a row of `symmetry_table`.
        """

    def check(self) -> None:
        """Recompute every cached field and raise AssertionError where one is wrong."""

def random_playouts(start: Board, num_playouts: int, seed: int) -> tuple[int, np.ndarray]:
    """Play random games from a position; return (moves in all, (N, N) float64 ownership).

    Ownership is a mean, +1 = always Black's in the end, -1 = always White's.
    A move is chosen uniformly among the legal ones that don't fill an eye of the player's own;
    without one, he passes. Two passes end a game, and so do 3 N * N moves.
    """
