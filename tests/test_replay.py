"""Replay: the targets of a position stay with it, whoever moves and whichever way it is turned."""

import numpy as np
import pytest

from minigo._board import NUM_PLANES
from minigo.config import Rules
from minigo.coords import BLACK, NUM_SYMMETRIES, WHITE, symmetry_table
from minigo.record import GameRecord
from minigo.replay import Replay

TABLE = symmetry_table(5)
MOVES = np.array([1, 13, 25, 7, 20], np.int16)  # the third one is a pass


def make_replay(*records: GameRecord, seed: int = 1) -> Replay:
    replay = Replay([records[0].size], np.random.default_rng(seed))
    replay.add(records)
    return replay


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


def all_positions(replay: Replay, symmetry: int = 0):
    positions = np.arange(len(replay))
    return replay.batch(replay.sizes[0], positions, np.full(len(replay), symmetry))


@pytest.mark.parametrize("symmetry", range(NUM_SYMMETRIES))
def test_human_targets_are_the_moves_played(symmetry):
    record = human_game()
    batch = all_positions(make_replay(record), symmetry)
    assert batch.policy.argmax(1).tolist() == TABLE[symmetry, MOVES].tolist()
    assert batch.policy.sum(1).tolist() == [1] * 5 and batch.policy.max(1).tolist() == [1] * 5
    assert batch.reply.argmax(1)[:4].tolist() == TABLE[symmetry, MOVES[1:]].tolist()
    assert batch.reply_weight.tolist() == [1, 1, 1, 1, 0] and batch.reply[4].sum() == 0


@pytest.mark.parametrize("symmetry", range(NUM_SYMMETRIES))
def test_planes_are_those_of_the_board(symmetry):
    record = human_game()
    batch = all_positions(make_replay(record), symmetry)
    for ply in range(5):
        planes = np.empty((NUM_PLANES, 5, 5), np.float32)
        record.board(ply).write_planes(planes, symmetry)
        np.testing.assert_array_equal(batch.planes[ply], planes)


@pytest.mark.parametrize("symmetry", range(NUM_SYMMETRIES))
def test_stones_ownership_and_policy_turn_together(symmetry):
    record = selfplay_game()
    batch = all_positions(make_replay(record), symmetry)
    to = TABLE[symmetry, :-1]
    for row, ply in enumerate(record.policy_plies):
        own = np.empty(25, np.float32)
        own[to] = record.board(ply).stones().ravel() == record.board(ply).to_play
        np.testing.assert_array_equal(batch.planes[row, 0].ravel(), own)
        policy = record.policies[row].astype(np.float32)
        np.testing.assert_array_equal(batch.policy[row, TABLE[symmetry]], policy)
        sign = 1 if record.board(ply).to_play == BLACK else -1
        np.testing.assert_array_equal(batch.ownership[row].ravel()[to], sign * record.ownership)


def test_selfplay_positions_are_those_searched_fully():
    batch = all_positions(make_replay(selfplay_game(), selfplay_game(())))
    assert len(batch.value) == 2
    assert batch.reply.argmax(1)[0] == MOVES[2] and batch.reply_weight.tolist() == [1, 0]


def test_value_and_score_are_for_the_player_to_move():
    white_first = human_game(to_play=WHITE, result=1.0, score=2.5)
    batch = all_positions(make_replay(selfplay_game((0, 1)), white_first))
    assert batch.value.tolist() == [-1, 1] + [-1, 1, -1, 1, -1]
    assert batch.score.tolist() == [-3.5, 3.5] + [-2.5, 2.5, -2.5, 2.5, -2.5]
    assert batch.value_weight.tolist() == batch.score_weight.tolist() == [1] * 7
    assert batch.ownership_weight.tolist() == [1, 1, 0, 0, 0, 0, 0]


def test_unknown_targets_have_weight_zero():
    batch = all_positions(make_replay(human_game()))
    for weight in (batch.value_weight, batch.score_weight, batch.ownership_weight):
        assert weight.tolist() == [0] * 5 and weight.dtype == np.float32
    assert not batch.value.any() and not batch.score.any() and not batch.ownership.any()


def test_a_draw_is_known():
    batch = all_positions(make_replay(human_game(result=0.0)))
    assert batch.value.tolist() == [0] * 5 and batch.value_weight.tolist() == [1] * 5


def test_sampling_is_uniform_over_positions_and_symmetries():
    replay = make_replay(human_game(), selfplay_game((2,)))
    batch = replay.sample(6000)
    shares = batch.value_weight.mean()  # only the self-play game's one position of six has a value
    assert abs(shares - 1 / 6) < 0.02
    first = batch.planes[:, 0].sum((1, 2)) + batch.planes[:, 1].sum((1, 2)) == 0
    assert abs(first.mean() - 1 / 6) < 0.02
    moves = np.bincount(batch.policy[first].argmax(1), minlength=26)
    corners = TABLE[:, MOVES[0]]
    assert set(np.flatnonzero(moves)) == set(corners)
    assert moves[corners].min() > 0.08 * moves.sum()


def test_shapes_and_types():
    batch = make_replay(selfplay_game()).sample(7)
    shapes = {"planes": (NUM_PLANES, 5, 5), "policy": (26,), "reply": (26,), "ownership": (5, 5)}
    for name, array in vars(batch).items():
        assert array.shape == (7, *shapes.get(name, ())), name
        assert array.dtype == np.float32 and array.flags.c_contiguous, name


def test_the_same_seed_gives_the_same_batches():
    a, b = (make_replay(human_game(), selfplay_game(), seed=3).sample(20) for _ in range(2))
    for name in vars(a):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@pytest.mark.parametrize(
    ("window", "left"), [(20, 15), (15, 15), (14, 10), (10, 10), (1, 5), (0, 5)]
)
def test_trim_drops_the_oldest_games(window, left):
    replay = make_replay(*(human_game(result=float(k)) for k in (-1, 0, 1)))
    replay.trim(window)
    assert len(replay) == left == 5 * len(replay._games[5]) and replay.num_positions == 15
    values = all_positions(replay).value.reshape(-1, 5)[:, 0]
    assert values.tolist() == [-1, 0, 1][3 - left // 5 :]


def test_added_games_count_after_trimming():
    replay = make_replay(human_game(), human_game())
    replay.trim(5)
    replay.add([human_game()])
    assert (len(replay), replay.num_positions) == (10, 15)


def test_batches_of_several_sizes_are_of_one_each_in_proportion(rng):
    replay = Replay((4, 5), rng)
    small = GameRecord(4, Rules(), np.arange(5, dtype=np.int16))
    replay.add([human_game(), small, human_game(), human_game()])
    sizes = [replay.sample(2).planes.shape[-1] for _ in range(400)]
    assert 0.68 < np.mean(np.array(sizes) == 5) < 0.82
    assert (len(replay), replay.num_positions) == (20, 20)
    replay.trim(10)  # 3 or 7 of each size's 5 and 15, in whole games, one at least
    assert (len(replay), replay.num_positions) == (10, 20)
    with pytest.raises(ValueError, match=r"a 3x3 game among sizes \[4, 5\]"):
        replay.add([GameRecord(3, Rules(), np.arange(2, dtype=np.int16))])
    with pytest.raises(ValueError, match="no position"):
        Replay((4, 5), rng).sample(4)
