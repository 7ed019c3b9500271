"""The end of a game: dead stones, seki, territory, the count, from a board and who will own it.

`owner` is (N * N,): +1 = a point that will be Black's, -1 = White's. Leaves out who says so.
"""

import math

import numpy as np
from msgspec.structs import replace

from .._board import Board
from ..config import RULES
from ..coords import BLACK, EMPTY, WHITE, signs_of

SETTLED_OWNERSHIP = 0.5  # a point or chain that is owned more than this is settled
EYES_POINTS = 4  # a territory of so many points has room for two eyes


def counts_all(board: Board) -> bool:
    """Do the rules count every stone on the board as alive, as Tromp-Taylor does?"""
    return board.rules == replace(RULES["tromp-taylor"], komi=board.rules.komi)


def find_chains(board: Board) -> list[list[int]]:
    """Return the points of every chain."""
    stones = board.stones().ravel()
    return [region for region in _regions(stones) if stones[region[0]] != EMPTY]


def dead_stones(board: Board, owner: np.ndarray) -> list[int]:
    """Return the dead stones: by Benson's rule, else by the owner.

    A chain is dead if its points are rather the opponent's; those of a seki aren't.
    """
    sides, alive = signs_of(board.stones().ravel()), signs_of(board.pass_alive().ravel())
    dead = []
    for chain in find_chains(board):
        owned = alive[chain[0]] or owner[chain].mean()
        if sides[chain[0]] * owned < 0:
            dead += chain
    return dead


def is_certain(board: Board, owner: np.ndarray) -> bool:
    """Is it clear of every chain whether it is dead?"""
    return all(abs(owner[chain].mean()) > SETTLED_OWNERSHIP for chain in find_chains(board))


def is_settled(board: Board, owner: np.ndarray, dead: list[int]) -> bool:
    """Is every point somebody's, as the stones without the dead ones show, and the owner agrees?"""
    area = signs_of(take_off(board, dead).area().ravel())
    return bool((area * owner > SETTLED_OWNERSHIP).all())


def find_seki(board: Board, dead: list[int]) -> set[int]:
    """Return the points of seki, stones and eyes: two colours with a neutral point in common.

    Neither of them has two eyes: a territory of EYES_POINTS, or two of any size. The dead
    stones are taken off first.
    """
    board = take_off(board, dead)
    stones, area, alive = (x.ravel() for x in (board.stones(), board.area(), board.pass_alive()))
    empty = [region for region in _regions(stones) if stones[region[0]] == EMPTY]
    weak, seki = [], set()
    for group in (region for region in _regions(area) if area[region[0]] != EMPTY):
        eyes = [len(region) for region in empty if region[0] in group]
        is_safe = len(eyes) > 1 or sum(eyes) >= EYES_POINTS or alive[group].any()
        weak += [] if is_safe else [group]
    for neutral in (region for region in empty if area[region[0]] == EMPTY):
        around = {near for move in neutral for near in neighbours(move, board.size)}
        touching = [group for group in weak if not around.isdisjoint(group)]
        if len({area[group[0]] for group in touching}) == 2:
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
    territory = signs_of(cleaned.area().ravel())
    territory[cleaned.stones().ravel() != EMPTY] = 0
    territory[list(find_seki(board, dead))] = 0  # an eye in a seki is no territory
    black_lost, white_lost = board.prisoners
    lost = black_lost - white_lost + int(signs_of(board.stones().ravel()[dead]).sum())
    return int(territory.sum()) - lost - board.rules.komi


def take_off(board: Board, dead: list[int]) -> Board:
    """Return a board that begins with the stones of another, without the dead ones."""
    stones, start = board.stones().ravel(), Board(board.size, board.rules)
    stones[dead] = EMPTY
    start.place(*(np.flatnonzero(stones == color).tolist() for color in (BLACK, WHITE)))
    return start


def neighbours(move: int, size: int) -> list[int]:
    """Return the points next to a point."""
    row, col = divmod(move, size)
    near = ((row - 1, col), (row, col - 1), (row, col + 1), (row + 1, col))
    return [r * size + c for r, c in near if 0 <= r < size and 0 <= c < size]


def _regions(values: np.ndarray) -> list[list[int]]:
    """Return the connected points of one value, region by region; values: (N * N,)."""
    size, unseen, regions = math.isqrt(len(values)), set(range(len(values))), []
    while unseen:
        region = [unseen.pop()]
        for move in region:  # grows as it goes
            near = {n for n in neighbours(move, size) if values[n] == values[move]} & unseen
            unseen -= near
            region += near
        regions.append(sorted(region))
    return sorted(regions)
