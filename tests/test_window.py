"""Window: the targets of a position stay with it, whoever moves and whichever way it is turned."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from minigo.config import Rules  # noqa: E402
from minigo.coords import BLACK, NUM_SYMMETRIES, WHITE, symmetry_table  # noqa: E402
from minigo.record import GameRecord  # noqa: E402
from minigo.window import UNKNOWN, Batch, Window, render  # noqa: E402

TABLE = symmetry_table(5)
MOVES = np.array([1, 13, 25, 7, 20], np.int16)  # the third one is a pass


def make_window(*records: GameRecord, seed: int = 1) -> Window:
    window = Window([records[0].size], np.random.default_rng(seed))
    window.add(records)
    return window


def human_game(**fields) -> GameRecord:
    return GameRecord(5, Rules(), MOVES, **fields)


def selfplay_game(plies=(1, 4)) -> GameRecord:
    policies = np.random.default_rng(2).dirichlet(np.ones(26), size=len(plies))
    return human_game(
        result=-1.0,
        score=-3.5,
        ownership=np.arange(25).astype(np.int8) % 3 - 1,
        policy_plies=np.array(plies, np.int16),
        policies=policies.astype(np.float16),
    )


def all_positions(window: Window, symmetry: int = 0) -> Batch:
    """Return the whole window, as arrays."""
    (ring,) = window.rings.values()
    batch = ring.batch(np.arange(len(window)), np.full(len(window), symmetry))
    return Batch(*(tensor.numpy() for tensor in batch))


@pytest.mark.parametrize("symmetry", range(NUM_SYMMETRIES))
def test_human_targets_are_the_moves_played(symmetry):
    batch = all_positions(make_window(human_game()), symmetry)
    assert batch.policy.argmax(1).tolist() == TABLE[symmetry, MOVES].tolist()
    assert batch.policy.sum(1).tolist() == [1] * 5 and batch.policy.max(1).tolist() == [1] * 5
    assert batch.reply.tolist() == [*TABLE[symmetry, MOVES[1:]], -1]


@pytest.mark.parametrize("size", (5, 19))
@pytest.mark.parametrize("symmetry", range(NUM_SYMMETRIES))
def test_a_batch_turned_is_that_of_the_game_turned(symmetry, size, rng):
    """Positions, policy, reply and ownership, of any game and in any symmetry, bit for bit."""
    to, area = symmetry_table(size)[symmetry], size * size
    moves = rng.permutation(area)[: area // 2].astype(np.int16)
    plies = np.arange(0, len(moves), 3, dtype=np.int16)
    policies = rng.dirichlet(np.ones(area + 1), size=len(plies)).astype(np.float16)
    owner = rng.integers(-1, 2, area, dtype=np.int8)
    known = {"result": 1.0, "score": 3.5, "policy_plies": plies}
    game = GameRecord(size, Rules(), moves, ownership=owner, policies=policies, **known)
    turned_owner, turned_policies = np.empty_like(owner), np.empty_like(policies)
    turned_owner[to[:-1]], turned_policies[:, to] = owner, policies
    turned = GameRecord(
        size, Rules(), to[moves], ownership=turned_owner, policies=turned_policies, **known
    )
    ours, theirs = all_positions(make_window(game), symmetry), all_positions(make_window(turned))
    for name, array in ours._asdict().items():
        assert array.tobytes() == getattr(theirs, name).tobytes(), name
    boards = [turned.board(ply) for ply in plies]
    assert np.array_equal(ours.positions, [board.encode() for board in boards])
    assert np.array_equal(ours.policy, turned_policies.astype(np.float32))
    signs = np.array([1 if board.to_play == BLACK else -1 for board in boards])
    assert np.array_equal(ours.ownership, signs[:, None] * turned_owner)
    assert np.array_equal(ours.score, signs * np.float32(3.5))


def test_selfplay_positions_are_those_searched_fully():
    batch = all_positions(make_window(selfplay_game(), selfplay_game(())))
    assert batch.reply.tolist() == [MOVES[2], -1]


def test_value_and_score_are_for_the_player_to_move():
    white_first = human_game(to_play=WHITE, result=1.0, score=2.5)
    batch = all_positions(make_window(selfplay_game((0, 1)), white_first))
    assert batch.value.tolist() == [-1, 1] + [-1, 1, -1, 1, -1]
    assert batch.score.tolist() == [-3.5, 3.5] + [-2.5, 2.5, -2.5, 2.5, -2.5]
    assert (batch.ownership == UNKNOWN).all(1).tolist() == [False] * 2 + [True] * 5


def test_unknown_targets_are_marked():
    batch = all_positions(make_window(human_game()))
    assert np.isnan(batch.value).all() and np.isnan(batch.score).all()
    assert (batch.ownership == UNKNOWN).all()
    # A draw is known.
    assert not all_positions(make_window(human_game(result=0.0))).value.any()


def test_sampling_is_uniform_over_positions_and_symmetries():
    window = make_window(human_game(), selfplay_game((2,)))
    batch = window.sample(6000)
    # Only the self-play game's one position of six has a value.
    assert abs((~batch.value.isnan()).float().mean() - 1 / 6) < 0.02
    first = (batch.positions[:, :-1] & 3 == 0).all(1)
    assert abs(first.float().mean() - 1 / 6) < 0.02
    moves = np.bincount(batch.policy[first].argmax(1), minlength=26)
    corners = TABLE[:, MOVES[0]]
    assert set(np.flatnonzero(moves)) == set(corners)
    assert moves[corners].min() > 0.08 * moves.sum()


def test_shapes_and_types():
    window = make_window(selfplay_game())
    batch = window.sample(7)
    kinds = [(tuple(tensor.shape), str(tensor.dtype)[6:]) for tensor in batch]
    assert kinds == [
        *(((7, 26), "int32"), ((7, 26), "float32"), ((7,), "int64")),
        *(((7,), "float32"), ((7,), "float32"), ((7, 25), "int8")),
    ]
    stored = [str(tensor.dtype)[6:] for tensor in window.rings[5].rows]
    assert stored == ["int32", "float16", "int16", "float32", "float32", "int8"]


def test_the_same_seed_gives_the_same_batches():
    a, b = (make_window(human_game(), selfplay_game(), seed=3).sample(20) for _ in range(2))
    for ours, theirs in zip(a, b, strict=True):
        assert ours.numpy().tobytes() == theirs.numpy().tobytes()


def test_the_ring_keeps_the_newest_positions_however_it_grows_and_wraps(rng):
    """Against a list: games of all lengths are added, and the window trimmed, in any order."""
    window, expected, total = Window([5], rng), [], 0
    for _ in range(200):
        moves = (5 * rng.integers(4) + np.arange(rng.integers(1, 6))).astype(np.int16)
        window.add([GameRecord(5, Rules(), moves)] * rng.integers(0, 4))
        expected += [*moves] * ((window.num_positions - total) // len(moves))
        total = window.num_positions
        if rng.random() < 0.3:
            keep = int(rng.integers(1, 100))
            window.trim(keep)
            expected = expected[-keep:]
        if len(window):
            assert all_positions(window).policy.argmax(1).tolist() == expected
    assert total > 700 and len(window.rings[5].rows.value) < 500


def test_some_plies_of_a_game_can_be_rendered():
    game = human_game(result=1.0)
    whole, some = render(game), render(game, [1, 4])
    for ours, theirs in zip(some, whole, strict=True):
        assert ours.tobytes() == theirs[[1, 4]].tobytes()


def test_batches_of_several_sizes_are_of_one_each_in_proportion(rng):
    window = Window((4, 5), rng)
    small = GameRecord(4, Rules(), np.arange(5, dtype=np.int16))
    window.add([human_game(), small, human_game(), human_game()])
    sizes = [window.sample(2).positions.shape[1] for _ in range(400)]
    assert 0.68 < np.mean(np.array(sizes) == 26) < 0.82
    window.size_exponent = -2
    sizes = [window.sample(2).positions.shape[1] for _ in range(2000)]
    assert 0.62 < np.mean(np.array(sizes) == 26) < 0.70  # 15 / 25 to 5 / 16, not 15 to 5
    window.size_exponent = 0
    assert (len(window), window.num_positions) == (20, 20)
    window.trim(16)
    window.add([small])
    window.trim(16)  # the newest stay, whatever their size
    assert [len(ring) for ring in window.rings.values()] == [5, 11]
    assert window.num_positions == 25
    window.add([small] * 300)
    sizes = [window.sample(2).positions.shape[1] for _ in range(1000)]
    assert 8 < sizes.count(26) < 40  # one in 50 is 20; in proportion 7
    with pytest.raises(ValueError, match=r"a 3x3 game among sizes \[4, 5\]"):
        window.add([GameRecord(3, Rules(), np.arange(2, dtype=np.int16))])
    with pytest.raises(ValueError, match="no position"):
        Window((4, 5), rng).sample(4)
