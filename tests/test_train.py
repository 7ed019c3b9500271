"""Training: losses and their masks, the schedule, averaged weights, and that a phase resumes."""

import math

import numpy as np
import pytest
from msgspec import structs

torch = pytest.importorskip("torch")

from minigo import train as module  # noqa: E402
from minigo._board import NUM_PLANES  # noqa: E402
from minigo.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from minigo.config import TrainConfig  # noqa: E402
from minigo.network import PolicyValueNet  # noqa: E402
from minigo.replay import Batch  # noqa: E402
from minigo.train import (  # noqa: E402
    HEADS,
    AveragedWeights,
    Muon,
    TrainingDiverged,
    learning_rate,
    losses,
    make_optimizer,
    orthogonalize,
    train,
)

CONFIG = TrainConfig(batch_size=8, learning_rate=0.02)
TARGETS = HEADS[1:]  # those that can be unknown


@pytest.fixture(autouse=True)
def one_thread():
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def make_batch(rng, count: int = 8, size: int = 5, **weights: float) -> Batch:
    """Return random positions with random targets, all known unless `weights` says otherwise."""
    moves = np.eye(size**2 + 1, dtype=np.float32)
    arrays = {
        "planes": rng.random((count, NUM_PLANES, size, size)),
        "policy": moves[rng.integers(size**2 + 1, size=count)],
        "reply": moves[rng.integers(size**2 + 1, size=count)],
        "value": rng.choice([-1.0, 1.0], count),
        "score": rng.normal(0, 5, count),
        "ownership": rng.choice([-1.0, 0.0, 1.0], (count, size, size)),
    }
    arrays |= {f"{head}_weight": np.full(count, weights.get(head, 1)) for head in TARGETS}
    return Batch(**{name: array.astype(np.float32) for name, array in arrays.items()})


class FixedReplay:
    """Gives the same batches again and again, or random ones from its own generator."""

    def __init__(self, *batches: Batch, rng: np.random.Generator | None = None):
        self.batches, self.rng, self.num_sampled = batches, rng, 0

    def sample(self, batch_size: int) -> Batch:
        self.num_sampled += 1
        if self.rng is not None:
            return make_batch(self.rng, batch_size)
        return self.batches[self.num_sampled % len(self.batches)]


def as_tensors(batch: Batch) -> Batch:
    return Batch(*(torch.from_numpy(array) for array in vars(batch).values()))


def make_learner(cfg: TrainConfig = CONFIG, name: str = "b2c16"):
    torch.manual_seed(1)
    net = PolicyValueNet(name)
    return net, AveragedWeights(net), make_optimizer(net, cfg)


def head_losses(net: PolicyValueNet, batch: Batch) -> dict[str, float]:
    batch = as_tensors(batch)
    with torch.no_grad():
        loss, _ = losses(net.logits(batch.planes), batch)
    return dict(zip(HEADS, loss.mean(1).tolist(), strict=True))


def test_one_batch_can_be_overfitted(rng):
    batch = make_batch(rng)
    cfg = structs.replace(CONFIG, score_weight=1.0)
    net, average, optimizer = make_learner(cfg)
    before = head_losses(net, batch)
    report = train(net, average, optimizer, FixedReplay(batch), cfg, num_steps=80)
    after = head_losses(net, batch)
    floor = math.log(2) * (batch.ownership == 0).mean()  # entropy of the points nobody owns
    after["ownership"] -= floor
    before["ownership"] -= floor
    for head in HEADS:
        assert after[head] < 0.2 * before[head], (head, before, after)
    assert report.step == 80 and set(report.losses) == {*HEADS, "total"}
    assert report.samples_per_s > 0 and 0 <= report.wait_share < 1


