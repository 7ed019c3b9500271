# Nodes and edges of the search trees; links are indices, so that growing an array keeps them valid.

from libc.stdint cimport int8_t, int32_t, uint16_t

from ._board cimport MAX_MOVES, Board, History, Position

cdef enum:
    NO_NODE = -1
    TRUSTED = 8     # a root move with less than 1/8 of the most visits is not played (KataGo: 0.15)

cdef enum NodeState:
    FRESH       # not reached yet
    WAITING     # reached, its evaluation is under way
    EXPANDED    # evaluated: its edges have priors
    TERMINAL    # the game is over here

cdef enum RootKind:
    PLAIN, NOISED, GUMBEL

cdef struct Edge:
    float prior         # P(s, a); sums to 1 over the node's edges once it is EXPANDED
    int child           # node index, NO_NODE until visited; N(s, a) and W(s, a) are in that node
    uint16_t move       # 0 .. size * size; edges stand in ascending order of moves

cdef struct Node:
    double value_sum    # its own utility and those below it, for the player to move here: -W(s, a)
    double win_sum      # the same of winning alone, without points
    double score_sum    # the same of scores, in points
    float value         # utility of its own evaluation, from EXPANDED or TERMINAL on
    float win           # the same of winning alone, in [-1, 1]
    float score         # the same in points
    int visits          # N(s) = 1 + sum of N(s, a), simulations under way included
    int pending         # how many are under way: visits that have no value yet
    int parent          # node index, NO_NODE at the root
    int first_edge
    int num_edges       # legal moves, pass included; 0 while FRESH or if TERMINAL
    int state           # NodeState
    bint pass_loses     # a second pass, after one from here, would win for the opponent

cdef struct Arena:
    Node* nodes         # nodes[0] is the root
    Edge* edges         # the root's come first
    int num_nodes, num_edges
    int node_capacity, edge_capacity

cdef struct Tree:
    const Position* position        # at the root: that of one of the forest's boards
    History history                 # its keys, and while selecting those of the path
    int num_root_keys
    Arena arena
    RootKind root
    float random[MAX_MOVES + 1]     # by move: noise of a NOISED root, or Gumbel numbers
    int* schedule                   # visits of the move that simulation i of a GUMBEL root goes to
    int num_scheduled, has_avoided
    int avoided_until[3][MAX_MOVES + 1]     # if so, by colour and move: the depth it waits for

cdef struct Leaf:
    int tree
    int node

cdef struct Statistics:     # of a root move, or of the root: a row of what `moves` returns
    int visits
    float prior, value, win, score

cdef class Forest:
    cdef readonly list boards
    cdef public int max_edges   # of each tree
    cdef int size, num_moves    # N, A
    cdef int leaves             # those of SearchConfig
    cdef double score_utility
    cdef Tree* trees
    cdef int num_trees
    cdef Leaf* waiting          # those of the last `select`, in the order of its rows
    cdef int num_waiting
    cdef Position scratch
    cdef Arena spare            # where the next subtree is copied to

    cdef Tree* tree_at(self, int tree) except NULL
    cdef Tree* randomise(self, int tree, const float[::1] numbers, RootKind root) except NULL
    cdef int set_root(self, Tree* tree, Board board, int node) except -1
