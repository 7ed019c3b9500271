"""Training: losses and their masks, the schedule, averaged weights, and that a phase resumes."""

import functools
import itertools
import math

import numpy as np
import pytest
from msgspec import structs

torch = pytest.importorskip("torch")
from minigo import accelerate  # noqa: E402
from minigo import train as parts  # noqa: E402
from minigo._board import NUM_PLANES  # noqa: E402
from minigo.accelerate import compiled  # noqa: E402
from minigo.checkpoint import load_checkpoint  # noqa: E402
from minigo.config import TrainConfig  # noqa: E402
from minigo.learner import Learner, TrainingDiverged, TrainReport  # noqa: E402
from minigo.network import PolicyValueNet, planes_of  # noqa: E402
from minigo.train import HEADS, AveragedWeights, learning_rate, losses  # noqa: E402
from minigo.window import UNKNOWN, Batch  # noqa: E402

CONFIG = TrainConfig(batch_size=8, learning_rate=0.02)
TARGETS = HEADS[1:]  # those that can be unknown
pytestmark = pytest.mark.usefixtures("one_thread")


def make_positions(rng, count: int, size: int) -> np.ndarray:
    positions = rng.integers(1 << NUM_PLANES, size=(count, size * size + 1), dtype=np.int32)
    positions[:, -1] = rng.normal(size=count).astype(np.float32).view(np.int32)  # komi
    return positions


def make_batch(rng, count: int = 8, size: int = 5, unknown: str = "") -> Batch:
    """Return random positions with random targets, all known but those of one head."""
    num_moves = size**2 + 1
    arrays = {
        "positions": make_positions(rng, count, size),
        "policy": np.eye(num_moves, dtype=np.float32)[rng.integers(num_moves, size=count)],
        "reply": rng.integers(num_moves, size=count),
        "value": rng.choice([-1.0, 1.0], count).astype(np.float32),
        "score": rng.normal(0, 5, count).astype(np.float32),
        "ownership": rng.integers(-1, 2, (count, size * size), dtype=np.int8),
    }
    if unknown:
        arrays[unknown][:] = {"reply": -1, "ownership": UNKNOWN}.get(unknown, np.nan)
    return Batch(*map(torch.from_numpy, arrays.values()))


def make_learner(cfg: TrainConfig = CONFIG, name: str = "b2c16") -> Learner:
    torch.manual_seed(1)
    return Learner(PolicyValueNet(name), cfg, "cpu")


def train(learner: Learner, *batches: Batch, num_steps: int, progress: float = 0.0) -> TrainReport:
    """Take steps with the same batches again and again."""
    learner.train(itertools.cycle(batches), num_steps, lambda: progress)
    return learner.report()


def head_losses(net: PolicyValueNet, batch: Batch) -> dict[str, float]:
    with torch.no_grad():
        loss, _ = losses(net.logits(planes_of(batch.positions)), batch)
    return dict(zip(HEADS, loss.mean(1).tolist(), strict=True))


def test_one_batch_can_be_overfitted(rng):
    batch = make_batch(rng)
    learner = make_learner(structs.replace(CONFIG, score_weight=1.0))
    before = head_losses(learner.net, batch)
    report = train(learner, batch, num_steps=80)
    after = head_losses(learner.net, batch)
    # Entropy of the points nobody owns.
    floor = math.log(2) * (batch.ownership == 0).float().mean().item()
    after["ownership"] -= floor
    before["ownership"] -= floor
    for head in HEADS:
        assert after[head] < 0.2 * before[head], (head, before, after)
    assert learner.step == 80 and set(report.losses) == {*HEADS, "total"}
    assert report.num_samples == 640 and report.samples_per_s > 0
    assert 0 <= report.wait_s < report.elapsed_s


def test_orthogonalize_keeps_directions_and_evens_out_lengths(rng):
    for shape in ((8, 72), (72, 8), (5, 5), (1, 9), (9, 1)):
        matrices = rng.normal(size=(2, *shape)).astype(np.float32)
        results = parts.orthogonalize(torch.from_numpy(matrices)).numpy()
        for matrix, result in zip(matrices, results, strict=True):
            left, _, right = np.linalg.svd(matrix, full_matrices=False)
            lengths = left.T @ result @ right.T
            assert np.all(np.abs(np.diag(lengths) - 1) < 0.35), shape
            assert np.allclose(lengths, np.diag(np.diag(lengths)), atol=1e-4), shape
    assert torch.equal(parts.orthogonalize(torch.zeros(1, 3, 4)), torch.zeros(1, 3, 4))