def test_orthogonalize_keeps_directions_and_evens_out_lengths(rng):
    for shape in ((8, 72), (72, 8), (5, 5), (1, 9), (9, 1)):
        matrices = rng.normal(size=(2, *shape)).astype(np.float32)
        results = orthogonalize(torch.from_numpy(matrices)).numpy()
        for matrix, result in zip(matrices, results, strict=True):
            left, _, right = np.linalg.svd(matrix, full_matrices=False)
            lengths = left.T @ result @ right.T
            assert np.all(np.abs(np.diag(lengths) - 1) < 0.35), shape
            assert np.allclose(lengths, np.diag(np.diag(lengths)), atol=1e-4), shape
    assert torch.equal(orthogonalize(torch.zeros(1, 3, 4)), torch.zeros(1, 3, 4))


def test_a_step_of_muon_is_as_long_as_its_rate_says(rng):
    weights = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((8, 4, 3, 3), (4, 60), (7,))]
    for weight in weights:
        weight.grad = torch.from_numpy(1000 * rng.normal(size=weight.shape).astype(np.float32))
    Muon([{"params": weights, "weight_decay": 0.1}], rate=0.01).step()
    for weight in weights:
        assert (weight * weight.grad).sum() < 0
        assert weight.square().mean().sqrt().item() == pytest.approx(0.002, rel=0.35)


@pytest.mark.parametrize("head", TARGETS)
def test_an_unknown_target_teaches_nothing(head, rng):
    seed = int(rng.integers(1000))
    weights = []
    for spoil in (False, True):
        batch = make_batch(np.random.default_rng(seed), **{head: 0})
        if spoil:
            target = getattr(batch, head)
            target[:] = np.roll(target, 1, axis=-1) if head == "reply" else -target
        net, average, optimizer = make_learner()
        report = train(net, average, optimizer, FixedReplay(batch), CONFIG, num_steps=2)
        assert head not in report.losses
        weights.append(average.weights())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_known_target_counts_by_its_share_of_the_batch(rng):
    batch = make_batch(rng)
    batch.score_weight[4:] = 0
    net, average, optimizer = make_learner()
    cfg = CONFIG
    expected, _ = losses(net.train().logits(torch.from_numpy(batch.planes)), as_tensors(batch))
    report = train(net, average, optimizer, FixedReplay(batch), cfg, num_steps=1)
    assert report.losses["score"] == pytest.approx(expected[3, :4].mean().item(), rel=0.02)  # bf16
    total = report.losses["policy"]
    total += sum(getattr(cfg, f"{h}_weight") * report.losses[h] for h in TARGETS if h != "score")
    total += cfg.score_weight * report.losses["score"] / 2
    assert report.losses["total"] == pytest.approx(total, rel=1e-4)


def test_losses_of_known_outputs():
    batch = Batch(
        *(np.zeros((1, NUM_PLANES, 2, 2)), np.array([[1, 0, 0, 0, 0]]), np.eye(5)[4:]),
        *(np.ones(1), np.array([1.0]), np.ones(1), np.array([14.0]), np.ones(1)),
        *(np.array([[[1, -1], [0, 0]]]), np.ones(1)),
    )
    batch = Batch(*(torch.from_numpy(array).float() for array in vars(batch).values()))
    zero, ownership = torch.zeros(1), torch.zeros(1, 2, 2)
    loss, known = losses((torch.zeros(1, 5), zero, zero, ownership, torch.zeros(1, 5)), batch)
    # Uniform: log 5; undecided: log 2; 14 points off: 14 - 10 / 2.
    expected = [math.log(5), math.log(5), math.log(2), 9.0, math.log(2)]
    torch.testing.assert_close(loss[:, 0], torch.tensor(expected))
    assert known.tolist() == [[1.0]] * 5
    sure = torch.tensor([20.0])
    loss, _ = losses((torch.zeros(1, 5), sure, zero + 14, ownership, torch.zeros(1, 5)), batch)
    assert loss[2] < 1e-6 and loss[3] == 0


