"""Search trees over struct arrays: select, expand, backup; evaluates nothing.

From the middle: `select_edge` and `backup`, the whole idea; `select_gumbel`, for the other root.
Bottom up: `add_node`, then one simulation (`select_leaf`, `start_leaf`, `expand_leaf`). Top down:
`Forest.select` and `expand`, between which `search.py` asks the network. `_tree.pxd` has the structs.
"""

from libc.math cimport M_PI, INFINITY, NAN, atan, isfinite, log, sqrt
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

import numpy as np

from ._board cimport BLACK, copy_history, copy_position, grow, play_known, score_of, write_input

STATISTICS = np.dtype([("visits", "i4")] + [(name, "f4") for name in ("prior", "value", "win", "score")])
cdef double C_PUCT = 1.1            # exploration at few visits (KataGo's cpuctExploration in self-play)
cdef double C_PUCT_LOG = 0.45       # its growth with log visits (KataGo's cpuctExplorationLog)
cdef double C_PUCT_BASE = 500       # visits at which the growth sets in (KataGo)
cdef double FPU_REDUCTION = 0.2     # first-play value = Q - this * sqrt(visited prior) (KataGo)
cdef double NOISE_FRAC = 0.25       # share of the noise in a noised root's prior (AlphaZero)
cdef double C_VISIT = 50, C_SCALE = 1   # sigma(q) = (C_VISIT + max N) C_SCALE q (Danihelka et al. 2022)
MAX_EDGES = 20_000_000  # of a tree: 0.24 GB, and until the next move as much for what it cuts off
cdef Node FRESH_NODE    # as memory is at first: all zero


cdef int add_node(Arena* arena, const Node* node, int parent) except -1 nogil:
    """Append a copy of a node, under another parent, and return its index."""
    if arena.num_nodes == arena.node_capacity:
        arena.nodes = <Node*>grow(arena.nodes, (2 * arena.num_nodes + 16) * sizeof(Node))
        arena.node_capacity = 2 * arena.num_nodes + 16
    arena.nodes[arena.num_nodes] = node[0]
    arena.nodes[arena.num_nodes].parent = parent
    arena.num_nodes += 1
    return arena.num_nodes - 1


cdef int reserve_edges(Arena* arena, int num_more) except -1 nogil:
    """Make room for `num_more` edges."""
    cdef int capacity = 2 * arena.edge_capacity + num_more
    if arena.num_edges + num_more > arena.edge_capacity:
        arena.edges = <Edge*>grow(arena.edges, capacity * sizeof(Edge))
        arena.edge_capacity = capacity
    return 0


cdef int copy_subtree(Arena* target, const Arena* source, int root) except -1 nogil:
    """Fill `target` with what is under a node of `source`, breadth first; NO_NODE: a new tree."""
    cdef int i = 0, k, first, num_edges
    target.num_nodes = target.num_edges = 0
    add_node(target, &FRESH_NODE if root == NO_NODE else &source.nodes[root], NO_NODE)
    while i < target.num_nodes:
        first, num_edges = target.nodes[i].first_edge, target.nodes[i].num_edges
        reserve_edges(target, num_edges)
        memcpy(&target.edges[target.num_edges], &source.edges[first], num_edges * sizeof(Edge))
        target.nodes[i].first_edge = target.num_edges
        target.num_edges += num_edges
        for k in range(target.nodes[i].first_edge, target.num_edges):
            if target.edges[k].child != NO_NODE:
                target.edges[k].child = add_node(target, &source.nodes[target.edges[k].child], i)
        i += 1
    return 0


cdef inline double edge_value(const Arena* arena, const Edge* edge) noexcept nogil:
    """Return Q(s, a) of a visited edge, for the player to move at s: minus the child's own mean.

    A visit under way counts as lost, which puts the next one off the same way (AlphaGo's n_vl = 1).
    """
    cdef const Node* child = &arena.nodes[edge.child]
    return -(child.value_sum + child.pending) / child.visits


