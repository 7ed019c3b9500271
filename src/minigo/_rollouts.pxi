# Random games over the struct of `_board.pyx`, which includes this file, so that its inner functions
# are inlined here; a list of the empty points of its own spares every position one.

cdef struct Empties:
    int count
    short points[MAX_MOVES]


cdef bint is_own_eye(const Position* pos, int point) noexcept nogil:
    """Tell whether an empty point surrounded by the player's stones is a real eye of his.

    It is false where the opponent holds two of its four corners, or one at the edge.
    """
    cdef const Point* points = pos.points
    cdef int color = pos.to_play, stride = pos.size + 1, num_opponents = 0, k
    cdef bint is_edge = False
    cdef int[4] corners = [-stride - 1, -stride + 1, stride - 1, stride + 1]
    if (points[point].neighbors >> 4 * color & 15) != 4:
        return False
    for k in range(4):
        num_opponents += points[point + corners[k]].color == 3 - color
        is_edge |= points[point + corners[k]].color == WALL
    return num_opponents + is_edge < 2


cdef int take_move(
    const Position* pos, const History* history, Empties* empties, uint64_t* state
) noexcept nogil:
    """Draw a legal point that fills no eye of the player's own, uniformly; 0 if there is none.

    It leaves the list, and stands right behind its end, from where suicide takes it back.
    """
    cdef int num_left = empties.count, slot, point
    while num_left:
        slot = ((split_mix(state) >> 32) * num_left) >> 32
        num_left -= 1
        point = empties.points[slot]
        empties.points[slot] = empties.points[num_left]
        if not is_own_eye(pos, point) and legality(pos, history, point, pos.to_play) == LEGAL:
            empties.count -= 1
            empties.points[num_left] = empties.points[empties.count]
            empties.points[empties.count] = point
            return point
        empties.points[num_left] = point    # behind the end: not drawn again for this move
    return 0


cdef void add_emptied(const Position* pos, int color, Empties* empties) noexcept nogil:
    """Add the points of those stones of a colour that were there before the last move."""
    cdef const uint64_t* after = pos.stones[pos.newest].sets[color - BLACK]
    cdef const uint64_t* before = pos.stones[(pos.newest + 1) % (1 + NUM_PREVIOUS)].sets[color - BLACK]
    cdef int word
    cdef uint64_t left
    for word in range(WORDS):
        left = before[word] & ~after[word]
        while left:
            empties.points[empties.count] = 64 * word + count_trailing_zeros(left)
            empties.count += 1
            left &= left - 1


def random_playouts(Board start, int num_playouts, uint64_t seed):
    """Play random games from a position; return (moves in all, (N, N) float64 ownership).

    Ownership is a mean, +1 = always Black's in the end, -1 = always White's.
    A move is chosen uniformly among the legal ones that don't fill an eye of the player's own;
    without one, he passes. Two passes end a game, and so do 3 N * N moves.
    """
    cdef Board board = start.copy()
    cdef Position* pos = &board.pos
    cdef Empties empties, first_empties
    cdef int8_t owner[MAX_MOVES]
    cdef const short* move_of = MOVE_OF[pos.size]
    cdef int color, point, move, num_taken, area = pos.size * pos.size, last = pos.num_moves + 3 * area
    cdef long num_moves = 0
    owned = np.zeros((pos.size, pos.size), dtype=np.int32)
    cdef int[:, ::1] view = owned
    cdef int* sums = &view[0, 0]
    first_empties.count = 0
    for point in range(pos.num_points):
        if pos.points[point].color == EMPTY:
            first_empties.points[first_empties.count] = point
            first_empties.count += 1
    with nogil:
        for _ in range(num_playouts):
            copy_position(pos, &start.pos)
            board.history.count = start.history.count
            empties = first_empties
            while pos.num_passes < 2 and pos.num_moves < last:
                color = pos.to_play
                num_taken = pos.prisoners[3 - color]
                point = take_move(pos, &board.history, &empties, &seed)
                play_known(pos, &board.history, move_of[point] if point else area)
                if pos.prisoners[3 - color] > num_taken:
                    add_emptied(pos, 3 - color, &empties)
                elif pos.points[point].color == EMPTY:      # suicide: it is back
                    empties.count += 1
                    add_emptied(pos, color, &empties)
            num_moves += pos.num_moves - start.pos.num_moves
            score_of(pos, owner)
            for move in range(area):
                sums[move] += (owner[move] == BLACK) - (owner[move] == WHITE)
    return num_moves, owned / num_playouts