def test_the_learning_rate_warms_up_and_falls():
    cfg, end, half = TrainConfig(learning_rate=0.1), 0.0008, (0.1 + 0.0008) / 2
    assert learning_rate(0.0, 1, cfg) == pytest.approx(0.001)
    assert learning_rate(0.0, 50, cfg) == pytest.approx(0.05)
    assert learning_rate(0.0, 100, cfg) == pytest.approx(0.1)
    assert learning_rate(0.5, 500, cfg) == pytest.approx(half)
    assert learning_rate(1.0, 1000, cfg) == pytest.approx(end)
    assert learning_rate(1.5, 1000, cfg) == pytest.approx(end)
    rates = [learning_rate(share / 20, 100, cfg) for share in range(21)]
    assert rates == sorted(rates, reverse=True)


def test_the_schedule_reaches_the_optimizer(rng):
    net, average, optimizer = make_learner()
    replay = FixedReplay(make_batch(rng))
    train(net, average, optimizer, replay, CONFIG, num_steps=2, step=200, progress=(0.8, 1.0))
    assert [group["lr"] for group in optimizer.param_groups] == [pytest.approx(0.0008)] * 2


def test_only_weights_decay():
    net, _, optimizer = make_learner()
    decayed, kept = (group["params"] for group in optimizer.param_groups)
    assert optimizer.param_groups[1]["weight_decay"] == 0
    assert len(decayed) + len(kept) == len(list(net.parameters()))
    assert {p.dim() for p in decayed} == {2, 4} and {p.dim() for p in kept} == {1}


def test_averaged_weights_forget_the_start(monkeypatch):
    monkeypatch.setattr(module, "EMA_DECAY", 0.9)
    net = PolicyValueNet("b1c8")
    average = AveragedWeights(net)
    bias, history = net.totals.bias, []
    for value in (3.0, 5.0, 4.0):
        bias.data.fill_(value)
        average.update(net)
        history.append(value)
        ages = np.arange(len(history))[::-1]
        expected = np.average(history, weights=0.9**ages)
        assert average.weights()["totals.bias"].tolist() == pytest.approx([expected] * 4)


def test_averaged_weights_include_batch_norm_statistics(rng):
    net, average, optimizer = make_learner()
    train(net, average, optimizer, FixedReplay(make_batch(rng)), CONFIG, num_steps=3)
    assert average.weights()["heads.norm.running_mean"].abs().max() > 0
    restored = AveragedWeights(PolicyValueNet("b2c16"))
    restored.load_state_dict(average.state_dict())
    assert restored.num_updates == 3
    ours, theirs = restored.weights(), average.weights()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_loss_that_is_no_number_stops_training(rng):
    good, bad = make_batch(rng), make_batch(rng)
    bad.planes[3] = np.nan
    net, average, optimizer = make_learner()
    with pytest.raises(ValueError, match="loss is nan at step 12"):
        train(net, average, optimizer, FixedReplay(good, good, bad), CONFIG, num_steps=9, step=10)


def test_an_exploding_loss_stops_training(rng):
    cfg = structs.replace(CONFIG, learning_rate=1e6)
    net, average, optimizer = make_learner(cfg)
    with pytest.raises(FloatingPointError, match="at step"):
        train(net, average, optimizer, FixedReplay(make_batch(rng)), cfg, num_steps=50)


def test_the_last_steps_weights_are_looked_at(rng):
    cfg = structs.replace(CONFIG, learning_rate=math.inf)
    net, average, optimizer = make_learner(cfg)
    with pytest.raises(TrainingDiverged, match="is not finite at step 1"):
        train(net, average, optimizer, FixedReplay(make_batch(rng)), cfg, num_steps=1)


def test_the_gradient_is_clipped(rng):
    cfg = structs.replace(CONFIG, score_weight=100.0)
    net, average, optimizer = make_learner(cfg)
    train(net, average, optimizer, FixedReplay(make_batch(rng)), cfg, num_steps=1)
    norm = sum(p.grad.pow(2).sum().item() for p in net.parameters()) ** 0.5
    assert norm == pytest.approx(module.GRAD_CLIP, rel=1e-3)


def test_a_deadline_ends_the_phase_early(rng):
    net, average, optimizer = make_learner()
    replay = FixedReplay(make_batch(rng))
    report = train(net, average, optimizer, replay, CONFIG, num_steps=10**6, deadline=1e-9)
    assert report.step == 1 and replay.num_sampled <= 1 + module.PREFETCH