cdef int select_edge(const Tree* tree, int index, int depth, const int* until) noexcept nogil:
    """Return the index of the edge of a node that maximises Q(s, a) + U(s, a).

    U(s, a) = C(s) P(s, a) sqrt(N(s) - 1) / (1 + N(s, a)), where C(s) = C_PUCT + C_PUCT_LOG *
    log((N(s) + C_PUCT_BASE) / C_PUCT_BASE) (AlphaZero, with KataGo's constants). An edge not
    visited yet has Q = Q(s) - FPU_REDUCTION * sqrt(sum of P over visited edges), so that only the
    one with the largest prior counts; at a root with noise there is no reduction (KataGo). Ties go
    to the first edge; where none counts, pass. A pass that a pass answers with a win has no prior: no
    network's belief stands against the count. until: for each move the depth from which it counts.
    """
    cdef const Arena* arena = &tree.arena
    cdef const Node* node = &arena.nodes[index]
    cdef bint has_noise = index == 0 and tree.root == NOISED
    cdef double c = C_PUCT + C_PUCT_LOG * log((node.visits + C_PUCT_BASE) / C_PUCT_BASE)
    cdef double scale = c * sqrt(node.visits - 1 + 0.01)    # at the first simulation the prior decides
    cdef double prior, visits, score, fpu, visited_prior = 0, fresh_prior = -1
    cdef double best_score = -INFINITY
    cdef int i, best = node.first_edge + node.num_edges - 1, fresh = -1
    cdef const Edge* edge
    for i in range(node.first_edge, node.first_edge + node.num_edges):
        edge = &arena.edges[i]
        if until != NULL and depth < until[edge.move]:
            continue
        prior = edge.prior
        if node.pass_loses and i == node.first_edge + node.num_edges - 1:
            prior = 0
        elif has_noise:
            prior += NOISE_FRAC * (tree.random[edge.move] - prior)
        if edge.child == NO_NODE:
            if prior > fresh_prior:
                fresh_prior, fresh = prior, i
            continue
        visited_prior += prior
        visits = arena.nodes[edge.child].visits
        score = edge_value(arena, edge) + scale * prior / (1 + visits)
        if score > best_score:
            best_score, best = score, i
    if fresh < 0:
        return best
    fpu = node.value_sum / (node.visits - node.pending)
    if not has_noise:
        fpu -= FPU_REDUCTION * sqrt(visited_prior)
    score = fpu + scale * fresh_prior
    return fresh if score > best_score or (score == best_score and fresh < best) else best


cdef double mixed_value(const Arena* arena, int* most_visits) noexcept nogil:
    """Return what stands in for Q of root moves not visited (Danihelka et al. 2022, eq. 33).

    most_visits: set to those of the root's most visited edge.
    """
    cdef const Node* root = &arena.nodes[0]
    cdef double prior_sum = 0, weighted = 0
    cdef int i
    most_visits[0] = 0
    for i in range(root.num_edges):
        if arena.edges[i].child != NO_NODE:
            most_visits[0] = max(most_visits[0], arena.nodes[arena.edges[i].child].visits)
            prior_sum += arena.edges[i].prior
            weighted += arena.edges[i].prior * edge_value(arena, &arena.edges[i])
    if prior_sum <= 0:
        return root.value
    return (root.value + (root.visits - 1) * weighted / prior_sum) / root.visits


cdef inline int edge_visits(const Arena* arena, const Edge* edge) noexcept nogil:
    """Return N(s, a)."""
    return arena.nodes[edge.child].visits if edge.child != NO_NODE else 0


cdef double completed_logit(
    const Arena* arena, const Edge* edge, double mixed, int most_visits
) noexcept nogil:
    """Return logit + sigma(completed Q), with Q in [0, 1]."""
    cdef double q = (1 + (edge_value(arena, edge) if edge.child != NO_NODE else mixed)) / 2
    return log(edge.prior + 1e-30) + (C_VISIT + most_visits) * C_SCALE * q


cdef int select_gumbel(const Tree* tree, int num_visits) noexcept nogil:
    """Return the edge of the best gumbel + logit + sigma(Q) among root moves of so many visits.

    -1 if there is none. num_visits -1: the move to play, from the most visited; without Gumbel
    numbers from all with 1/TRUSTED of the most visits, but a refuted pass. sigma(Q) trusts values more
    than visits do (Danihelka et al. 2022, section 5): some 50 Elo at 64 simulations (selfplay/LOG.md).
    """
    cdef const Arena* arena = &tree.arena
    cdef int i, most_visits, best = -1, num_edges = arena.nodes[0].num_edges
    cdef double mixed = mixed_value(arena, &most_visits), score, best_score = -INFINITY
    cdef int most = num_visits if num_visits >= 0 else most_visits
    cdef int least = most if tree.root == GUMBEL else (most + TRUSTED - 1) // TRUSTED
    if tree.root != GUMBEL:
        num_edges -= arena.nodes[0].pass_loses      # pass is the last
    for i in range(num_edges):
        if least <= edge_visits(arena, &arena.edges[i]) <= most:
            score = completed_logit(arena, &arena.edges[i], mixed, most_visits)
            if tree.root == GUMBEL:
                score += tree.random[arena.edges[i].move]
            if score > best_score:
                best_score, best = score, i
    return best