def test_a_step_of_muon_is_as_long_as_its_rate_says(rng):
    shapes = (8, 4, 3, 3), (4, 60), (7,)
    weights = torch.nn.ParameterList(torch.nn.Parameter(torch.zeros(shape)) for shape in shapes)
    for weight in weights:
        weight.grad = torch.from_numpy(1000 * rng.normal(size=weight.shape).astype(np.float32))
    optimizer = parts.Muon(weights)
    optimizer.rate.fill_(0.01)
    optimizer.step()
    for weight in weights:
        assert (weight * weight.grad).sum() < 0
        assert weight.square().mean().sqrt().item() == pytest.approx(0.002, rel=0.35)


@pytest.mark.parametrize("head", TARGETS)
def test_an_unknown_target_teaches_nothing(head, rng):
    batch = make_batch(rng, unknown=head)
    learner = make_learner()
    without = make_learner(structs.replace(CONFIG, **{f"{head}_weight": 0}))
    report = train(learner, batch, num_steps=2)
    assert head not in report.losses and set(report.losses) == {*HEADS, "total"} - {head}
    train(without, batch._replace(**{head: getattr(make_batch(rng), head)}), num_steps=2)
    ours, theirs = learner.average.weights, without.average.weights
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_known_target_counts_by_its_share_of_the_batch(rng):
    batch, learner = make_batch(rng), make_learner()
    batch.score[4:] = math.nan
    expected, _ = losses(learner.net.logits(planes_of(batch.positions)), batch)
    report = train(learner, batch, num_steps=1)
    assert report.losses["score"] == pytest.approx(expected[3, :4].mean().item(), rel=0.02)  # bf16
    total = report.losses["policy"]
    total += sum(getattr(CONFIG, f"{h}_weight") * report.losses[h] for h in TARGETS if h != "score")
    total += CONFIG.score_weight * report.losses["score"] / 2
    assert report.losses["total"] == pytest.approx(total, rel=1e-4)


def test_losses_of_known_outputs():
    batch = Batch(
        torch.zeros(1, 5, dtype=torch.int32),
        *(torch.tensor([[1.0, 0, 0, 0, 0]]), torch.tensor([4])),
        *(torch.tensor([1.0]), torch.tensor([14.0]), torch.tensor([[1, -1, 0, 0]])),
    )
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
    learner = make_learner()
    learner.step = 200
    train(learner, make_batch(rng), num_steps=2, progress=1.0)
    assert float(learner.optimizer.rate) == pytest.approx(0.0008)


def test_only_weights_decay():
    learner = make_learner()
    before = {name: weight.detach().clone() for name, weight in learner.net.named_parameters()}
    for weight in learner.net.parameters():
        weight.grad = torch.zeros_like(weight)
    learner.optimizer.rate.fill_(0.5)
    learner.optimizer.step()
    for name, weight in learner.net.named_parameters():
        kept = 1 if weight.dim() == 1 else 1 - 0.5 * parts.WEIGHT_DECAY
        torch.testing.assert_close(weight.detach(), kept * before[name])


def test_weights_and_average_lie_alike(rng, tmp_path):
    """So that they are added in one kernel; also after a state was loaded."""
    learner, other = make_learner(), make_learner()
    train(learner, make_batch(rng), num_steps=1)
    learner.save(tmp_path / "a.safetensors", {}, {})
    other.load(load_checkpoint(tmp_path / "a.safetensors"))
    for each in (learner, other):
        average = each.average.weights
        for name, weight in each.net.named_parameters():
            assert average[name].stride() == weight.stride(), name


def test_averaged_weights_remember_a_fortieth_and_no_more_than_200_steps():
    net = torch.nn.Linear(1, 1, bias=False)
    average = AveragedWeights(net)
    ages = {}
    for step in range(1, 16_001):
        net.weight.data.fill_(step)
        average.update()
        ages[step] = step - average.weights["weight"].item()
    assert ages[1] == 0  # the start is forgotten
    assert ages[400] == pytest.approx(400 / 41, rel=0.01)
    assert ages[2_000] == pytest.approx(2_000 / 41, rel=0.01)
    assert ages[16_000] == pytest.approx(200 - 1, rel=0.01)


def test_averaged_weights_include_batch_norm_statistics(rng, tmp_path):
    learner, restored = make_learner(), make_learner()
    train(learner, make_batch(rng), num_steps=3)
    assert learner.average.weights["heads.norm.running_mean"].abs().max() > 0
    learner.save(tmp_path / "a.safetensors", {}, {})
    restored.load(load_checkpoint(tmp_path / "a.safetensors"))
    assert restored.average.num_updates == 3
    ours, theirs = restored.average.weights, learner.average.weights
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_loss_that_is_no_number_stops_training(rng):
    good, bad = make_batch(rng), make_batch(rng)
    bad.policy[3] = np.nan
    learner = make_learner()
    learner.step = 10
    with pytest.raises(ValueError, match="loss is nan at step 13"):
        train(learner, good, good, bad, num_steps=9)


