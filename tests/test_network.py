"""The network: shapes on every size, the point of its parts, and that `fold` changes nothing."""

import pytest

torch = pytest.importorskip("torch")
from minigo._board import NUM_PLANES  # noqa: E402
from minigo.accelerate import merge  # noqa: E402
from minigo.architecture import HEAD_CHANNELS, Network, fit_sizes, fold, parse_network  # noqa: E402
from minigo.machine import choose_device, is_bfloat16_fast  # noqa: E402
from minigo.network import PolicyValueNet, as_arrays, as_module, pool  # noqa: E402


def make_network(name: str = "b2c16", seed: int = 1) -> PolicyValueNet:
    """Return a network whose blocks and batch norms do something, as after training."""
    torch.manual_seed(seed)
    net = PolicyValueNet(name)
    for norm in net.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            for tensor in (norm.weight, norm.running_var):
                torch.nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (norm.bias, norm.running_mean):
                torch.nn.init.normal_(tensor, 0, 0.3)
    for block in net.blocks:
        torch.nn.init.normal_(block.second.weight, 0, 0.1)
    return net.eval()


def network_of(net: PolicyValueNet) -> Network:
    return Network(net.name, as_arrays(net.state_dict()))


def make_planes(count: int, size: int) -> torch.Tensor:
    return torch.rand(count, NUM_PLANES, size, size)


@pytest.mark.parametrize("size", range(2, 20))
def test_one_network_plays_every_size(size):
    logits, value, score, ownership, reply = make_network()(make_planes(3, size))
    assert logits.shape == reply.shape == (3, size * size + 1)
    assert value.shape == score.shape == (3,)
    assert ownership.shape == (3, size, size)
    assert value.abs().max() <= 1 and ownership.abs().max() <= 1


@pytest.mark.parametrize("name", ["b1c8", "b4c32", "b6c64", "b6c96", "b10c128"])
def test_a_name_is_blocks_and_channels(name):
    num_blocks, channels = parse_network(name)
    net = PolicyValueNet(name)
    assert len(net.blocks) == num_blocks and net.stem.out_channels == channels
    assert net.name == name


@pytest.mark.parametrize(
    "name", ["", "b6", "c64", "b0c64", "b6c0", "b6c4", "6x64", "b6c64 ", "b-1c8"]
)
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="is not a network"):
        PolicyValueNet(name)


def test_the_number_of_parameters():
    assert 90_000 < sum(p.numel() for p in PolicyValueNet("b4c32").parameters()) < 100_000
    assert 2_800_000 < sum(p.numel() for p in PolicyValueNet("b10c128").parameters()) < 3_000_000


@pytest.mark.parametrize("prepare", [as_module, lambda network: merge(as_module(network))])
def test_what_is_folded_and_merged_gives_the_same_answers(prepare):
    net, planes = make_network("b4c32"), make_planes(5, 9)
    folded = prepare(fold(network_of(net), 9))
    assert isinstance(folded.heads.norm, torch.nn.Identity)
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    with torch.no_grad():
        for ours, theirs in zip(net(planes), folded(planes), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_position_is_evaluated_alone():
    net, planes = make_network(), make_planes(4, 5)
    together, alone = net(planes), net(planes[2:3])
    for ours, theirs in zip(together, alone, strict=True):
        torch.testing.assert_close(ours[2:3], theirs, rtol=1e-4, atol=1e-5)


def test_pooling_lets_a_corner_know_of_the_opposite_one():
    net, planes = make_network("b1c16"), make_planes(1, 19)
    changed = planes.clone()
    changed[0, :, 18, 18] += 1  # 18 points away; three 3x3 convolutions see 3
    assert not torch.equal(net(planes)[3][0, 0, 0], net(changed)[3][0, 0, 0])


def test_pool_is_mean_scaled_mean_and_maximum():
    x = torch.arange(8.0).reshape(1, 2, 2, 2)
    torch.testing.assert_close(pool(x), torch.tensor([[1.5, 5.5, -1.8, -6.6, 3.0, 7.0]]))


def test_a_fresh_network_is_finite_and_undecided():
    torch.manual_seed(1)
    logits, value, _, _, _ = PolicyValueNet("b10c128").eval()(make_planes(4, 9))
    assert torch.softmax(logits, 1).max() < 0.5 and value.abs().max() < 0.9


def test_devices():
    assert choose_device("cpu") == "cpu"
    assert choose_device("auto") in ("cpu", "cuda")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no CUDA"):
            choose_device("cuda")


def test_a_value_that_has_fallen_silent_learns_again():
    net = PolicyValueNet("b1c8")
    net.pooled.bias.data[HEAD_CHANNELS:] = -100.0
    _, value, *_ = net.logits(torch.rand(2, NUM_PLANES, 5, 5))
    value.sum().backward()
    assert net.pooled.weight.grad[HEAD_CHANNELS:].abs().max() > 0


def test_only_a_cpu_has_the_instructions_of_the_cpu(monkeypatch):
    for feature in ("amx_tile", "avx512_bf16"):
        monkeypatch.setattr(torch.cpu, f"_is_{feature}_supported", lambda: True, raising=False)
    assert is_bfloat16_fast(torch.device("cpu"))
    assert not is_bfloat16_fast(torch.device("mps"))
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    assert is_bfloat16_fast(torch.device("cpu"))
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert not is_bfloat16_fast(torch.device("cpu"))


def test_each_board_size_has_statistics_of_its_own():
    net, batches = PolicyValueNet("b2c16", sizes=[5, 9]), [make_planes(64, 5), -make_planes(64, 9)]
    with torch.no_grad():
        for planes in 100 * batches:  # as different as sizes never are
            net(planes)
        for planes, learned in [(planes, net(planes)) for planes in batches]:
            played, folded = net.eval()(planes), as_module(fold(network_of(net), planes.shape[-1]))
            for ours, theirs, exact in zip(played, folded(planes), learned, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
                torch.testing.assert_close(ours, exact, rtol=0.1, atol=0.1)


def test_statistics_of_other_sizes_lie_between():
    weights = network_of(PolicyValueNet("b1c8", sizes=[9, 19])).weights
    weights["norm.running_mean"][:] = [[1.0], [2.0]]
    found = fit_sizes(weights, [7, 9, 13, 19])
    assert found["sizes"].tolist() == [7, 9, 13, 19] and found["norm.running_mean"].shape == (4, 8)
    assert found["norm.running_mean"][:, 0] == pytest.approx([1, 1, 1.4, 2])
    plain = network_of(make_network("b1c8")).weights  # learned before sizes were told apart
    (ours,) = fit_sizes(plain, [13])["norm.running_mean"]
    assert (ours == plain["norm.running_mean"]).all()