cdef int choose_edge(const Tree* tree, int index, const Position* position) noexcept nogil:
    """Return the edge on which a simulation leaves a node.

    A pass that would end the game comes first, if nobody looked at it yet: what the rules count
    there is certain and costs no evaluation. But a Gumbel root has its schedule; all else is PUCT.
    """
    cdef const Node* node = &tree.arena.nodes[index]
    cdef int edge = node.first_edge + node.num_edges - 1    # pass is the last
    cdef int depth = position.num_moves - tree.position.num_moves
    cdef const int* until = tree.avoided_until[position.to_play] if tree.has_avoided else NULL
    if index == 0 and tree.root == GUMBEL:
        if node.visits <= tree.num_scheduled:
            edge = select_gumbel(tree, tree.schedule[node.visits - 1])
            if edge >= 0:
                return edge
    elif position.num_passes and tree.arena.edges[edge].child == NO_NODE:
        if until == NULL or depth >= until[tree.arena.edges[edge].move]:
            return edge
    return select_edge(tree, index, depth, until)


cdef int select_leaf(Tree* tree, Position* position) except -1 nogil:
    """Go down to a node that isn't expanded, `position` and the tree's history with it."""
    cdef Arena* arena = &tree.arena
    cdef int node = 0, edge
    copy_position(position, tree.position)
    tree.history.count = tree.num_root_keys
    while arena.nodes[node].state == EXPANDED:
        edge = choose_edge(tree, node, position)
        play_known(position, &tree.history, arena.edges[edge].move)
        if arena.edges[edge].child == NO_NODE:
            arena.edges[edge].child = add_node(arena, &FRESH_NODE, node)
        node = arena.edges[edge].child
    return node


cdef void add_pending(Arena* arena, int node, int num_visits) noexcept nogil:
    """Add 1 or -1 visit without a value, yet, on the way to a node."""
    while node != NO_NODE:
        arena.nodes[node].visits += num_visits
        arena.nodes[node].pending += num_visits
        node = arena.nodes[node].parent


cdef inline double utility_of(double value, double score, int size, double share) noexcept nogil:
    """Mix winning and points, both in [-1, 1]: points are squashed on the scale of the width."""
    return (1 - share) * value + share * 2 / M_PI * atan(score / size)


cdef void backup(Arena* arena, int node) noexcept nogil:
    """Give the pending visits on the way to a leaf its numbers, which change sign at each step."""
    cdef const Node* leaf = &arena.nodes[node]
    cdef double value = leaf.value, win = leaf.win, score = leaf.score
    while node != NO_NODE:
        arena.nodes[node].pending -= 1
        arena.nodes[node].value_sum += value
        arena.nodes[node].win_sum += win
        arena.nodes[node].score_sum += score
        value, win, score = -value, -win, -score
        node = arena.nodes[node].parent


cdef void forget_leaf(Arena* arena, int node) noexcept nogil:
    """Make a WAITING node as if it had never been reached."""
    cdef int i
    add_pending(arena, node, -1)
    arena.nodes[node].state = FRESH
    if node == 0:
        arena.num_edges = arena.nodes[0].num_edges = 0
    for i in range(arena.num_edges):
        if arena.edges[i].child == node:
            arena.edges[i].child = NO_NODE


cdef void finish_terminal(Tree* tree, int node, Position* position, double share) noexcept nogil:
    """Back up the result of a finished game, counted by the rules."""
    cdef int8_t owner[MAX_MOVES]
    cdef Node* leaf = &tree.arena.nodes[node]
    leaf.score = score_of(position, owner) * (1 if position.to_play == BLACK else -1)
    leaf.win = (leaf.score > 0) - (leaf.score < 0)
    leaf.value = utility_of(leaf.win, leaf.score, position.size, share)
    leaf.state = TERMINAL
    backup(&tree.arena, node)
    if leaf.win < 0 and leaf.parent > 0:   # who passed first has lost, and could have played on
        tree.arena.nodes[tree.arena.nodes[leaf.parent].parent].pass_loses = True


