"""A slow, obvious referee for the rules of Go; it caches nothing and shares nothing with minigo.

A position is `bytes`, one per point, row by row from the top-left corner. Moves and colours are
numbered as in minigo, but nothing of it is imported.
"""

from copy import deepcopy
from functools import cache, lru_cache

EMPTY, BLACK, WHITE = 0, 1, 2


@cache
def neighbors(size: int) -> list[tuple[int, ...]]:
    """List the points next to each point."""
    steps = ((-1, 0), (1, 0), (0, -1), (0, 1))
    return [
        tuple(
            (row + up) * size + col + right
            for up, right in steps
            if 0 <= row + up < size and 0 <= col + right < size
        )
        for row in range(size)
        for col in range(size)
    ]


def flood(stones: bytes, start: int, size: int, colors: tuple) -> tuple[set[int], set[int]]:
    """Return (points connected to `start` through points of these colours, the points around)."""
    near = neighbors(size)
    inside, border, todo = {start}, set(), [start]
    while todo:
        for point in near[todo.pop()]:
            if stones[point] not in colors:
                border.add(point)
            elif point not in inside:
                inside.add(point)
                todo.append(point)
    return inside, border


def find_chain(stones: bytes, start: int, size: int) -> tuple[set[int], set[int]]:
    """Return (the chain or empty region at `start`, the points around it)."""
    return flood(stones, start, size, (stones[start],))


@lru_cache(maxsize=1)
def find_chains(stones: bytes, size: int) -> list[tuple[set[int], set[int]]]:
    """List (points, points around them) of every chain and every empty region."""
    chains, seen = [], set()
    for start in range(size * size):
        if start not in seen:
            chains.append(find_chain(stones, start, size))
            seen |= chains[-1][0]
    return chains


def count_liberties(stones: bytes, size: int) -> list[int]:
    """Count the liberties of the chain at each point; 0 at empty points."""
    counts = [0] * (size * size)
    for chain, border in find_chains(stones, size):
        if stones[min(chain)] != EMPTY:
            liberties = sum(stones[point] == EMPTY for point in border)
            for point in chain:
                counts[point] = liberties
    return counts


def has_liberty(stones: bytes, start: int, size: int) -> bool:
    """Is an empty point next to the chain at `start`?"""
    near, color = neighbors(size), stones[start]
    chain, todo = {start}, [start]
    while todo:
        for point in near[todo.pop()]:
            if stones[point] == EMPTY:
                return True
            if stones[point] == color and point not in chain:
                chain.add(point)
                todo.append(point)
    return False


def is_possible(stones: bytes, size: int) -> bool:
    """Has every chain a liberty?"""
    return all(has_liberty(stones, p, size) for p in range(size * size) if stones[p] != EMPTY)


def put_stone(stones: bytes, move: int, color: int, size: int) -> tuple[bytes, int, int]:
    """Return (position after the move, opponent's stones captured, own stones captured)."""
    after = bytearray(stones)
    after[move] = color
    captured = 0
    for point in neighbors(size)[move]:
        if after[point] == 3 - color and not has_liberty(after, point, size):
            captured += take_chain(after, point, size)
    own = 0 if has_liberty(after, move, size) else take_chain(after, move, size)
    return bytes(after), captured, own


def take_chain(stones: bytearray, start: int, size: int) -> int:
    """Take the chain at `start` off the board and return its number of stones."""
    chain = find_chain(stones, start, size)[0]
    for point in chain:
        stones[point] = EMPTY
    return len(chain)


def count_area(stones: bytes, size: int) -> bytes:
    """Return the owner of each point: its stone, or the only colour that its region touches."""
    area = bytearray(stones)
    for region, border in find_chains(stones, size):
        colors = {stones[point] for point in border}
        if stones[min(region)] == EMPTY and len(colors) == 1:
            for point in region:
                area[point] = min(colors)
    return bytes(area)


