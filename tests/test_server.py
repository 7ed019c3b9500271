"""The server: whoever plays beside a player, and however late it answers, games are the same."""

import threading
import time

import numpy as np
import pytest

pytest.importorskip("torch")
from conftest import save_network  # noqa: E402
from minigo import server  # noqa: E402
from minigo.checkpoint import cycle_path, save_checkpoint  # noqa: E402
from minigo.config import Recipe, SearchConfig, SelfplayConfig  # noqa: E402
from minigo.evaluator import Evaluation, make_evaluator  # noqa: E402
from minigo.network import PolicyValueNet  # noqa: E402
from minigo.selfplay import SelfPlay  # noqa: E402
from minigo.server import Slots, serve  # noqa: E402
from test_network import network_of  # noqa: E402

GAMES = 4


class Oracle:
    """Answers by a hash of each position; what half precision can hold."""

    def begin(self, positions):
        sums = (positions.astype(np.int64) * np.arange(1, positions.shape[1] + 1)).sum(1)
        logits = (sums[:, None] * (7 + np.arange(positions.shape[1])) % 101 / 32).astype(np.float32)
        value, score = ((sums % n - n // 2).astype(np.float32) / n for n in (128, 64))
        return lambda: Evaluation(logits, value, score)


class LateOracle(Oracle):
    """Answers some time later, into arrays that it spoils as soon as it begins anew."""

    sizes, in_flight, most_in_flight = set(), 0, 0

    def __init__(self):
        self.answer = None

    def begin(self, positions):
        if self.answer:
            for array in (self.answer.logits, self.answer.value, self.answer.score):
                array[:] = np.nan
        answer, ready_s = super().begin(positions), time.monotonic() + 0.002
        LateOracle.sizes.add(len(positions))
        LateOracle.in_flight += 1
        LateOracle.most_in_flight = max(LateOracle.most_in_flight, LateOracle.in_flight)

        def end():
            time.sleep(max(0.0, ready_s - time.monotonic()))
            LateOracle.in_flight -= 1
            self.answer = answer()
            return self.answer

        return end


def start_server(folder, slots: Slots, recipe: Recipe) -> None:
    save_network(cycle_path(folder, 0))
    threading.Thread(target=serve, args=(slots, recipe, folder), daemon=True).start()


def play(evaluators: list, recipe: Recipe, seed: int) -> list[list]:
    """Play with an evaluator for each half of the games; return the records of each half."""
    halves = [
        SelfPlay(evaluator, recipe, np.random.default_rng([seed, half]))
        for half, evaluator in enumerate(evaluators)
    ]
    records = [[] for _ in halves]
    for _ in range(200):
        for half, mine in zip(halves, records, strict=True):
            mine += half.step()
    return [[(r.moves.tolist(), r.policies.tobytes(), r.score) for r in mine] for mine in records]


@pytest.mark.parametrize("oracle", [Oracle, LateOracle])
def test_games_are_those_of_a_player_alone(oracle, tmp_path, monkeypatch):
    search, selfplay = SearchConfig("gumbel", 4), SelfplayConfig(games_at_once=GAMES)
    recipe = Recipe(size=5, search=search, selfplay=selfplay)
    monkeypatch.setattr(server, "make_evaluator", lambda *_, **__: oracle())
    slots, found = Slots(3, [4, 5], GAMES), {}
    start_server(tmp_path, slots, recipe)

    def play_with_server(i: int) -> None:
        found[i] = play(slots.evaluators(i, 5), recipe, i)

    threads = [threading.Thread(target=play_with_server, args=[i]) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(3):
        alone = [play([Oracle()], recipe, i)[0], play([Oracle(), Oracle()], recipe, i)[1]]
        assert found[i] == alone and all(alone)
    if oracle is LateOracle:
        assert LateOracle.most_in_flight == server.LANES
        assert max(LateOracle.sizes) > GAMES  # positions of several players


@pytest.mark.parametrize("size", [5, 9])
def test_answers_are_those_of_the_newest_network(size, tmp_path, rng):
    recipe, slots = Recipe(size=9, device="cpu"), Slots(1, [5, 9], 8)
    start_server(tmp_path, slots, recipe)
    positions = rng.integers(1 << 18, size=(6, size * size + 1), dtype=np.int32)
    positions[:, -1] = 0  # komi
    for cycle in (1, 2):
        network = network_of(PolicyValueNet("b1c8"))
        save_checkpoint(cycle_path(tmp_path, cycle), network, {})
        expected = make_evaluator(network, size, "cpu").evaluate(positions)
        for answer in [evaluator.begin(positions) for evaluator in slots.evaluators(0, size)]:
            found = answer()
            assert found.ownership is None
            for name in ("logits", "value", "score"):
                ours, theirs = getattr(found, name), getattr(expected, name)
                tolerance = 0.02 * max(1, abs(theirs).max())
                np.testing.assert_allclose(ours, theirs, atol=tolerance, err_msg=name)