cdef int start_leaf(Tree* tree, int index, Position* position, int32_t* words) except -1 nogil:
    """Encode a fresh node's position and give it an edge for each legal move; it is WAITING then."""
    cdef uint16_t moves[MAX_MOVES + 1]
    cdef int i, num_moves = write_input(position, &tree.history, words, moves)
    cdef Node* leaf = &tree.arena.nodes[index]
    reserve_edges(&tree.arena, num_moves)
    leaf.first_edge, leaf.num_edges = tree.arena.num_edges, num_moves
    for i in range(num_moves):
        tree.arena.edges[leaf.first_edge + i] = Edge(prior=0, child=NO_NODE, move=moves[i])
    tree.arena.num_edges += num_moves
    leaf.state = WAITING
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
    leaf.value, leaf.win, leaf.score = value, win, score
    backup(arena, node)


cdef Statistics statistics_of(const Node* node, int sign) noexcept nogil:
    """Return the means of a visited node; sign -1: for the player who moved there."""
    cdef double visits = node.visits
    return Statistics(
        node.visits, 1, sign * node.value_sum / visits, sign * node.win_sum / visits,
        sign * node.score_sum / visits,
    )


cdef int find_child(const Arena* arena, int move) noexcept nogil:
    """Return the node after a move at the root, or NO_NODE."""
    cdef int i
    for i in range(arena.nodes[0].num_edges):
        if arena.edges[i].move == move:
            return arena.edges[i].child
    return NO_NODE


