"""The rules of Go over one plain struct, and the network's input. No search, no text but diagrams.

Bottom up: a stone and its chain (`put_stone`, `remove_chain`), on the structs of `_board.pxd`.
From the middle: a move (`legality`, `play_known`), then what stands at the end: `score_of`,
`mark_pass_alive`. Top down: `Board`, which checks, converts and calls.
"""

from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove, memset

import numpy as np

from .config import Rules
from .coords import check_size, format_vertex

cdef extern from *:
    int count_trailing_zeros "__builtin_ctzll"(uint64_t) noexcept nogil    # of GCC and Clang

cdef uint64_t ZOBRIST[3][MAX_POINTS]
cdef uint64_t WHITE_TO_PLAY     # mixed into a situational key
cdef short POINT_OF[20][MAX_MOVES]
cdef short MOVE_OF[20][MAX_POINTS]

KO_RULES = {"simple": SIMPLE, "positional": POSITIONAL, "situational": SITUATIONAL}

PLANE_NAMES = (     # by number, for the player to move
    "own stones", "opponent's stones",
    "own stones one move ago", "opponent's stones one move ago",
    "own stones two moves ago", "opponent's stones two moves ago",
    *(f"{whose} chains with {count}" for whose in ("own", "opponent's")
      for count in ("1 liberty", "2 liberties", "3 or more liberties")),
    "points that the ko rule forbids",
    "last move", "move before the last", "third last move", "fourth last move",
    "last move was a pass",
    "komi for the player to move, in tens of points",
    "ones",
)


class IllegalMove(ValueError):
    """A move that the rules forbid; the board is unchanged."""


cdef uint64_t split_mix(uint64_t* state) noexcept nogil:
    """Return the next number of the splitmix64 generator (Steele et al. 2014)."""
    state[0] += 0x9E3779B97F4A7C15u
    cdef uint64_t z = state[0]
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu
    return z ^ (z >> 31)


