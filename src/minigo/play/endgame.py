"""The end of a game: dead stones, seki, territory, the count, from a board and who will own it.

`owner` is (N * N,): +1 = a point that will be Black's, -1 = White's. Leaves out who says so.
"""

from collections.abc import Iterable

import numpy as np

from .._board import Board
from ..coords import BLACK, EMPTY, WHITE, signs_of

SETTLED_OWNERSHIP = 0.5  # a point or chain that is owned more than this is settled
EYES_POINTS = 4  # a territory of so many points has room for two eyes


def counts_all(board: Board) -> bool:
    """Do the rules count every stone on the board as alive, as Tromp-Taylor does?"""
    return board.rules.scoring == "area" and not board.rules.friendly_pass


def find_chains(board: Board) -> list[list[int]]:
    """Return the points of every chain."""
    return sorted(_regions(board.stones() == BLACK) + _regions(board.stones() == WHITE))


def dead_stones(board: Board, owner: np.ndarray) -> list[int]:
    """Return the stones of chains that are the opponent's, by Benson's rule, else by the owner."""
    sides, alive = signs_of(board.stones().ravel()), signs_of(board.pass_alive().ravel())
    owned = sides * np.where(alive, alive, owner)
    return [stone for chain in find_chains(board) if owned[chain].mean() < 0 for stone in chain]


def is_settled(board: Board, owner: np.ndarray, dead: list[int]) -> bool:
    """Is every point somebody's, as the stones without the dead ones show, and the owner agrees?"""
    area = signs_of(take_off(board, dead).area().ravel())
    return bool((area * owner > SETTLED_OWNERSHIP).all())


def is_late(board: Board) -> bool:
    """Are there so many stones that the board may be finished?"""
    return board.stones().astype(bool).mean() > 1 / 3


def is_closed(board: Board) -> bool:
    """Is it late, and no region disputed any more, but what may be dame or liberties of a seki?"""
    return is_late(board) and all(len(r) <= EYES_POINTS for r in _regions(board.area() == EMPTY))


def find_seki(board: Board, dead: list[int]) -> set[int]:
    """Return the points of seki, stones and eyes, once the dead stones are off the board."""
    board = take_off(board, dead)
    area, alive = board.area(), board.pass_alive().ravel()
    empty, weak, seki = _regions(board.stones() == EMPTY), [], set()
    for group in _regions(area == BLACK) + _regions(area == WHITE):
        eyes = [len(points) for points in empty if points[0] in group]
        if len(eyes) < 2 and sum(eyes) < EYES_POINTS and not alive[group].any():
            weak.append(group)  # no two eyes: a territory of EYES_POINTS, or two of any size
    for neutral in _regions(area == EMPTY):
        around = neighbours(neutral, board.size)
        touching = [group for group in weak if not around.isdisjoint(group)]
        if len({area.flat[group[0]] for group in touching}) == 2:  # of both colours
            seki.update(*touching)
    return seki


def statuses(board: Board, owner: np.ndarray) -> dict[str, list[list[int]]]:
    """Return the chains that are "alive", in "seki", and "dead"."""
    dead, chains = dead_stones(board, owner), {"alive": [], "seki": [], "dead": []}
    seki = find_seki(board, dead)
    for chain in find_chains(board):
        status = "dead" if chain[0] in dead else "seki" if chain[0] in seki else "alive"
        chains[status].append(chain)
    return chains


def score(board: Board, dead: list[int]) -> float:
    """Count the board as the rules say, Black minus White, dead stones taken off."""
    cleaned = take_off(board, dead)
    if board.rules.scoring == "area":
        return cleaned.score()
    territory = signs_of(cleaned.area() * (cleaned.stones() == EMPTY)).ravel()
    territory[list(find_seki(board, dead))] = 0  # an eye in a seki is no territory
    lost = np.subtract(*board.prisoners) + signs_of(board.stones().ravel()[dead]).sum()
    return int(territory.sum() - lost) - board.rules.komi


def take_off(board: Board, dead: list[int]) -> Board:
    """Return a board that begins with the stones of another, without the dead ones."""
    stones, start = board.stones().ravel(), Board(board.size, board.rules)
    stones[dead] = EMPTY
    start.place(*(np.flatnonzero(stones == color).tolist() for color in (BLACK, WHITE)))
    return start


def neighbours(points: Iterable[int], size: int) -> set[int]:
    """Return the points next to any of some."""
    steps = ((-1, 0), (0, -1), (0, 1), (1, 0))
    near = {(p // size + down, p % size + right) for p in points for down, right in steps}
    return {r * size + c for r, c in near if 0 <= r < size and 0 <= c < size}


def _regions(mask: np.ndarray) -> list[list[int]]:
    """Return the connected points of an (N, N) mask, region by region."""
    unseen, regions = set(np.flatnonzero(mask).tolist()), []
    while unseen:
        edge = region = {min(unseen)}
        while edge:
            edge = neighbours(edge, len(mask)) & unseen - region
            region = region | edge
        unseen -= region
        regions.append(sorted(region))
    return regions
