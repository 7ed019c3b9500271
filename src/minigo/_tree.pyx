"""Search trees over struct arrays: select, expand, backup. `_tree.pyi` is the manual; no evaluation."""

from libc.math cimport M_PI, INFINITY, NAN, atan, exp, log, sqrt
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset

import numpy as np

from ._board cimport (
    MAX_MOVES, PLANES, Board, History, Position, copy_history, copy_position, play_known, score_of,
    symmetry_of, write_input,
)

STATISTICS = np.dtype(
    [("visits", "i4"), *((name, "f4") for name in ("prior", "value", "win", "score"))]
)
C_PUCT = 1.1            # exploration at few visits (KataGo's cpuctExploration, rounded)
C_PUCT_LOG = 0.45       # its growth with log visits (KataGo's cpuctExplorationLog)
C_PUCT_BASE = 500.0     # visits at which the growth sets in (KataGo)
FPU_REDUCTION = 0.2     # first-play value = Q - this * sqrt(visited prior) (KataGo)
FORCED_PLAYOUTS = 2.0   # k of sqrt(k P N) at a noised root (KataGo, 3.2)
C_VISIT, C_SCALE = 50.0, 1.0    # of sigma(q) = (C_VISIT + max N) C_SCALE q (Danihelka et al. 2022)
MAX_EDGES = 20_000_000  # of a tree; the manual says what they cost


# ---- memory ----

cdef void* grow(void* array, size_t num_bytes) except NULL nogil:
    cdef void* grown = realloc(array, num_bytes)
    if grown == NULL:
        with gil:
            raise MemoryError
    return grown


cdef int add_node(Arena* arena, int parent) except -1 nogil:
    """Append a FRESH node and return its index."""
    cdef Node* node
    if arena.num_nodes == arena.node_capacity:
        arena.node_capacity = 2 * arena.node_capacity + 16
        arena.nodes = <Node*>grow(arena.nodes, arena.node_capacity * sizeof(Node))
    node = &arena.nodes[arena.num_nodes]
    memset(node, 0, sizeof(Node))
    node.parent = parent
    node.state = FRESH
    arena.num_nodes += 1
    return arena.num_nodes - 1


cdef int reserve_edges(Arena* arena, int num_more) except -1 nogil:
    """Make room for `num_more` edges."""
    if arena.num_edges + num_more > arena.edge_capacity:
        arena.edge_capacity = 2 * arena.edge_capacity + num_more
        arena.edges = <Edge*>grow(arena.edges, arena.edge_capacity * sizeof(Edge))
    return 0


cdef int add_edges(Arena* arena, int node, const uint16_t* moves, int num_moves) except -1 nogil:
    """Give a node its edges, one for each legal move, without priors."""
    cdef Edge* edge
    cdef int i
    reserve_edges(arena, num_moves)
    arena.nodes[node].first_edge = arena.num_edges
    arena.nodes[node].num_edges = num_moves
    for i in range(num_moves):
        edge = &arena.edges[arena.num_edges + i]
        edge.prior = 0
        edge.child = NO_NODE
        edge.move = moves[i]
    arena.num_edges += num_moves
    return 0


cdef int copy_subtree(Arena* target, const Arena* source, int root) except -1 nogil:
    """Fill `target` with the subtree of `source` under `root`, breadth first."""
    cdef int i, k, child, first
    cdef Node* node
    target.num_nodes = target.num_edges = 0
    add_node(target, NO_NODE)
    target.nodes[0] = source.nodes[root]
    target.nodes[0].parent = NO_NODE
    i = 0
    while i < target.num_nodes:
        first, k = target.num_edges, target.nodes[i].num_edges
        reserve_edges(target, k)
        memcpy(
            &target.edges[first], &source.edges[target.nodes[i].first_edge], k * sizeof(Edge)
        )
        target.nodes[i].first_edge = first
        target.num_edges += k
        for k in range(first, target.num_edges):
            if target.edges[k].child != NO_NODE:
                child = add_node(target, i)
                target.nodes[child] = source.nodes[target.edges[k].child]
                target.nodes[child].parent = i
                target.edges[k].child = child
        i += 1
    return 0


# ---- select ----

