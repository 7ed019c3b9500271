"""Symmetric networks: what they answer turns with the board, before and after they learned."""

import pytest

torch = pytest.importorskip("torch")
from minigo.checkpoint import load_checkpoint, load_network  # noqa: E402
from minigo.learner import Learner  # noqa: E402
from minigo.network import PolicyValueNet, as_module  # noqa: E402
from minigo.symmetry import find_orbits, symmetrize  # noqa: E402
from test_network import make_planes  # noqa: E402
from test_train import CONFIG, make_batch, train  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
SIDES = 8


def turn(boards: torch.Tensor, side: int) -> torch.Tensor:
    """Show boards or kernels (..., N, N) from one of the eight sides."""
    return torch.rot90(boards.mT if side >= 4 else boards, side, (-2, -1))


def learn(name: str, rng, num_steps: int, **how) -> PolicyValueNet:
    torch.manual_seed(1)
    learner = Learner(PolicyValueNet(name, **how), CONFIG, "cpu")
    train(learner, make_batch(rng), num_steps=num_steps)
    return as_module(learner.network())


@torch.no_grad()
def off_by(net: PolicyValueNet, size: int = 5) -> float:
    """Return how far answers to turned planes are from turned answers, at most."""
    planes = make_planes(4, size)
    logits, value, score, ownership, reply = net(planes)
    worst = 0.0
    for side in range(SIDES):
        turned = net(turn(planes, side))
        boards = [x[:, :-1].view(-1, size, size) for x in (logits, reply)] + [ownership]
        theirs = [x[:, :-1].view(-1, size, size) for x in (turned[0], turned[4])] + [turned[3]]
        pairs = [(turn(ours, side), x) for ours, x in zip(boards, theirs, strict=True)]
        pairs += [(logits[:, -1], turned[0][:, -1]), (value, turned[1]), (score, turned[2])]
        worst = max(worst, *(float((ours - x).abs().max()) for ours, x in pairs))
    return worst


@pytest.mark.parametrize("how", [{}, {"ranked": True, "sizes": [5, 9]}])
@pytest.mark.parametrize("name", ["b2c64s", "b2c96s", "b1c8s"])
def test_answers_turn_with_the_board_after_learning(name, how, rng):
    net = learn(name, rng, 4, **how)
    assert max(off_by(net, 5), off_by(net, 9)) < 1e-3
    assert off_by(learn(name[:-1], rng, 4, **how)) > 0.1


def test_what_is_saved_is_played(tmp_path, rng):
    learner = Learner(PolicyValueNet("b2c64s"), CONFIG, "cpu")
    learner.save(tmp_path / "net.safetensors", {})
    network = load_network(load_checkpoint(tmp_path / "net.safetensors"))
    assert network.name == "b2c64s" and off_by(as_module(network)) < 1e-3


def test_an_eight_sees_eight_sides_and_the_rest_one(rng):
    weights = learn("b2c64s", rng, 4).state_dict()
    first, eighth, *rest = weights["stem.weight"][[0, 1, 16, 63]]
    sides = [turn(first, side) for side in range(SIDES)]
    assert min(float((eighth - kernel).abs().max()) for kernel in sides) < 1e-5
    assert (first - turn(first, 1)).abs().max() > 1e-2
    assert all(
        (kernel - turn(kernel, side)).abs().max() < 1e-5 for kernel in rest for side in range(SIDES)
    )


def test_learning_takes_weights_as_random_as_any():
    torch.manual_seed(1)
    plain = PolicyValueNet("b2c64")
    ours = Learner(PolicyValueNet("b2c64s"), CONFIG, "cpu").net.state_dict()
    for name, weight in plain.state_dict().items():
        if weight.dim() == 4 and weight.std() > 0:
            assert ours[name].std() == pytest.approx(weight.std(), rel=0.25), name


def test_the_mean_over_all_sides_is_what_all_sides_share(rng):
    net = PolicyValueNet("b2c64s")
    for name, orbit in find_orbits(net).items():
        weight = torch.randn(net.state_dict()[name].shape)
        alike = symmetrize(weight, orbit)
        torch.testing.assert_close(symmetrize(alike, orbit), alike)
        assert alike.mean() == pytest.approx(float(weight.mean()), abs=1e-6)  # nothing is lost
    assert not find_orbits(PolicyValueNet("b2c64"))
