"""Self-play games: legal, counted, with targets; the same seed gives the same games."""

import numpy as np
import pytest

pytest.importorskip("torch")
from minigo.config import Recipe, SearchConfig, SelfplayConfig  # noqa: E402
from minigo.coords import BLACK, EMPTY  # noqa: E402
from minigo.selfplay import SelfPlay  # noqa: E402
from test_search import FakeEvaluator  # noqa: E402


def make_selfplay(seed=3, root="gumbel", simulations=8, **selfplay) -> SelfPlay:
    search = SearchConfig(root=root, simulations=simulations)
    config = SelfplayConfig(**{"games_at_once": 4} | selfplay)
    recipe = Recipe(size=5, search=search, selfplay=config)
    return SelfPlay(FakeEvaluator(), recipe, np.random.default_rng(seed))


def play(num_games=6, **config):
    selfplay, records = make_selfplay(**config), []
    while len(records) < num_games:
        records += selfplay.step()
    return records


@pytest.mark.parametrize("root", ["puct", "gumbel"])
def test_games_are_legal_and_counted_by_the_rules(root):
    for record in play(root=root):
        board = record.board(len(record.moves))  # raises IllegalMove if one isn't legal
        assert record.result == np.sign(record.score)
        if board.is_over or board.num_moves >= 1.75 * 25:
            assert board.pass_alive().all() or record.score == board.score()
        else:
            assert board.pass_alive().all()
        assert (np.sign(record.ownership) == record.ownership).all()
        assert record.ownership.sum() - record.rules.komi == record.score


def test_a_settled_game_ends_and_dead_stones_count_for_who_holds_the_territory():
    finals = [(record, record.board(len(record.moves))) for record in play(num_games=16)]
    settled = [(r, b) for r, b in finals if not b.is_over and b.num_moves < 1.75 * 25]
    assert settled
    for record, board in settled:
        alive = board.pass_alive().ravel()
        assert (alive != EMPTY).all()
        assert (record.ownership == np.where(alive == BLACK, 1, -1)).all()
        assert record.score == record.ownership.sum() - record.rules.komi
    assert any(record.score != board.score() for record, board in settled)


def test_every_searched_move_has_a_target_and_openings_have_none():
    records = play(opening_moves=3.0)
    for record in records:
        assert (np.diff(record.policy_plies) > 0).all()
        assert np.allclose(record.policies.sum(1), 1, atol=0.01)
    assert any(record.policy_plies[0] > 0 for record in records)


def test_playout_caps_make_only_full_searches_data():
    records = play(full_frac=0.25, cheap_simulations=2, opening_moves=0.0)
    num_moves = sum(len(record.moves) for record in records)
    assert 0.1 < sum(len(record.policy_plies) for record in records) / num_moves < 0.4


def test_games_do_not_wait_for_each_other():
    """However long each thinks, nearly every batch has a position of each."""
    selfplay = make_selfplay(simulations=16, full_frac=0.5, cheap_simulations=2)
    for _ in range(300):
        list(selfplay.step())
    assert selfplay.search.evaluator.num_rows > 0.95 * 4 * 300


def test_the_same_seed_gives_the_same_games():
    def moves(seed):
        return [record.moves.tolist() for record in play(seed=seed)]

    assert moves(3) == moves(3) != moves(4)


def test_komi_varies_around_the_recipes():
    komis = {record.rules.komi for record in play(num_games=16)}
    assert len(komis) > 2 and all(komi * 2 == int(komi * 2) for komi in komis)


def test_an_order_can_change_the_simulations_of_a_full_search():
    selfplay = make_selfplay(root="puct", games_at_once=1, opening_moves=0.0)
    selfplay.simulations = 20
    while not selfplay.games[0].moves:
        list(selfplay.step())
    num_rows = selfplay.search.evaluator.num_rows
    assert num_rows == 1 + 20 + 1  # the root's own, and the next move's first
