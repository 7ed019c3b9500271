"""Random games to the end: a baseline of speed, and an owner of points where no network tells one.

The compiled half is `_rollouts.pyx`.
"""

import numpy as np

from ._board import Board

def random_playouts(start: Board, num_playouts: int, seed: int) -> tuple[int, np.ndarray]:
    """Play random games from a position; return (moves in all, (N, N) float64 ownership).

    Ownership is a mean, +1 = always Black's in the end, -1 = always White's.
    A move is chosen uniformly among the legal ones that don't fill an eye of the player's own;
    without one, he passes. Two passes end a game, and so do 3 N * N moves.
    """
