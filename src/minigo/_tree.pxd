# Nodes and edges of the search trees; links are indices, so that growing an array keeps them valid.

from libc.stdint cimport int8_t, uint8_t, uint16_t

from ._board cimport History, Position

cdef enum:
    NO_NODE = -1
    TRUSTED = 8     # a root move with less than 1/8 of the most visits is not played (KataGo: 0.15)

cdef enum NodeState:
    FRESH       # not reached yet
    WAITING     # reached, its evaluation is under way
    EXPANDED    # evaluated: its edges have priors
    TERMINAL    # the game is over here

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
    NodeState state
    bint pass_loses     # a second pass, after one from here, would win for the opponent

cdef struct Arena:
    Node* nodes         # nodes[0] is the root
    Edge* edges         # the root's come first
    int num_nodes
    int num_edges
    int node_capacity
    int edge_capacity

cdef struct Tree:
    Position* position  # at the root
    History history     # its keys, and while selecting those of the path
    int num_root_keys
    Arena arena
    float* noise        # (A,) by move, or NULL: mixed into the root's prior
    float noise_frac
    float* gumbels      # (A,) by move, or NULL
    int* schedule       # visits of the root move that simulation i goes to; N(root) - 1 began
    int num_scheduled

cdef struct Leaf:
    int tree
    int node

cdef struct Constants:  # of SearchConfig
    double c_puct
    double c_puct_log
    double c_puct_base
    double fpu_reduction
    double forced_playouts
    double c_visit
    double c_scale
    double score_utility
    int leaves

cdef struct Statistics:     # of a root move, or of the root: a row of what `moves` returns
    int visits
    float prior
    float value
    float win
    float score

cdef class Forest:
    cdef Tree* trees
    cdef int num_trees
    cdef int size
    cdef Position* scratch
    cdef Arena spare
    cdef Leaf* waiting
    cdef int num_waiting
    cdef Constants constants
    cdef public int max_edges   # of each tree
    cdef object rules

    cdef Tree* tree_at(self, int tree) except NULL
    cdef float* copy_floats(self, values) except NULL
    cdef int check_node(self, Arena* arena, int index) except -1
    cdef int select_trees(self, int* budget, float* planes, int capacity) except -1 nogil