cdef inline double edge_value(const Arena* arena, const Edge* edge) noexcept nogil:
    """Return Q(s, a) of a visited edge, for the player to move at s; what is under way counts as lost.

    That virtual loss puts the next simulation off the same way (AlphaGo's n_vl = 1).
    """
    cdef const Node* child = &arena.nodes[edge.child]
    return -(child.value_sum + child.pending) / child.visits


cdef int select_edge(
    const Arena* arena, int index, const Constants* constants, const float* noise, double frac
) noexcept nogil:
    """Return the index of the edge of a node that maximises Q(s, a) + U(s, a).

    U(s, a) = C(s) P(s, a) sqrt(N(s) - 1) / (1 + N(s, a)), where C(s) = c_puct + c_puct_log *
    log((N(s) + c_base) / c_base) (AlphaZero, with KataGo's constants). An edge not visited yet has
    Q = Q(s) - fpu_reduction * sqrt(sum of P over visited edges), so that only the one with the
    largest prior counts. At a root with noise there is no reduction, and each visited move gets
    sqrt(forced_playouts P(s, a) (N(s) - 1)) visits (KataGo, 3.2). Ties go to the first edge. A pass
    that a pass answers with a win has no prior left: no network's belief stands against the count.
    """
    cdef const Node* node = &arena.nodes[index]
    cdef double parent_visits = node.visits - 1
    cdef double scale = (
        constants.c_puct
        + constants.c_puct_log * log((node.visits + constants.c_puct_base) / constants.c_puct_base)
    ) * sqrt(parent_visits + 0.01)      # at the first simulation the prior decides
    cdef double forced = constants.forced_playouts * parent_visits
    cdef double prior, score, fpu, visited_prior = 0, best_score = -INFINITY, fresh_prior = -1
    cdef double visits
    cdef int i, best = node.first_edge, fresh = -1
    cdef const Edge* edge
    for i in range(node.first_edge, node.first_edge + node.num_edges):
        edge = &arena.edges[i]
        prior = edge.prior
        if node.pass_loses and i == node.first_edge + node.num_edges - 1:
            prior = 0
        elif noise != NULL:
            prior += frac * (noise[edge.move] - prior)
        if edge.child == NO_NODE:
            if prior > fresh_prior:
                fresh_prior, fresh = prior, i
            continue
        visited_prior += prior
        visits = arena.nodes[edge.child].visits
        score = edge_value(arena, edge) + scale * prior / (1 + visits)
        if noise != NULL and visits * visits < forced * prior:
            score = INFINITY
        if score > best_score:
            best_score, best = score, i
    if fresh < 0:
        return best
    fpu = node.value_sum / (node.visits - node.pending)
    if noise == NULL:
        fpu -= constants.fpu_reduction * sqrt(visited_prior)
    score = fpu + scale * fresh_prior
    return fresh if score > best_score or (score == best_score and fresh < best) else best


cdef double mixed_value(const Arena* arena) noexcept nogil:
    """Return what stands in for Q of the root's edges not visited (Danihelka et al. 2022, eq. 33)."""
    cdef const Node* root = &arena.nodes[0]
    cdef double prior_sum = 0, weighted = 0
    cdef int i
    for i in range(root.num_edges):
        if arena.edges[i].child != NO_NODE:
            prior_sum += arena.edges[i].prior
            weighted += arena.edges[i].prior * edge_value(arena, &arena.edges[i])
    if prior_sum <= 0:
        return root.value
    return (root.value + (root.visits - 1) * weighted / prior_sum) / root.visits


cdef inline int edge_visits(const Arena* arena, const Edge* edge) noexcept nogil:
    """Return N(s, a)."""
    return arena.nodes[edge.child].visits if edge.child != NO_NODE else 0


cdef int max_visits(const Arena* arena) noexcept nogil:
    """Return the visits of the root's most visited edge."""
    cdef int i, most = 0
    for i in range(arena.nodes[0].num_edges):
        most = max(most, edge_visits(arena, &arena.edges[i]))
    return most


cdef double completed_logit(
    const Arena* arena, const Edge* edge, double mixed, int most_visits, const Constants* constants
) noexcept nogil:
    """Return logit + sigma(completed Q), where sigma(q) = (c_visit + max N) c_scale (1 + q) / 2.

    The paper's q is in [0, 1].
    """
    cdef double q = edge_value(arena, edge) if edge.child != NO_NODE else mixed
    return log(edge.prior + 1e-30) + (constants.c_visit + most_visits) * constants.c_scale * (
        (1 + q) / 2
    )


