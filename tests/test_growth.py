"""A network that has grown: it says what it said, and all that is new can learn."""

import pytest

torch = pytest.importorskip("torch")

from minigo.architecture import Network  # noqa: E402
from minigo.growth import grow  # noqa: E402
from minigo.network import as_arrays  # noqa: E402
from test_network import make_network, make_planes, network_of  # noqa: E402


@pytest.mark.parametrize(
    ("name", "larger"),
    [("b4c32", "b6c64"), ("b1c16", "b2c16"), ("b2c16", "b2c24"), ("b3c24", "b6c64")],
)
def test_a_larger_network_says_the_same_and_learns_with_all_of_it(name, larger):
    net, planes = make_network(name), make_planes(4, 7)
    grown = grow(network_of(net), larger).eval()
    assert grown.name == larger
    with torch.no_grad():
        for ours, theirs in zip(grown(planes), net(planes), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    before = as_arrays(grown.train().state_dict())
    optimizer = torch.optim.SGD(grown.parameters(), 0.01)
    for _ in range(4):  # the first steps only open the way to what is new
        optimizer.zero_grad()
        sum(output.square().mean() for output in grown(planes)).backward()
        optimizer.step()
    for key, weight in grown.named_parameters():
        if weight.dim() > 1:
            assert (weight.detach().numpy() != before[key]).mean() > 0.9, key


def test_what_it_knows_of_ranks_grows_with_it():
    net = make_network("b1c16")
    weights = as_arrays(net.state_dict()) | {"rank.weight": torch.rand(16, 3).numpy()}
    grown = grow(Network("b1c16", weights), "b2c32")
    assert (grown.rank.weight[:16].detach().numpy() == weights["rank.weight"]).all()
    assert not grown.rank.weight[16:].any()