cdef int fill_tables() except -1:
    """Number the points and moves of every board size, and draw the numbers of the hash."""
    cdef uint64_t state = 2016
    cdef int size, move, color, point
    global WHITE_TO_PLAY
    memset(MOVE_OF, 0xFF, sizeof(MOVE_OF))
    for size in range(20):
        for move in range(size * size):
            POINT_OF[size][move] = (move // size + 1) * (size + 1) + move % size + 1
            MOVE_OF[size][POINT_OF[size][move]] = move
    for color in range(BLACK, WHITE + 1):
        for point in range(MAX_POINTS):
            ZOBRIST[color][point] = split_mix(&state)
    WHITE_TO_PLAY = split_mix(&state)
    return 0


fill_tables()


cdef void* grow(void* array, size_t num_bytes) except NULL nogil:
    """Return an array from malloc with another size, and what it holds."""
    cdef void* grown = realloc(array, num_bytes)
    if grown == NULL:
        with gil:
            raise MemoryError
    return grown


cdef inline int reserve_keys(History* history, int num_keys) except -1 nogil:
    """Make room for so many keys, and some more."""
    if num_keys > history.capacity:
        history.keys = <uint64_t*>grow(history.keys, (2 * num_keys + 64) * sizeof(uint64_t))
        history.capacity = 2 * num_keys + 64
    return 0


cdef inline int append_key(History* history, uint64_t key) except -1 nogil:
    reserve_keys(history, history.count + 1)
    history.keys[history.count] = key
    history.count += 1
    return 0


cdef inline uint64_t position_key(uint64_t hash, int to_play) noexcept nogil:
    """Return the key of a position: its stones and who moves next."""
    return hash ^ WHITE_TO_PLAY if to_play == WHITE else hash


cdef inline int oldest_possible(const Position* pos) noexcept nogil:
    """Return the index of the first key that the next move could repeat.

    No position before the fresh stone has it, so none can come back while it stays; that is certain
    for a move only where it isn't in atari. Without this, random games are 10 to 17 % slower,
    and legal moves late in a game take 1.6 times as long on 9x9, 2.7 times on 19x19.
    """
    cdef const Point* fresh = &pos.points[pos.fresh]
    if fresh.color != pos.fresh_color or in_atari(&pos.points[fresh.chain]):
        return 0
    return pos.fresh_key


cdef bint repeats(
    const Position* pos, const History* history, uint64_t hash, int to_play
) noexcept nogil:
    """Tell whether superko forbids these stones: they were there before, the newest looked at first.

    Under situational superko only with the same player to move.
    """
    cdef uint64_t key = position_key(hash, to_play)
    cdef uint64_t other = key if pos.ko_rule == SITUATIONAL else key ^ WHITE_TO_PLAY
    cdef int i
    for i in range(history.count - 1, oldest_possible(pos) - 1, -1):
        if history.keys[i] == key or history.keys[i] == other:
            return True
    return False


cdef int copy_history(History* target, const History* source) except -1 nogil:
    reserve_keys(target, source.count)
    memcpy(target.keys, source.keys, source.count * sizeof(uint64_t))
    target.count = source.count
    return 0


cdef inline uint64_t liberty(uint64_t point) noexcept nogil:
    """Pack one, a point and its square into one number: bits 48, 28 and 0 up.

    Sums over the pseudo-liberties of a chain, at most 4 * 361 of them, stay in their fields.
    """
    return (<uint64_t>1 << 48) + (point << 28) + point * point


cdef inline bint in_atari(const Point* head) noexcept nogil:
    """Tell whether the chain with this head has exactly one liberty.

    Its pseudo-liberties are then all the same point: just where num * sum of squares = (sum)^2
    (Cauchy-Schwarz).
    """
    cdef uint64_t total = (head.liberties >> 28) & 0xFFFFF
    return (head.liberties >> 48) * (head.liberties & 0xFFFFFFF) == total * total


cdef int find_around(
    const Position* pos, int head, int colors, int limit, short* around
) noexcept nogil:
    """Write the points next to a chain whose colours are bits of `colors`, each once; stop at `limit`.

    Returns how many; with 1 << EMPTY those are the chain's liberties.
    """
    cdef uint64_t seen[WORDS]
    cdef int count = 0, stone = head, k, point
    memset(seen, 0, sizeof(seen))
    for _ in range(pos.points[head].num_stones):
        for k in range(4):
            point = stone + pos.offsets[k]
            if colors >> pos.points[point].color & 1 and not seen[point >> 6] >> (point & 63) & 1:
                seen[point >> 6] |= <uint64_t>1 << (point & 63)
                around[count] = point
                count += 1
                if count == limit:
                    return count
        stone = pos.points[stone].next
    return count


cdef void merge_chains(Position* pos, int a, int b) noexcept nogil:
    """Join the chains with heads `a` and `b` under the head of the larger one."""
    cdef Point* points = pos.points
    cdef int stone
    if points[a].num_stones < points[b].num_stones:
        a, b = b, a
    stone = b
    for _ in range(points[b].num_stones):
        points[stone].chain = a
        stone = points[stone].next
    points[a].next, points[b].next = points[b].next, points[a].next
    points[a].num_stones += points[b].num_stones
    points[a].liberties += points[b].liberties


cdef int remove_chain(Position* pos, int head) noexcept nogil:
    """Take a chain off the board and return its number of stones."""
    cdef Point* points = pos.points
    cdef Point* neighbor
    cdef int color = points[head].color, num_stones = points[head].num_stones
    cdef int stone = head, k
    cdef uint64_t* stones = pos.stones[pos.newest].sets[color - BLACK]
    for _ in range(num_stones):
        points[stone].color = EMPTY
        points[stone].chain = 0
        pos.hash ^= ZOBRIST[color][stone]
        stones[stone >> 6] &= ~(<uint64_t>1 << (stone & 63))
        for k in range(4):
            neighbor = &points[stone + pos.offsets[k]]
            neighbor.neighbors += 1 - (1 << 4 * color)
            points[neighbor.chain].liberties += liberty(stone)
        stone = points[stone].next
    pos.prisoners[color] += num_stones
    return num_stones


cdef int put_stone(Position* pos, int point, int color, int* taken) noexcept nogil:
    """Fill an empty point: the stone's own chain, its neighbours' liberties, hash and sets.

    taken: (4,) the heads of the opponent's chains that have no liberty left; returns how many.
    """
    cdef Point* points = pos.points
    cdef Point* stone = &points[point]
    cdef Point* neighbor
    cdef int[4] own
    cdef int k, num_own = 0, num_taken = 0
    cdef uint64_t liberties = 0
    stone.color = color
    stone.chain = stone.next = point
    stone.num_stones = 1
    stone.liberties = 0
    pos.hash ^= ZOBRIST[color][point]
    pos.stones[pos.newest].sets[color - BLACK][point >> 6] |= <uint64_t>1 << (point & 63)
    # No branches, since nobody could foresee them: a wrong guess costs more than all four.
    for k in range(4):
        neighbor = &points[point + pos.offsets[k]]
        neighbor.neighbors += (1 << 4 * color) - 1
        liberties += liberty(point + pos.offsets[k]) & -<uint64_t>(neighbor.color == EMPTY)
        points[neighbor.chain].liberties -= liberty(point)
        own[num_own] = taken[num_taken] = neighbor.chain
        num_own += neighbor.color == color
        num_taken += (neighbor.color == 3 - color) & (points[neighbor.chain].liberties == 0)
    for k in range(num_own):
        if points[own[k]].chain != stone.chain:
            merge_chains(pos, stone.chain, points[own[k]].chain)
    points[stone.chain].liberties += liberties
    return num_taken


cdef inline Legality legality(
    const Position* pos, const History* history, int point, int color
) noexcept nogil:
    """Say whether `color` may play at `point`, or which rule forbids it."""
    cdef const Point* points = pos.points
    cdef const Point* neighbor
    cdef int k
    cdef bint lives, captures = False, is_atari
    if points[point].color != EMPTY:
        return OCCUPIED
    # With a liberty it is no suicide and no simple ko; nor superko, where that colour has never been.
    lives = points[point].neighbors & 15
    if lives and (pos.ko_rule == SIMPLE or not points[point].held >> color & 1):
        return LEGAL
    if not lives:
        for k in range(4):
            neighbor = &points[point + pos.offsets[k]]
            is_atari = in_atari(&points[neighbor.chain])
            lives |= (neighbor.color == color) & (not is_atari)
            captures |= (neighbor.color == 3 - color) & is_atari
    if not (lives or captures or pos.suicide):
        return SUICIDE
    if pos.ko_rule == SIMPLE:
        return KO if point == pos.ko and color == pos.to_play else LEGAL
    # An earlier position can come back only with a stone where that colour has had one, and not while
    # the fresh stone of the last move stays; unless the stone takes itself off.
    if (lives or captures) and (
        not points[point].held >> color & 1 or oldest_possible(pos) >= history.count - 1
    ):
        return LEGAL
    if repeats(pos, history, hash_after(pos, point, color, not (lives or captures)), 3 - color):
        return KO
    return LEGAL


cdef uint64_t hash_after(const Position* pos, int point, int color, bint is_suicide) noexcept nogil:
    """Return the hash of the stones after a move that captures, or that is suicide, or neither."""
    cdef const Point* points = pos.points
    cdef uint64_t hash = pos.hash
    cdef int taken_color = color if is_suicide else 3 - color
    cdef int k, i, head, stone
    if not is_suicide:
        hash ^= ZOBRIST[color][point]
    for k in range(4):
        head = points[point + pos.offsets[k]].chain
        if points[point + pos.offsets[k]].color != taken_color or not in_atari(&points[head]):
            continue
        for i in range(k):
            if points[point + pos.offsets[i]].chain == head:
                break       # it is taken already
        else:
            stone = head
            for _ in range(points[head].num_stones):
                hash ^= ZOBRIST[taken_color][stone]
                stone = points[stone].next
    return hash


cdef void play_stone(Position* pos, int point) noexcept nogil:
    """Put a stone of the player to move on an empty point, captures and suicide included."""
    cdef Point* points = pos.points
    cdef int[4] taken
    cdef int color = pos.to_play, num_taken = put_stone(pos, point, color, taken), num_prisoners = 0, i
    for i in range(num_taken):
        num_prisoners += remove_chain(pos, taken[i])
    if points[points[point].chain].liberties == 0:
        remove_chain(pos, points[point].chain)
    elif num_prisoners == 1 and points[points[point].chain].num_stones == 1 and in_atari(&points[point]):
        pos.ko = taken[0]


cdef int play_known(Position* pos, History* history, int move) except -1 nogil:
    """Play a move that is known to be legal for the player to move."""
    assert move == pos.size * pos.size or LEGAL == legality(
        pos, history, POINT_OF[pos.size][move], pos.to_play
    )
    assert history.keys[history.count - 1] == position_key(pos.hash, pos.to_play)
    cdef int older = pos.newest, point
    pos.newest = (older if older else NUM_PREVIOUS + 1) - 1
    pos.stones[pos.newest] = pos.stones[older]
    memmove(&pos.last_moves[1], pos.last_moves, (NUM_LAST - 1) * sizeof(int))
    pos.last_moves[0] = move
    pos.ko = 0
    pos.num_moves += 1
    if move == pos.size * pos.size:
        pos.num_passes += 1
    else:
        pos.num_passes = 0
        point = POINT_OF[pos.size][move]
        if not pos.points[point].held >> pos.to_play & 1:
            pos.points[point].held |= 1 << pos.to_play
            pos.fresh, pos.fresh_color, pos.fresh_key = point, pos.to_play, history.count
        play_stone(pos, point)
    pos.to_play = 3 - pos.to_play
    return append_key(history, position_key(pos.hash, pos.to_play))


cdef void copy_position(Position* target, const Position* source) noexcept nogil:
    memcpy(target, source, sizeof(Position) - (MAX_POINTS - source.num_points) * sizeof(Point))


cdef inline int find_regions(
    const Position* pos, int colors, uint16_t* region_of, uint8_t* borders
) noexcept nogil:
    """Number the connected regions of the points whose colours are bits of `colors`; return how many.

    region_of: (MAX_POINTS,) from 1, 0 elsewhere; borders: the colours around each region, as bits.
    """
    cdef short stack[MAX_MOVES]
    cdef int num_regions = 0, num_stack, move, point, neighbor, color, around, k
    memset(region_of, 0, MAX_POINTS * sizeof(uint16_t))
    for move in range(pos.size * pos.size):
        point = POINT_OF[pos.size][move]
        if region_of[point] or not colors >> pos.points[point].color & 1:
            continue
        num_regions += 1
        region_of[point] = num_regions
        stack[0] = point
        num_stack, around = 1, 0
        while num_stack:
            num_stack -= 1
            point = stack[num_stack]
            for k in range(4):
                neighbor = point + pos.offsets[k]
                color = pos.points[neighbor].color
                if not colors >> color & 1:
                    around |= 1 << color
                elif not region_of[neighbor]:
                    region_of[neighbor] = num_regions
                    stack[num_stack] = neighbor
                    num_stack += 1
        borders[num_regions] = around
    return num_regions


cdef double score_of(const Position* pos, int8_t* owner) noexcept nogil:
    """Count the area by Tromp-Taylor: Black minus White minus komi; owner: (N*N,) colours.

    A point is a colour's if it holds its stone, or is empty and reaches only that colour.
    """
    cdef uint16_t region_of[MAX_POINTS]
    cdef uint8_t borders[MAX_MOVES + 1]
    cdef int[4] only = [EMPTY, BLACK, WHITE, EMPTY]     # by the bits of the colours around
    cdef int move, point, color, score = 0
    find_regions(pos, 1 << EMPTY, region_of, borders)
    borders[0] = 0      # of the stones
    for move in range(pos.size * pos.size):
        point = POINT_OF[pos.size][move]
        color = pos.points[point].color | only[borders[region_of[point]] >> BLACK & 3]
        owner[move] = color
        score += (color == BLACK) - (color == WHITE)
    return score - pos.komi


cdef void mark_pass_alive(const Position* pos, int color, int8_t* owner) noexcept nogil:
    """Write `color` where its chains and their territory are alive if it always passes (Benson 1976).

    A region is connected points without a stone of `color`. Its eye points, where the opponent
    could get an eye, are the empty ones; where suicide is allowed also his stones, which can clear
    themselves. A region is vital to a chain that is next to all its eye points; a chain with less
    than two vital regions dies. A region is open, and vital to nobody, once a chain around it has
    died, or if one of its eye points is next to no chain at all.
    """
    cdef uint16_t region_of[MAX_POINTS]
    cdef uint16_t num_eyes[MAX_MOVES + 1]   # of a region: eye points
    cdef uint16_t num_near[MAX_MOVES + 1]   # of a region: those next to the chain in question
    cdef uint8_t borders[MAX_MOVES + 1]
    cdef uint8_t is_open[MAX_MOVES + 1]
    cdef uint8_t is_dead[MAX_POINTS]        # by head
    cdef short around[MAX_MOVES]
    cdef const Point* points = pos.points
    cdef int others = 1 << EMPTY | 1 << (3 - color)
    cdef int move, point, head, num_regions, region, near, num_around, num_vital, i
    cdef bint is_changed = True
    num_regions = find_regions(pos, others, region_of, borders)
    memset(num_eyes, 0, sizeof(num_eyes))
    memset(is_open, 0, sizeof(is_open))
    memset(is_dead, 0, sizeof(is_dead))
    for move in range(pos.size * pos.size):
        point = POINT_OF[pos.size][move]
        if points[point].color == EMPTY or (points[point].color != color and pos.suicide):
            num_eyes[region_of[point]] += 1
            # Is it next to empty points, the opponent's and the edge alone?
            near = points[point].neighbors
            is_open[region_of[point]] |= (near & 15) + (near >> 4 * (3 - color) & 15) == 4
    while is_changed:
        is_changed = False
        for head in range(pos.num_points):
            if points[head].color != color or points[head].chain != head or is_dead[head]:
                continue
            memset(num_near, 0, (num_regions + 1) * sizeof(uint16_t))
            num_vital = 0
            num_around = find_around(pos, head, others, MAX_MOVES, around)
            for i in range(num_around):
                region = region_of[around[i]]
                if points[around[i]].color == EMPTY or pos.suicide:
                    num_near[region] += 1
                    num_vital += num_near[region] == num_eyes[region] and not is_open[region]
            if num_vital < 2:
                is_dead[head] = is_changed = True
                for i in range(num_around):
                    is_open[region_of[around[i]]] = True
    for move in range(pos.size * pos.size):
        point = POINT_OF[pos.size][move]
        if not (is_dead[points[point].chain] or is_open[region_of[point]]):     # 0: not marked
            owner[move] = color


cdef void add_points(
    const uint64_t* points, const short* move_of, int32_t bit, int32_t* words
) noexcept nogil:
    """Set a bit of the words at a set of points."""
    cdef int word
    cdef uint64_t left
    for word in range(WORDS):
        left = points[word]
        while left:
            words[move_of[64 * word + count_trailing_zeros(left)]] |= bit
            left &= left - 1


cdef void add_chains(const Position* pos, int32_t* words) noexcept nogil:
    """Set the bits of chains by liberties: own with 1, 2, 3 or more, then the opponent's."""
    cdef int move, point, stone, liberties
    cdef short around[3]
    cdef int32_t bit
    for move in range(pos.size * pos.size):
        point = POINT_OF[pos.size][move]
        if pos.points[point].color == EMPTY or pos.points[point].chain != point:
            continue
        liberties = 1
        if not in_atari(&pos.points[point]):
            liberties = find_around(pos, point, 1 << EMPTY, 3, around)
        bit = 1 << (5 if pos.points[point].color == pos.to_play else 8) + liberties
        stone = point
        for _ in range(pos.points[point].num_stones):
            words[MOVE_OF[pos.size][stone]] |= bit
            stone = pos.points[stone].next


cdef int write_input(
    const Position* pos, const History* history, int32_t* words, uint16_t* moves
) noexcept nogil:
    """Write the words of `Board.encode`, and the legal moves, ascending, pass last; return how many."""
    cdef int area = pos.size * pos.size
    cdef int own = pos.to_play - BLACK, move, point, num_legal = 0, k
    cdef Legality verdict
    cdef const short* move_of = MOVE_OF[pos.size]
    cdef const Stones* stones
    cdef float komi = pos.komi / 10 if pos.to_play == WHITE else -pos.komi / 10
    cdef int32_t everywhere = 1 << 19 | (pos.last_moves[0] == area) << 17   # bits: see PLANE_NAMES
    for move in range(area):
        words[move] = everywhere
    memcpy(&words[area], &komi, sizeof(komi))
    for k in range(1 + NUM_PREVIOUS):
        stones = &pos.stones[(pos.newest + k) % (1 + NUM_PREVIOUS)]
        add_points(stones.sets[own], move_of, 1 << 2 * k, words)
        add_points(stones.sets[1 - own], move_of, 2 << 2 * k, words)
    add_chains(pos, words)
    for move in range(area):
        point = POINT_OF[pos.size][move]
        moves[num_legal] = move     # stays if it is legal
        verdict = legality(pos, history, point, pos.to_play)
        num_legal += verdict == LEGAL
        words[move] |= (verdict == KO) << 12
    for k in range(NUM_LAST):
        if 0 <= pos.last_moves[k] < area:
            words[pos.last_moves[k]] |= 1 << 13 + k
    moves[num_legal] = area
    return num_legal + 1


def unpack(const int32_t[:, ::1] words, float[:, :, :, ::1] planes):
    """Turn (B, A) positions of `Board.encode` into the planes (B, C, N, N) of PLANE_NAMES."""
    cdef int row, plane, move, area = planes.shape[2] * planes.shape[3]
    cdef float komi
    cdef float* target
    if words.shape[0] != planes.shape[0] or words.shape[1] != area + 1 or planes.shape[1] != NUM_PLANES:
        raise ValueError("words or planes have the wrong shape")
    with nogil:
        for row in range(words.shape[0]):
            memcpy(&komi, &words[row, area], sizeof(komi))
            for plane in range(NUM_PLANES):
                target = &planes[row, plane, 0, 0]
                for move in range(area):
                    target[move] = komi if plane == KOMI_PLANE else words[row, move] >> plane & 1


cdef class Board:
    """A position of a game: stones, player to move, every earlier position, and the rules.

    Moves after the end are accepted (`is_over` tells), so that a GTP client can go on.
    """

    def __dealloc__(self):
        free(self.history.keys)

    def __init__(self, int size=9, rules=Rules(), int to_play=BLACK):
        cdef int move, point, num_walls, last = size - 1
        cdef Position* pos = &self.pos
        pos.size = check_size(size)
        pos.num_points = (size + 1) * (size + 2) + 1
        pos.offsets = [-size - 1, -1, 1, size + 1]
        pos.to_play = check_color(to_play)
        for point in range(pos.num_points):
            pos.points[point].color = WALL
        for move in range(size * size):
            point = POINT_OF[size][move]
            num_walls = (move < size) + (move >= size * last) + (move % size == 0) + (move % size == last)
            pos.points[point].color = EMPTY
            pos.points[point].neighbors = 4 + (0x110 - 1) * num_walls
        self.rules = rules
        self.restart()

    cdef int restart(self) except -1:
        """Forget every earlier position and move: the present one is the first."""
        cdef Position* pos = &self.pos
        cdef int point
        for point in range(pos.num_points):
            pos.points[point].held = 1 << pos.points[point].color
        for k in range(1 + NUM_PREVIOUS):
            pos.stones[k] = pos.stones[pos.newest]
        memset(pos.last_moves, 0xFF, sizeof(pos.last_moves))    # -1
        pos.num_moves = pos.num_passes = pos.ko = pos.fresh_key = 0
        self.history.count = 0
        return append_key(&self.history, position_key(pos.hash, pos.to_play))

    def __str__(self):
        return "\n".join(" ".join(".XO"[color] for color in row) for row in self.stones())

    @property
    def size(self):
        return self.pos.size

    @property
    def rules(self):
        """Can be assigned; the history stays."""
        return self._rules

    @rules.setter
    def rules(self, rules):
        self._rules = rules
        self.pos.ko_rule = KO_RULES[rules.ko]
        self.pos.suicide = rules.suicide
        self.pos.komi = rules.komi

    @property
    def to_play(self):
        """The colour to move, `BLACK` or `WHITE`. Can be assigned: a ko is then forgotten."""
        return self.pos.to_play

    @to_play.setter
    def to_play(self, int color):
        if check_color(color) != self.pos.to_play:
            self.pos.to_play = color
            self.pos.ko = 0
            self.history.keys[self.history.count - 1] = position_key(self.pos.hash, color)

    @property
    def num_moves(self):
        """Moves played, passes included, since the last `place` or the empty board."""
        return self.pos.num_moves

    @property
    def last_move(self):
        """The last move, or -1 at the beginning."""
        return self.pos.last_moves[0]

    @property
    def num_passes(self):
        """Passes in a row at the end of the game so far."""
        return self.pos.num_passes

    @property
    def is_over(self):
        """The last two moves were passes."""
        return self.pos.num_passes >= 2

    @property
    def ko(self):
        """The point that simple ko forbids to the player to move, or -1."""
        return MOVE_OF[self.pos.size][self.pos.ko] if self.pos.ko else -1

    @property
    def hash(self):
        """Zobrist hash of the stones (64 bits): not of the player, not of the history."""
        return self.pos.hash

    @property
    def prisoners(self):
        """Stones taken off the board so far: (black stones, white stones)."""
        return self.pos.prisoners[BLACK], self.pos.prisoners[WHITE]

    def copy(self):
        cdef Board other = Board.__new__(Board)
        copy_position(&other.pos, &self.pos)
        copy_history(&other.history, &self.history)
        other._rules = self._rules
        return other

    def place(self, black, white=()):
        """Put set-up stones on empty points, and start the history from there.

        Raises ValueError, leaving the board as it was, where a point is taken or a chain of the
        result has no liberty.
        """
        cdef Board result = self.copy()
        cdef int[4] taken
        cdef int point
        for color, moves in ((BLACK, black), (WHITE, white)):
            for move in moves:
                if not 0 <= move < self.size * self.size:
                    raise ValueError(f"move {move} is not a point of a {self.size}x{self.size} board")
                point = POINT_OF[self.size][move]
                if result.pos.points[point].color != EMPTY:
                    raise ValueError(f"there is a stone at {format_vertex(move, self.size)} already")
                put_stone(&result.pos, point, color, taken)
        for move in range(self.size * self.size):
            point = POINT_OF[self.size][move]
            if result.pos.points[point].color != EMPTY and result.liberties(move) == 0:
                raise ValueError(f"the stone at {format_vertex(move, self.size)} has no liberty")
        copy_position(&self.pos, &result.pos)
        self.restart()

    def play(self, int move, int color=0):
        """Play `move` for `color`, by default the player to move. Raises IllegalMove."""
        color = check_color(color) if color else self.pos.to_play
        if not self.allows(move, color):
            raise illegal_move(self, move, color)
        self.to_play = color
        play_known(&self.pos, &self.history, move)

    def play_all(self, moves, plies=()):
        """Play several moves, the colours alternating. Raises IllegalMove at the first bad one.

        Returns (K, A) int32: what `encode` returns before the moves of the K `plies`, ascending.
        """
        cdef const short[::1] array = np.ascontiguousarray(moves, dtype=np.int16)
        cdef const short[::1] wanted = np.ascontiguousarray(plies, dtype=np.int16)
        cdef uint16_t legal[MAX_MOVES + 1]
        cdef int i, k = 0
        words = np.empty((wanted.shape[0], self.pos.size * self.pos.size + 1), np.int32)
        cdef int32_t[:, ::1] view = words
        for i in range(array.shape[0]):
            if not self.allows(array[i], self.pos.to_play):
                raise illegal_move(self, array[i], self.pos.to_play)
            if k < wanted.shape[0] and wanted[k] == i:
                write_input(&self.pos, &self.history, &view[k, 0], legal)
                k += 1
            play_known(&self.pos, &self.history, array[i])
        if k < wanted.shape[0]:
            raise ValueError(f"ply {wanted[k]} of {array.shape[0]} moves")
        return words

    cdef bint allows(self, int move, int color) noexcept nogil:
        """Tell whether `color` may play a move: a legal point of the board, or pass."""
        cdef int area = self.pos.size * self.pos.size
        if not 0 <= move < area:
            return move == area
        return legality(&self.pos, &self.history, POINT_OF[self.pos.size][move], color) == LEGAL

    def is_legal(self, int move, int color=0):
        return self.allows(move, check_color(color) if color else self.pos.to_play)

    def legal_moves(self):
        """Return (A,) bool for the player to move; pass is always legal."""
        cdef int move
        legal = np.empty(self.pos.size * self.pos.size + 1, dtype=np.bool_)
        cdef uint8_t[::1] view = legal.view(np.uint8)
        for move in range(view.shape[0]):
            view[move] = self.allows(move, self.pos.to_play)
        return legal

    def points(self):
        """Return (N + 2, N + 1) of the struct `Point`, a copy: the walls but those at the right, too."""
        points = np.array(<Point[:self.pos.num_points - 1]>self.pos.points)
        return points.reshape(self.pos.size + 2, self.pos.size + 1)

    def stones(self):
        """Return (N, N) int8 of EMPTY, BLACK, WHITE."""
        cdef int move
        stones = np.empty((self.pos.size, self.pos.size), np.int8)
        cdef int8_t[:, ::1] view = stones
        for move in range(self.pos.size * self.pos.size):
            (&view[0, 0])[move] = self.pos.points[POINT_OF[self.pos.size][move]].color
        return stones

    def liberties(self, int move):
        """Count the liberties of the chain at a point, exactly; ValueError if there is no stone."""
        cdef short around[MAX_MOVES]
        cdef int size = self.pos.size, point = POINT_OF[size][move] if 0 <= move < size * size else 0
        if self.pos.points[point].chain == 0:
            raise ValueError(f"there is no stone at move {move}")
        return find_around(&self.pos, self.pos.points[point].chain, 1 << EMPTY, MAX_MOVES, around)

    def area(self):
        """Return (N, N) int8: BLACK or WHITE where Tromp-Taylor counts a point, else EMPTY."""
        owner = np.empty((self.pos.size, self.pos.size), dtype=np.int8)
        cdef int8_t[:, ::1] view = owner
        score_of(&self.pos, &view[0, 0])
        return owner

    def score(self):
        """Black's area minus White's, minus komi: > 0 means that Black has won."""
        cdef int8_t owner[MAX_MOVES]
        return score_of(&self.pos, owner)

    def pass_alive(self):
        """Return (N, N) int8: the owner of each pass-alive stone and of its territory, else EMPTY.

        Alive even if the owner always passes (Benson 1976). Territory: regions, whatever lies in
        them, that a colour's pass-alive chains enclose and in which the opponent can't live.
        """
        owner = np.zeros((self.pos.size, self.pos.size), dtype=np.int8)
        cdef int8_t[:, ::1] view = owner
        mark_pass_alive(&self.pos, BLACK, &view[0, 0])
        mark_pass_alive(&self.pos, WHITE, &view[0, 0])
        return owner

    def encode(self):
        """Return the network's input for the player to move: (A,) int32.

        Bit c of word p is plane c of PLANE_NAMES at point p. But for komi, which is a number: the
        last word is its float32. A symmetry turns it as it turns a policy: pass and komi stay.
        """
        cdef uint16_t legal[MAX_MOVES + 1]
        words = np.empty(self.pos.size * self.pos.size + 1, np.int32)
        cdef int32_t[::1] view = words
        write_input(&self.pos, &self.history, &view[0], legal)
        return words


cdef int check_color(int color) except -1:
    if color not in (BLACK, WHITE):
        raise ValueError(f"{color} is not a colour to play")
    return color


cdef object illegal_move(Board board, int move, int color):
    """Return the IllegalMove that says why `color` may not play there."""
    cdef int size = board.pos.size
    if not 0 <= move <= size * size:
        return IllegalMove(f"move {move} is not on a {size}x{size} board")
    cdef Legality verdict = legality(&board.pos, &board.history, POINT_OF[size][move], color)
    reason = {OCCUPIED: "the point is taken", SUICIDE: "suicide", KO: f"{board.rules.ko} ko"}[verdict]
    name = "Black" if color == BLACK else "White"
    return IllegalMove(f"{name} may not play {format_vertex(move, size)}: {reason}")


include "_rollouts.pxi"