cdef int select_gumbel(
    const Tree* tree, const Constants* constants, int wanted_visits
) noexcept nogil:
    """Return the root's edge with the best gumbel + logit + sigma(Q) among those of so many visits.

    Returns -1 if none has that many.
    """
    cdef const Arena* arena = &tree.arena
    cdef double mixed = mixed_value(arena), score, best_score = -INFINITY
    cdef int i, best = -1, most_visits = max_visits(arena)
    for i in range(arena.nodes[0].num_edges):
        if edge_visits(arena, &arena.edges[i]) == wanted_visits:
            score = tree.gumbels[arena.edges[i].move] + completed_logit(
                arena, &arena.edges[i], mixed, most_visits, constants
            )
            if score > best_score:
                best_score, best = score, i
    return best


cdef inline int select_end(const Tree* tree, int index, const Position* position) noexcept nogil:
    """Return the edge of a pass that would end the game, if nobody looked at it yet, else -1.

    What the rules count there is certain and costs no evaluation. A Gumbel root has its schedule.
    """
    cdef const Node* node = &tree.arena.nodes[index]
    cdef int edge = node.first_edge + node.num_edges - 1    # pass is the last
    if position.num_passes == 0 or tree.arena.edges[edge].child != NO_NODE:
        return -1
    return edge if index or tree.gumbels == NULL else -1


cdef int select_root_edge(Tree* tree, const Constants* constants) noexcept nogil:
    cdef int edge = -1, num_started = tree.arena.nodes[0].visits - 1
    if tree.gumbels != NULL and num_started < tree.num_scheduled:
        edge = select_gumbel(tree, constants, tree.schedule[num_started])
    if edge < 0:
        edge = select_edge(&tree.arena, 0, constants, tree.noise, tree.noise_frac)
    return edge


cdef int select_leaf(
    Tree* tree, Position* position, const Constants* constants
) except -1 nogil:
    """Go down to a node that isn't expanded, with a pending visit on the way; return its index.

    `position` and the tree's history follow.
    """
    cdef Arena* arena = &tree.arena
    cdef int node = 0, edge
    copy_position(position, tree.position)
    tree.history.count = tree.num_root_keys
    while arena.nodes[node].state == EXPANDED:
        edge = select_end(tree, node, position)
        if edge < 0 and node == 0:
            edge = select_root_edge(tree, constants)
        elif edge < 0:
            edge = select_edge(arena, node, constants, NULL, 0)
        arena.nodes[node].visits += 1
        arena.nodes[node].pending += 1
        play_known(position, &tree.history, arena.edges[edge].move)
        if arena.edges[edge].child == NO_NODE:
            arena.edges[edge].child = add_node(arena, node)
        node = arena.edges[edge].child
    arena.nodes[node].visits += 1
    arena.nodes[node].pending += 1
    return node


# ---- expand, backup ----

cdef inline double utility_of(double value, double score, int size, double share) noexcept nogil:
    """Mix winning and points: both in [-1, 1], the points squashed at the scale of the board's width."""
    return (1 - share) * value + share * 2 / M_PI * atan(score / size)


cdef void backup(Arena* arena, int leaf) noexcept nogil:
    """Give the pending visits on the way to a leaf its numbers, which change sign at each step."""
    cdef double value = arena.nodes[leaf].value, win = arena.nodes[leaf].win
    cdef double score = arena.nodes[leaf].score
    cdef int node = leaf
    while node != NO_NODE:
        arena.nodes[node].pending -= 1
        arena.nodes[node].value_sum += value
        arena.nodes[node].win_sum += win
        arena.nodes[node].score_sum += score
        value, win, score = -value, -win, -score
        node = arena.nodes[node].parent


cdef void undo_select(Arena* arena, int node) noexcept nogil:
    """Take back the visits of a `select_leaf` that ended at `node`."""
    while node != NO_NODE:
        arena.nodes[node].visits -= 1
        arena.nodes[node].pending -= 1
        node = arena.nodes[node].parent