@pytest.mark.parametrize(
    "rate, num_steps, message", [(1e6, 50, "at step"), (math.inf, 1, "is not finite at step 1")]
)
def test_an_exploding_loss_stops_training_at_the_last_step_too(rate, num_steps, message, rng):
    learner = make_learner(structs.replace(CONFIG, learning_rate=rate))
    with pytest.raises(TrainingDiverged, match=message):
        train(learner, make_batch(rng), num_steps=num_steps)


def test_the_gradient_is_clipped(rng):
    learner = make_learner(structs.replace(CONFIG, score_weight=100.0))
    train(learner, make_batch(rng), num_steps=1)
    norm = sum(p.grad.pow(2).sum().item() for p in learner.net.parameters()) ** 0.5
    assert norm == pytest.approx(parts.GRAD_CLIP, rel=1e-3)


def test_a_deadline_ends_the_phase_early(rng):
    learner, batch = make_learner(), make_batch(rng)
    for num_steps in (10**6, None):
        learner.train(itertools.cycle([batch]), num_steps, float, deadline=1e-9)
    assert learner.step == 2


def test_no_steps_do_nothing():
    learner = make_learner()
    learner.train(iter(()), 0, float)
    assert learner.step == 0 and learner.report().losses == {"total": 0.0}


def test_a_resumed_run_is_the_same_to_the_last_bit(tmp_path):
    """Four steps, against two, a checkpoint and everything built anew, and two more."""

    def phase(learner: Learner) -> None:
        rng = np.random.default_rng([1, learner.step])
        train(learner, make_batch(rng), num_steps=2, progress=learner.step / 4)

    whole, resumed = make_learner(), make_learner()
    for learner in (whole, whole, resumed):
        phase(learner)
    resumed.save(tmp_path / "a.safetensors", {}, {})
    resumed = make_learner()
    resumed.load(load_checkpoint(tmp_path / "a.safetensors"))
    phase(resumed)
    for part in (lambda x: x.net.state_dict(), lambda x: x.average.weights):
        ours, theirs = part(whole), part(resumed)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_network_is_compiled_where_the_recipe_says_so(rng, monkeypatch):
    calls = []
    monkeypatch.setattr(torch, "compile", lambda call, **_: calls.append(call) or call)
    monkeypatch.setattr(accelerate, "is_bfloat16_fast", lambda device: True)
    monkeypatch.setenv("CXX", "sh")  # is there
    for use_compiler in (False, True):
        cfg = structs.replace(CONFIG, compile=use_compiler)
        train(make_learner(cfg), make_batch(rng), num_steps=1)
    assert len(calls) == 1


def test_each_board_size_is_compiled_whole(rng, monkeypatch):
    counters = torch._dynamo.utils.counters
    torch._dynamo.reset()
    counters.clear()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    monkeypatch.setattr(accelerate, "is_bfloat16_fast", lambda device: True)
    monkeypatch.setenv("CXX", "sh")  # is there
    learner = make_learner(structs.replace(CONFIG, compile=True))
    for size in range(2, 12):
        train(learner, make_batch(rng, size=size), num_steps=1)
    assert not counters["graph_break"] and counters["stats"]["unique_graphs"] == 10


@pytest.mark.parametrize("device, variable", [("cpu", "CXX"), ("cuda", "CC")])
def test_without_its_compiler_no_device_compiles(device, variable, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda call, **_: "compiled")
    monkeypatch.setattr(accelerate, "is_bfloat16_fast", lambda device: device.type == "cuda")
    monkeypatch.setenv("CXX", "sh")
    monkeypatch.setenv("CC", "sh")
    assert (compiled(len, torch.device(device)) is len) == (device == "cpu")
    monkeypatch.setattr(accelerate, "is_bfloat16_fast", lambda device: True)
    assert compiled(len, torch.device(device)) == "compiled"
    monkeypatch.setenv(variable, "no-compiler")
    with pytest.warns(UserWarning, match="no-compiler is installed: training isn't compiled"):
        assert compiled(len, torch.device(device)) is len
    monkeypatch.delenv(variable)
    monkeypatch.setenv("PATH", "")
    with pytest.warns(UserWarning, match="no g"):
        assert compiled(len, torch.device(device)) is len


@pytest.mark.gpu
def test_training_on_a_gpu(rng):
    """The first three steps are eager, the others one graph; as good as those on a CPU."""
    learner = Learner(PolicyValueNet("b2c16"), CONFIG, "cuda")
    batch = Batch(*(tensor.cuda() for tensor in make_batch(rng)))
    assert train(learner, batch, num_steps=60).losses["policy"] < math.log(26)
