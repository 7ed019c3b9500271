# The position as a plain struct, and what `_tree.pyx` calls on it.

from libc.stdint cimport int8_t, int32_t, uint8_t, uint16_t, uint64_t

cdef enum:
    MAX_MOVES = 361     # 19 * 19 points; pass is one more, move MAX_MOVES
    MAX_POINTS = 421    # bordered: (19 + 1) * (19 + 2) + 1
    WORDS = 7           # 64-bit words of a set of points
    NUM_PREVIOUS = 2    # earlier positions whose stones are kept for the input planes
    NUM_LAST = 4        # last moves kept for the input planes

cpdef enum:
    NUM_PLANES = 20
    KOMI_PLANE = 18     # the only one that isn't of zeros and ones

cdef enum:
    EMPTY, BLACK, WHITE, WALL

cdef enum Legality:
    LEGAL, OCCUPIED, SUICIDE, KO

cdef enum KoRule:
    SIMPLE, POSITIONAL, SITUATIONAL

# A point of the bordered board. `head` fields hold for a chain's head only. A pseudo-liberty is an
# empty point seen from one stone: a liberty next to k stones of a chain counts k times.
cdef struct Point:
    uint64_t liberties          # head: sum of `liberty(p)` over pseudo-liberties; 0 only while captured
    uint16_t num_stones         # head: stones in the chain
    uint16_t chain              # stone: the head of its chain; 0 elsewhere, where `liberties` mean nothing
    uint16_t next               # stone: the next one of its chain, in a circle
    uint16_t neighbors          # of four: empty + 16 * black + 256 * white ones; WALL is both
    uint8_t color               # EMPTY, BLACK, WHITE or WALL
    uint8_t held                # bit c: a stone of colour c has been here since the set-up

# Sets of points: Black's stones, White's.
cdef struct Stones:
    uint64_t sets[2][WORDS]

# Everything about a position except its history. Only the first `num_points` points are in use:
# `copy_position` copies those and the header in one memcpy.
cdef struct Position:
    uint64_t hash                                       # Zobrist, of the stones
    Stones stones[1 + NUM_PREVIOUS]                     # a ring: `newest`, then one and two moves ago
    int newest
    int size
    int num_points              # bordered points of this size
    int offsets[4]              # from a point to its neighbours; to the one below: size + 1
    int to_play
    int ko                      # point where simple ko forbids `to_play`, or 0
    int fresh                   # point of the fresh stone, the latest put where its colour never was
    int fresh_color             # its colour
    int fresh_key               # index of the first key of the history with it; 0: there is none
    int num_moves               # since the set-up, passes included
    int num_passes              # in a row, up to now
    int last_moves[NUM_LAST]    # newest first, -1 before the beginning
    int prisoners[3]            # stones lost by colour
    int ko_rule                 # KoRule
    int suicide                 # 1: allowed
    float komi
    Point points[MAX_POINTS]

# Keys, of stones and player to move, of all positions since the set-up, the present one included.
cdef struct History:
    uint64_t* keys
    int count
    int capacity

cdef void* grow(void* array, size_t num_bytes) except NULL nogil
cdef void copy_position(Position* target, const Position* source) noexcept nogil
cdef int copy_history(History* target, const History* source) except -1 nogil
cdef int play_known(Position* pos, History* history, int move) except -1 nogil
cdef int write_input(
    const Position* pos, const History* history, int32_t* words, uint16_t* moves
) noexcept nogil
cdef double score_of(const Position* pos, int8_t* owner) noexcept nogil

cdef class Board:
    cdef Position pos
    cdef History history
    cdef object _rules

    cdef int restart(self) except -1
    cdef bint allows(self, int move, int color) noexcept nogil