cdef void forget_leaf(Arena* arena, int node) noexcept nogil:
    """Make a WAITING node as if it had never been reached."""
    cdef Node* parent
    cdef int i
    undo_select(arena, node)
    arena.nodes[node].state = FRESH
    if node == 0:
        arena.num_edges = arena.nodes[0].num_edges = 0
        return
    parent = &arena.nodes[arena.nodes[node].parent]
    for i in range(parent.first_edge, parent.first_edge + parent.num_edges):
        if arena.edges[i].child == node:
            arena.edges[i].child = NO_NODE


cdef void finish_terminal(Tree* tree, int node, Position* position, double share) noexcept nogil:
    """Back up the result of a finished game, counted by the rules."""
    cdef int8_t owner[MAX_MOVES]
    cdef Node* leaf = &tree.arena.nodes[node]
    leaf.score = score_of(position, owner)
    if position.to_play == 2:   # WHITE
        leaf.score = -leaf.score
    leaf.win = (leaf.score > 0) - (leaf.score < 0)
    leaf.value = utility_of(leaf.win, leaf.score, position.size, share)
    leaf.state = TERMINAL
    backup(&tree.arena, node)
    if leaf.win < 0 and leaf.parent > 0:   # who passed first has lost, and could have played on
        tree.arena.nodes[tree.arena.nodes[leaf.parent].parent].pass_loses = True


cdef int start_leaf(Tree* tree, int node, Position* position, float* planes) except -1 nogil:
    """Write a fresh node's planes and give it its edges; it waits for its evaluation."""
    cdef uint16_t moves[MAX_MOVES + 1]
    cdef int num_moves = write_input(
        position, &tree.history, symmetry_of(position.size, 0), planes, moves
    )
    add_edges(&tree.arena, node, moves, num_moves)
    tree.arena.nodes[node].state = WAITING
    return 0


cdef void expand_leaf(
    Arena* arena, int node, const float* weights, float win, float score, double value
) noexcept nogil:
    """Share the prior among the node's edges by weight and back up."""
    cdef Node* leaf = &arena.nodes[node]
    cdef Edge* edges = &arena.edges[leaf.first_edge]
    cdef float total = 0
    cdef int i
    for i in range(leaf.num_edges):
        edges[i].prior = weights[edges[i].move]
        total += edges[i].prior
    total = 1 / total
    for i in range(leaf.num_edges):
        edges[i].prior *= total
    leaf.state = EXPANDED
    leaf.value = value
    leaf.win = win
    leaf.score = score
    backup(arena, node)


cdef Statistics statistics_of(const Node* node, int sign) noexcept nogil:
    """Return the means of a visited node; sign -1: for the player who moved there."""
    cdef double visits = node.visits
    return Statistics(
        node.visits, 1, sign * node.value_sum / visits, sign * node.win_sum / visits,
        sign * node.score_sum / visits,
    )


def exponentials(logits):
    """Return exp(logits) up to a factor for each row; numpy's is several times as fast as libm's.

    No weight is so small that the legal moves of a row could sum up to 0.
    """
    return np.exp(np.maximum(logits - logits.max(axis=1, keepdims=True), -80))


# ---- Forest ----

cdef int start_tree(Tree* tree, Board board) except -1:
    """Begin anew at a position: one fresh node."""
    copy_position(tree.position, board.pos)
    copy_history(&tree.history, &board.history)
    tree.num_root_keys = tree.history.count
    tree.arena.num_nodes = tree.arena.num_edges = 0
    clear_root_choice(tree)
    return add_node(&tree.arena, NO_NODE)


cdef void clear_root_choice(Tree* tree) noexcept nogil:
    """Forget noise and Gumbel numbers: they were for another root."""
    free(tree.noise)
    free(tree.gumbels)
    free(tree.schedule)
    tree.noise = tree.gumbels = NULL
    tree.schedule = NULL