def find_pass_alive(stones: bytes, size: int, color: int, suicide: bool) -> tuple[set, set]:
    """Return (the points of pass-alive chains, the points of their territory).

    Benson 1976, "Life in the game of Go": a chain is alive if it keeps two vital regions. Benson
    forbids suicide. Where it is allowed, the opponent can empty a region by suicide, so all of its
    points must be liberties, not only those that are empty now.
    """
    size_squared = range(size * size)
    chains = {frozenset(find_chain(stones, p, size)[0]) for p in size_squared if stones[p] == color}
    regions = {  # the rest of the board, in connected pieces
        frozenset(flood(stones, p, size, (EMPTY, 3 - color))[0])
        for p in size_squared
        if stones[p] != color
    }
    near = neighbors(size)

    def touches(points, point):
        return any(other in points for other in near[point])

    def is_filled(region, points):  # is each point that could be empty next to `points`?
        could_be_empty = [p for p in region if suicide or stones[p] == EMPTY]
        return all(touches(points, p) for p in could_be_empty)

    def encloses(chain, region):
        return any(touches(region, p) for p in chain)

    alive, vital = set(chains), set(regions)
    while True:
        keep = {c for c in alive if sum(encloses(c, r) and is_filled(r, c) for r in vital) >= 2}
        vital = {r for r in vital if all(c in keep for c in chains if encloses(c, r))}
        if keep == alive:
            break
        alive = keep
    living = set().union(*alive)
    territory = set()
    for region in regions:
        around = [c for c in chains if encloses(c, region)]
        if around and all(c in alive for c in around) and is_filled(region, living):
            territory |= region
    return living, territory


def find_uncapturable(stones: bytes, size: int, color: int, suicide: bool) -> set[int]:
    """Return the stones of `color` that no moves of the opponent alone can capture.

    Tries everything, so it is for tiny boards. What `find_pass_alive` must find by thinking.
    """
    seen, todo = {stones}, [stones]
    safe = {p for p in range(size * size) if stones[p] == color}
    while todo and safe:
        position = todo.pop()
        safe = {p for p in safe if position[p] == color}
        for move in range(size * size):
            if position[move] == EMPTY:
                after, _, own = put_stone(position, move, 3 - color, size)
                if (suicide or not own) and after not in seen:
                    seen.add(after)
                    todo.append(after)
    return safe


class Referee:
    """A game: stones, player to move, and everything that has been on the board before."""

    def __init__(self, size, ko="positional", suicide=True, stones=None, to_play=BLACK):
        self.size, self.ko, self.suicide = size, ko, suicide
        self.stones = bytes(size * size) if stones is None else bytes(stones)
        self.to_play = to_play
        self.prisoners = [0, 0]  # black stones, white stones
        self.positions = {self.stones}  # all that have been
        self.situations = set()  # all in which somebody has moved or passed, and who
        self.before_last = None  # position before the last move, None if that was a pass
        self.last_color = EMPTY

    def judge(self, move: int, color: int = EMPTY) -> str:
        """Return "legal", or what forbids the move: "occupied", "suicide" or "ko"."""
        color = color or self.to_play
        if move == self.size * self.size:
            return "legal"
        if self.stones[move] != EMPTY:
            return "occupied"
        after, captured, own = put_stone(self.stones, move, color, self.size)
        if own and not self.suicide:
            return "suicide"
        return "ko" if self.is_repeated(after, captured, color) else "legal"

    def is_legal(self, move: int, color: int = EMPTY) -> bool:
        return self.judge(move, color) == "legal"

    def is_repeated(self, after: bytes, captured: int, color: int) -> bool:
        """Would `color` break the ko rule by leaving the position `after`?"""
        if self.ko == "positional":
            return after in self.positions
        if self.ko == "situational":
            return (after, 3 - color) in self.situations
        # Simple ko: taking back at once, not one's own stone falling into the same hole.
        return captured > 0 and after == self.before_last and self.last_color != color

    def play(self, move: int, color: int = EMPTY) -> None:
        """Play a legal move, `size * size` to pass."""
        color = color or self.to_play
        self.situations.add((self.stones, color))
        self.before_last = None
        if move < self.size * self.size:
            self.before_last = self.stones
            self.stones, captured, own = put_stone(self.stones, move, color, self.size)
            self.prisoners[2 - color] += captured
            self.prisoners[color - 1] += own
        self.last_color, self.to_play = color, 3 - color
        self.positions.add(self.stones)

    def copy(self) -> "Referee":
        return deepcopy(self)

    def verdicts(self) -> list[str]:
        """Judge every move of the player to move, pass last."""
        return [self.judge(move) for move in range(self.size * self.size + 1)]

    def pass_alive(self) -> bytes:
        """Return the owner of each pass-alive stone and of its territory."""
        owner = bytearray(self.size * self.size)
        for color in (BLACK, WHITE):
            for points in find_pass_alive(self.stones, self.size, color, self.suicide):
                for point in points:
                    owner[point] = color
        return bytes(owner)