def test_no_steps_do_nothing(rng):
    net, average, optimizer = make_learner()
    report = train(net, average, optimizer, FixedReplay(make_batch(rng)), CONFIG, 0, step=5)
    assert report.step == 5 and report.losses == {"total": 0.0}


def test_a_bad_sample_reaches_the_caller():
    class Empty:
        def sample(self, batch_size):
            raise ValueError("no position to sample from")

    with pytest.raises(ValueError, match="no position"):
        train(*make_learner(), Empty(), CONFIG, num_steps=5)


def test_a_resumed_run_is_the_same_to_the_last_bit(tmp_path):
    """Four steps, against two, a checkpoint and everything built anew, and two more."""

    def phase(net, average, optimizer, step: int) -> None:
        replay = FixedReplay(rng=np.random.default_rng([1, step]))
        span = (step / 4, step / 4 + 0.5)
        train(net, average, optimizer, replay, CONFIG, num_steps=2, step=step, progress=span)

    whole, resumed = make_learner(), make_learner()
    for step in (0, 2):
        phase(*whole, step)
    phase(*resumed, 0)
    state = {str(i): part.state_dict() for i, part in enumerate(resumed)}
    weights = resumed[1].weights()
    save_checkpoint(tmp_path / "a.pt", network="b2c16", weights=weights, info={}, state=state)
    state, resumed = load_checkpoint(tmp_path / "a.pt").state, make_learner(CONFIG)
    for i, part in enumerate(resumed):
        part.load_state_dict(state[str(i)])
    phase(*resumed, 2)
    for ours, theirs in zip(whole[:2], resumed[:2], strict=True):
        ours, theirs = _flat(ours), _flat(theirs)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def _flat(part) -> dict[str, torch.Tensor]:
    return part.weights() if isinstance(part, AveragedWeights) else part.state_dict()


def test_the_network_is_compiled_where_the_recipe_says_so(rng, monkeypatch):
    compiled = []
    monkeypatch.setattr(module.torch, "compile", lambda call: compiled.append(call) or call)
    monkeypatch.setenv("CXX", "sh")  # is there
    for use_compiler in (False, True):
        cfg = structs.replace(CONFIG, compile=use_compiler)
        train(*make_learner(cfg), FixedReplay(make_batch(rng)), cfg, num_steps=1)
    assert len(compiled) == 1
    monkeypatch.setenv("CXX", "no-compiler")
    with pytest.warns(UserWarning, match="no-compiler is installed: training isn't compiled"):
        train(*make_learner(cfg), FixedReplay(make_batch(rng)), cfg, num_steps=1)
    assert len(compiled) == 1


@pytest.mark.parametrize("device, variable", [("cpu", "CXX"), ("cuda", "CC")])
def test_without_its_compiler_no_device_compiles(device, variable, monkeypatch):
    monkeypatch.setattr(module.torch, "compile", lambda call: "compiled")
    monkeypatch.setenv("CXX", "sh")
    monkeypatch.setenv("CC", "sh")
    assert module._compile(len, torch.device(device)) == "compiled"
    monkeypatch.setenv(variable, "no-compiler")
    with pytest.warns(UserWarning, match="no-compiler is installed: training isn't compiled"):
        assert module._compile(len, torch.device(device)) is len
    monkeypatch.delenv(variable)
    monkeypatch.setenv("PATH", "")
    with pytest.warns(UserWarning, match="no g"):
        assert module._compile(len, torch.device(device)) is len


@pytest.mark.gpu
def test_training_on_a_gpu(rng):
    net, _, _ = make_learner()
    net.cuda()
    average, optimizer = AveragedWeights(net), make_optimizer(net, CONFIG)
    batch = make_batch(rng)
    report = train(net, average, optimizer, FixedReplay(batch), CONFIG, num_steps=60)
    assert report.losses["policy"] < math.log(26)