cdef class Forest:
    def __init__(self, boards, config):
        cdef int i
        if not boards or any(board.size != boards[0].size for board in boards):
            raise ValueError("a forest needs boards, all of one size")
        self.size = boards[0].size
        self.constants = Constants(
            C_PUCT, C_PUCT_LOG, C_PUCT_BASE, FPU_REDUCTION, FORCED_PLAYOUTS, C_VISIT, C_SCALE,
            config.score_utility, config.leaves,
        )
        self.num_trees = len(boards)
        self.trees = <Tree*>calloc(self.num_trees, sizeof(Tree))
        self.scratch = <Position*>calloc(1, sizeof(Position))
        self.waiting = <Leaf*>calloc(self.num_trees * config.leaves, sizeof(Leaf))
        if self.trees == NULL or self.scratch == NULL or self.waiting == NULL:
            raise MemoryError
        for i in range(self.num_trees):
            self.trees[i].position = <Position*>calloc(1, sizeof(Position))
            if self.trees[i].position == NULL:
                raise MemoryError
            start_tree(&self.trees[i], boards[i])
        self.max_edges = MAX_EDGES
        self.rules = [board.rules for board in boards]

    def __dealloc__(self):
        cdef int i
        if self.trees != NULL:
            for i in range(self.num_trees):
                clear_root_choice(&self.trees[i])
                free(self.trees[i].position)
                free(self.trees[i].history.keys)
                free(self.trees[i].arena.nodes)
                free(self.trees[i].arena.edges)
        free(self.trees)
        free(self.scratch)
        free(self.waiting)
        free(self.spare.nodes)
        free(self.spare.edges)

    def __len__(self):
        return self.num_trees

    cdef Tree* tree_at(self, int tree) except NULL:
        if not 0 <= tree < self.num_trees:
            raise IndexError(f"tree {tree} of {self.num_trees}")
        if self.num_waiting:
            raise RuntimeError("leaves of the last select wait for their evaluation")
        return &self.trees[tree]

    def reset(self, int tree, Board board):
        if board.size != self.size:
            raise ValueError(f"a board of size {board.size} in a forest of size {self.size}")
        start_tree(self.tree_at(tree), board)
        self.rules[tree] = board.rules

    def board(self, int tree):
        cdef Tree* t = self.tree_at(tree)
        cdef Board board = Board(self.size, self.rules[tree])
        copy_position(board.pos, t.position)
        t.history.count = t.num_root_keys
        copy_history(&board.history, &t.history)
        return board

    def advance(self, int tree, int move):
        cdef Tree* t = self.tree_at(tree)
        cdef int i, child = NO_NODE
        cdef Arena arena
        cdef Board board = self.board(tree)
        board.play(move)
        for i in range(t.arena.nodes[0].num_edges):
            if t.arena.edges[t.arena.nodes[0].first_edge + i].move == move:
                child = t.arena.edges[t.arena.nodes[0].first_edge + i].child
        if child == NO_NODE:
            start_tree(t, board)
            return
        play_known(t.position, &t.history, move)
        t.num_root_keys = t.history.count
        clear_root_choice(t)
        copy_subtree(&self.spare, &t.arena, child)
        t.arena, self.spare = self.spare, t.arena

    cdef int select_trees(self, int* budget, float* planes, int capacity) except -1 nogil:
        cdef int i, node, num_rows = 0, num_leaves, plane_size = PLANES * self.size * self.size
        cdef Tree* tree
        for i in range(self.num_trees):
            tree = &self.trees[i]
            num_leaves = 0
            if tree.arena.num_edges >= self.max_edges:
                budget[i] = 0
            while budget[i] > 0 and num_leaves < self.constants.leaves and num_rows < capacity:
                node = select_leaf(tree, self.scratch, &self.constants)
                if tree.arena.nodes[node].state == WAITING:
                    undo_select(&tree.arena, node)
                    break
                budget[i] -= 1
                if self.scratch.num_passes >= 2:
                    finish_terminal(tree, node, self.scratch, self.constants.score_utility)
                    continue
                start_leaf(tree, node, self.scratch, planes + num_rows * plane_size)
                self.waiting[num_rows] = Leaf(i, node)
                num_rows += 1
                num_leaves += 1
        self.num_waiting = num_rows
        return num_rows

    def select(self, int[::1] budget, float[:, :, :, ::1] planes):
        if self.num_waiting:
            raise RuntimeError("leaves of the last select wait for their evaluation")
        if budget.shape[0] != self.num_trees or planes.shape[1] != PLANES or not (
            planes.shape[2] == planes.shape[3] == self.size
        ):
            raise ValueError("budget or planes have the wrong shape")
        if planes.shape[0] == 0:
            raise ValueError("planes have no room for a leaf")
        cdef int num_rows
        with nogil:
            num_rows = self.select_trees(&budget[0], &planes[0, 0, 0, 0], planes.shape[0])
        return num_rows

    def expand(self, logits, const float[::1] value, const float[::1] score):
        cdef const float[:, ::1] weights
        cdef int i, num_rows = self.num_waiting
        cdef double share = self.constants.score_utility
        if not (logits.shape[0] == value.shape[0] == score.shape[0] == num_rows) or (
            num_rows and logits.shape[1] != self.size * self.size + 1
        ):
            raise ValueError(f"{num_rows} leaves wait, but logits have {logits.shape[0]} rows")
        if not all(np.isfinite(numbers).all() for numbers in (logits, value, score)):
            self.discard()
            raise ValueError("the network's answer holds NaN or infinity")
        weights = exponentials(logits)
        self.num_waiting = 0
        with nogil:
            for i in range(num_rows):
                expand_leaf(
                    &self.trees[self.waiting[i].tree].arena, self.waiting[i].node, &weights[i, 0],
                    value[i], score[i], utility_of(value[i], score[i], self.size, share),
                )

    def discard(self):
        cdef int i
        for i in range(self.num_waiting):
            forget_leaf(&self.trees[self.waiting[i].tree].arena, self.waiting[i].node)
        self.num_waiting = 0

    def moves(self, int tree):
        cdef Arena* arena = &self.tree_at(tree).arena
        cdef Statistics[::1] view
        cdef Edge* edge
        cdef int i
        array = np.zeros(self.size * self.size + 1, STATISTICS)
        array["value"] = array["win"] = array["score"] = NAN
        view = array
        for i in range(arena.nodes[0].num_edges):
            edge = &arena.edges[i]
            if edge.child != NO_NODE:
                view[edge.move] = statistics_of(&arena.nodes[edge.child], -1)
                view[edge.move].value = edge_value(arena, edge)
            view[edge.move].prior = edge.prior
        return array

    def root(self, int tree):
        cdef Node* root = &self.tree_at(tree).arena.nodes[0]
        cdef Statistics[::1] view
        array = np.zeros(1, STATISTICS)
        view = array
        if root.visits:
            view[0] = statistics_of(root, 1)
        return array[0]

    def num_visits(self, int tree):
        return self.tree_at(tree).arena.nodes[0].visits

    def best_move(self, int tree):
        cdef Tree* t = self.tree_at(tree)
        cdef Arena* arena = &t.arena
        cdef int i, move = self.size * self.size, most = max_visits(arena)
        cdef double mixed, score, best_score = -INFINITY
        if t.gumbels != NULL and arena.nodes[0].num_edges:
            return arena.edges[select_gumbel(t, &self.constants, most)].move
        mixed = mixed_value(arena)
        # A pass that a pass refutes, the last edge, is played only when nothing else was looked at.
        for i in range(arena.nodes[0].num_edges - arena.nodes[0].pass_loses):
            if TRUSTED * edge_visits(arena, &arena.edges[i]) >= most:
                score = completed_logit(arena, &arena.edges[i], mixed, most, &self.constants)
                if score > best_score:
                    best_score, move = score, arena.edges[i].move
        return move

    def principal_variation(self, int tree, int move, int max_length):
        cdef Arena* arena = &self.tree_at(tree).arena
        cdef int node = 0, i, best
        cdef Node* parent
        moves = []
        while len(moves) < max_length and node != NO_NODE and arena.nodes[node].num_edges:
            parent = &arena.nodes[node]
            best = parent.first_edge
            for i in range(parent.first_edge, parent.first_edge + parent.num_edges):
                if not moves and arena.edges[i].move == move:
                    best = i
                    break
                if edge_visits(arena, &arena.edges[i]) > edge_visits(arena, &arena.edges[best]):
                    best = i
            if moves and arena.edges[best].child == NO_NODE:
                break
            moves.append(arena.edges[best].move if moves else move)
            node = arena.edges[best].child
        return moves or [move]

    def noise(self, int tree, noise, float frac=0.25):
        cdef Tree* t = self.tree_at(tree)
        free(t.noise)
        t.noise = NULL
        if noise is not None:
            t.noise = self.copy_floats(noise)
            t.noise_frac = frac

    def gumbel(self, int tree, gumbels, schedule):
        cdef Tree* t = self.tree_at(tree)
        cdef Node* root = &t.arena.nodes[0]
        cdef const int[::1] visits
        cdef int i
        clear_root_choice(t)
        if root.state != EXPANDED:
            raise ValueError("Gumbel numbers need a root that is evaluated")
        visits = np.ascontiguousarray(schedule, dtype=np.int32)
        t.gumbels = self.copy_floats(gumbels)
        t.num_scheduled = visits.shape[0]
        t.schedule = <int*>grow(NULL, (t.num_scheduled + 1) * sizeof(int))
        for i in range(t.num_scheduled):
            t.schedule[i] = visits[i]
        forget_simulations(&t.arena)

    cdef float* copy_floats(self, values) except NULL:
        """Return a copy of (A,) floats that the tree frees."""
        cdef const float[::1] view = np.ascontiguousarray(values, dtype=np.float32)
        cdef float* copy
        if view.shape[0] != self.size * self.size + 1:
            raise ValueError(f"{view.shape[0]} numbers for {self.size * self.size + 1} moves")
        copy = <float*>grow(NULL, view.shape[0] * sizeof(float))
        memcpy(copy, &view[0], view.shape[0] * sizeof(float))
        return copy

    def improved_policy(self, int tree):
        cdef Tree* t = self.tree_at(tree)
        cdef double mixed = mixed_value(&t.arena)
        cdef int i, most_visits = max_visits(&t.arena)
        logits = np.full(self.size * self.size + 1, -np.inf, dtype=np.float32)
        cdef float[::1] view = logits
        for i in range(t.arena.nodes[0].num_edges):
            view[t.arena.edges[i].move] = completed_logit(
                &t.arena, &t.arena.edges[i], mixed, most_visits, &self.constants
            )
        policy = np.exp(logits - logits.max())
        return policy / policy.sum()

    def memory_bytes(self):
        cdef int i
        cdef long num_bytes = 0, num_nodes = 0
        for i in range(self.num_trees):
            num_nodes += self.trees[i].arena.num_nodes
            num_bytes += self.trees[i].arena.num_nodes * sizeof(Node)
            num_bytes += self.trees[i].arena.num_edges * sizeof(Edge)
        return num_bytes, num_nodes

    def check(self):
        cdef int i, node
        for i in range(self.num_trees):
            self.tree_at(i)
            for node in range(self.trees[i].arena.num_nodes):
                self.check_node(&self.trees[i].arena, node)

    cdef int check_node(self, Arena* arena, int index) except -1:
        cdef Node* node = &arena.nodes[index]
        cdef Edge* edge
        cdef int i, num_visits = 1
        cdef double value_sum = node.value, prior_sum = 0
        if node.state != EXPANDED:
            assert node.state != WAITING and (node.visits == 0) == (node.state == FRESH)
            return 0
        for i in range(node.first_edge, node.first_edge + node.num_edges):
            edge = &arena.edges[i]
            num_visits += edge_visits(arena, edge)
            prior_sum += edge.prior
            if edge.child != NO_NODE:
                value_sum -= arena.nodes[edge.child].value_sum
                assert arena.nodes[edge.child].visits > 0, f"a child of node {index} has no visit"
                assert arena.nodes[edge.child].parent == index, f"parent of {edge.child}"
        assert node.visits == num_visits, f"visits of node {index}"
        assert node.pending == 0, f"node {index} waits for a value"
        assert abs(node.value_sum - value_sum) < 1e-6 * num_visits, f"values of node {index}"
        assert abs(prior_sum - 1) < 1e-4, f"priors of node {index}"
        return 0


cdef void forget_simulations(Arena* arena) noexcept nogil:
    """Keep of an expanded root only its own evaluation."""
    cdef Node* root = &arena.nodes[0]
    cdef int i
    arena.num_nodes, arena.num_edges = 1, root.num_edges
    root.visits, root.value_sum = 1, root.value
    root.win_sum, root.score_sum = root.win, root.score
    for i in range(root.num_edges):
        arena.edges[i].child = NO_NODE