cdef class Forest:
    """Trees that are searched together: one per position, all of one board size.

    Each stops growing at `max_edges`, at first MAX_EDGES: it is searched as it would be alone.
    """

    def __cinit__(self, boards, config):
        """Start a tree at each board; the boards are copied, and are for reading: `advance` plays."""
        cdef int i
        if not boards or any(board.size != boards[0].size for board in boards):
            raise ValueError("a forest needs boards, all of one size")
        self.size = boards[0].size
        self.num_moves = self.size * self.size + 1
        self.max_edges = MAX_EDGES
        self.score_utility, self.leaves = config.score_utility, config.leaves
        self.boards = [board.copy() for board in boards]
        self.trees = <Tree*>calloc(len(boards), sizeof(Tree))
        self.waiting = <Leaf*>calloc(len(boards) * config.leaves, sizeof(Leaf))
        if self.trees == NULL or self.waiting == NULL:
            raise MemoryError
        self.num_trees = len(boards)
        for i in range(self.num_trees):
            self.set_root(&self.trees[i], self.boards[i], NO_NODE)

    def __dealloc__(self):
        cdef int i
        for i in range(self.num_trees):
            free(self.trees[i].history.keys)
            free(self.trees[i].schedule)
            free(self.trees[i].arena.nodes)
            free(self.trees[i].arena.edges)
        free(self.trees)
        free(self.waiting)
        free(self.spare.nodes)
        free(self.spare.edges)

    cdef Tree* tree_at(self, int tree) except NULL:
        if not 0 <= tree < self.num_trees:
            raise IndexError(f"tree {tree} of {self.num_trees}")
        if self.num_waiting:
            raise RuntimeError("leaves of the last select wait for their evaluation")
        return &self.trees[tree]

    cdef int set_root(self, Tree* tree, Board board, int node) except -1:
        """Put the root at one of `boards`, with what is known of it in a node, if any."""
        tree.position = &board.pos
        copy_history(&tree.history, &board.history)
        tree.num_root_keys = tree.history.count
        tree.root = PLAIN   # the random numbers were for another root
        tree.has_avoided = False
        copy_subtree(&self.spare, &tree.arena, node)
        tree.arena, self.spare = self.spare, tree.arena
        return 0

    def reset(self, int tree, board):
        """Throw a tree away and start it again at a copy of `board`."""
        cdef Tree* t = self.tree_at(tree)
        if board.size != self.size:
            raise ValueError(f"a board of size {board.size} in a forest of size {self.size}")
        self.boards[tree] = board.copy()
        self.set_root(t, self.boards[tree], NO_NODE)

    def advance(self, int tree, int move):
        """Play `move` at the root and keep what the tree knows about it. Raises IllegalMove."""
        cdef Tree* t = self.tree_at(tree)
        self.boards[tree].play(move)
        self.set_root(t, self.boards[tree], find_child(&t.arena, move))

    def select(self, int[::1] budget, int32_t[:, ::1] words):
        """Go down from the roots to leaves that need an evaluation, and encode their positions.

        budget: (T,) int32, simulations still to do for each tree; each one started is taken off,
        also those that end in a finished game and need no evaluation; none is left to a tree of
        `max_edges`. words: (B, A), rows as `Board.encode` returns them; returns how many were
        written, at most `config.leaves` a tree.
        """
        cdef int i, node, most_rows
        cdef Tree* tree
        self.tree_at(0)     # raises while leaves wait
        if (budget.shape[0], words.shape[1]) != (self.num_trees, self.num_moves) or not len(words):
            raise ValueError("budget or words have the wrong shape")
        with nogil:
            for i in range(self.num_trees):
                tree = &self.trees[i]
                most_rows = min(self.num_waiting + self.leaves, words.shape[0])
                if tree.arena.num_edges >= self.max_edges:
                    budget[i] = 0
                while budget[i] > 0 and self.num_waiting < most_rows:
                    node = select_leaf(tree, &self.scratch)
                    if tree.arena.nodes[node].state == WAITING:
                        break
                    add_pending(&tree.arena, node, 1)
                    budget[i] -= 1
                    if self.scratch.num_passes >= 2:
                        finish_terminal(tree, node, &self.scratch, self.score_utility)
                        continue
                    start_leaf(tree, node, &self.scratch, &words[self.num_waiting, 0])
                    self.waiting[self.num_waiting] = Leaf(i, node)
                    self.num_waiting += 1
        return self.num_waiting

    def expand(self, logits, const float[::1] value, const float[::1] score):
        """Give the leaves of the last `select` their evaluations and back them up.

        logits: (B, A); value: (B,) in [-1, 1] and score: (B,) points, both for the player to
        move at the leaf. All float32, rows in the order of `words`. Discards the leaves and
        raises ValueError where one holds NaN or infinity, but for a logit of -inf: no prior.
        """
        cdef const float[:, ::1] weights
        cdef const float[::1] largest
        cdef int i, num_rows = self.num_waiting
        if logits.shape != (num_rows, self.num_moves) or (
            not value.shape[0] == score.shape[0] == num_rows
        ):
            raise ValueError(f"{num_rows} leaves wait, but logits are {logits.shape}")
        # NumPy's exp is several times as fast as libm's; no row's legal moves may sum up to 0.
        peaks = logits.max(axis=1, keepdims=True)   # NaN where one is
        largest = peaks[:, 0]
        for i in range(num_rows):
            if not isfinite(largest[i] + value[i] + score[i]):
                self.discard()
                raise ValueError("the network's answer holds NaN or infinity")
        weights = np.exp(np.maximum(logits - peaks, -80))
        self.num_waiting = 0
        with nogil:
            for i in range(num_rows):
                expand_leaf(
                    &self.trees[self.waiting[i].tree].arena, self.waiting[i].node, &weights[i, 0],
                    value[i], score[i], utility_of(value[i], score[i], self.size, self.score_utility),
                )

    def discard(self):
        """Take back the leaves that wait for `expand`, as if they had not been selected."""
        cdef int i
        for i in range(self.num_waiting):
            forget_leaf(&self.trees[self.waiting[i].tree].arena, self.waiting[i].node)
        self.num_waiting = 0

    def moves(self, int tree):
        """Return (A,) STATISTICS of the root's moves, all for the player to move there.

        visits: N(s, a). prior: the network's policy over the legal moves, without noise. value:
        Q(s, a), a utility, which holds the share `score_utility` of points. win: the mean result,
        +1 = he wins. score: points. The last three are NaN where there is no visit.
        """
        cdef Arena* arena = &self.tree_at(tree).arena
        cdef Statistics[::1] view
        cdef Edge* edge
        cdef int i
        array = np.zeros(self.num_moves, STATISTICS)
        array["value"] = array["win"] = array["score"] = NAN
        view = array
        for i in range(arena.nodes[0].num_edges):
            edge = &arena.edges[i]
            if edge.child != NO_NODE:
                view[edge.move] = statistics_of(&arena.nodes[edge.child], -1)
            view[edge.move].prior = edge.prior
        return array

    def root(self, int tree):
        """Return one of STATISTICS: visits and means of the root, zeros where it has no visit."""
        cdef Node* root = &self.tree_at(tree).arena.nodes[0]
        array = np.zeros(1, STATISTICS)
        cdef Statistics[::1] view = array
        if root.visits:
            view[0] = statistics_of(root, 1)
        return array[0]

    def num_visits(self, int tree):
        """Return the visits of the root, its own evaluation included."""
        return self.tree_at(tree).arena.nodes[0].visits

    def best_move(self, int tree):
        """Return the move to play (`select_gumbel`); unvisited the likeliest, without moves pass."""
        cdef Tree* t = self.tree_at(tree)
        cdef int edge = select_gumbel(t, -1)
        return self.num_moves - 1 if edge < 0 else t.arena.edges[edge].move

    def principal_variation(self, int tree, int move, int max_length):
        """Return `move` and the most visited moves after it, each with its visits."""
        cdef Arena* arena = &self.tree_at(tree).arena
        cdef int node = find_child(arena, move), i, best
        moves = [(move, arena.nodes[node].visits if node != NO_NODE else 0)]
        while len(moves) < max_length and node != NO_NODE and arena.nodes[node].num_edges:
            best = arena.nodes[node].first_edge
            for i in range(best + 1, best + arena.nodes[node].num_edges):
                if edge_visits(arena, &arena.edges[i]) > edge_visits(arena, &arena.edges[best]):
                    best = i
            node = arena.edges[best].child
            if node != NO_NODE:
                moves.append((arena.edges[best].move, arena.nodes[node].visits))
        return moves

    cdef Tree* randomise(self, int tree, const float[::1] numbers, RootKind root) except NULL:
        """Give a root a number for each move; return its tree."""
        cdef Tree* t = self.tree_at(tree)
        if numbers.shape[0] != self.num_moves:
            raise ValueError(f"{numbers.shape[0]} numbers for {self.num_moves} moves")
        memcpy(t.random, &numbers[0], self.num_moves * sizeof(float))
        t.root = root
        return t

    def noise(self, int tree, const float[::1] noise):
        """Mix (A,) noise into the root's prior until the next move."""
        self.randomise(tree, noise, NOISED)

    def avoid(self, int tree, const int[:, ::1] until):
        """Keep moves out until the next root: (3, A) int32, by colour, the depth they wait for."""
        cdef Tree* t = self.tree_at(tree)
        (<int[:3, :MAX_MOVES + 1]>&t.avoided_until[0][0])[:, :self.num_moves] = until
        t.has_avoided = True

    def gumbel(self, int tree, const float[::1] gumbels, const int[::1] schedule):
        """Choose root moves by (A,) Gumbel noise and a schedule of visit counts.

        schedule: (n,) int32: simulation i goes to the best move that has schedule[i] visits
        (sequential halving, as a table). The root starts again from its own evaluation, which it
        must have: ValueError.
        """
        cdef Node* root = &self.tree_at(tree).arena.nodes[0]
        cdef Tree* t
        cdef int i
        if root.state != EXPANDED:
            raise ValueError("Gumbel numbers need a root that is evaluated")
        t = self.randomise(tree, gumbels, GUMBEL)
        t.num_scheduled = schedule.shape[0]
        t.schedule = <int*>grow(t.schedule, (t.num_scheduled + 1) * sizeof(int))
        for i in range(t.num_scheduled):
            t.schedule[i] = schedule[i]
        t.arena.num_nodes, t.arena.num_edges = 1, root.num_edges
        root.visits, root.value_sum, root.win_sum, root.score_sum = 1, root.value, root.win, root.score
        for i in range(root.num_edges):
            t.arena.edges[i].child = NO_NODE

    def improved_policy(self, int tree):
        """Return (A,) float32 softmax(logits + sigma(completed Q)) (Danihelka et al., eq. 11)."""
        cdef Arena* arena = &self.tree_at(tree).arena
        cdef int i, most_visits
        cdef double mixed = mixed_value(arena, &most_visits)
        logits = np.full(self.num_moves, -np.inf, dtype=np.float32)
        cdef float[::1] view = logits
        for i in range(arena.nodes[0].num_edges):
            view[arena.edges[i].move] = completed_logit(arena, &arena.edges[i], mixed, most_visits)
        policy = np.exp(logits - logits.max())
        return policy / policy.sum()

    def arrays(self, int tree):
        """Return copies of a tree's nodes and edges: arrays of the structs of `_tree.pxd`."""
        cdef Arena* arena = &self.tree_at(tree).arena
        reserve_edges(arena, 1)     # there is no view of nothing
        edges = np.array(<Edge[:arena.num_edges + 1]>arena.edges)
        return np.array(<Node[:arena.num_nodes]>arena.nodes), edges[:arena.num_edges]
