"""Evaluators: both back ends answer as the network does, for every size and number of rows."""

import contextlib
import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from minigo import evaluator as module  # noqa: E402
from minigo._board import NUM_PLANES  # noqa: E402
from minigo.evaluator import Evaluation, make_evaluator  # noqa: E402
from minigo.network import PolicyValueNet  # noqa: E402
from minigo.quantize import calibration_planes  # noqa: E402
from test_network import make_network  # noqa: E402

BACKENDS = ["torch"]
if importlib.util.find_spec("openvino"):
    BACKENDS.append("openvino")


def make_planes(rng, count: int, size: int) -> np.ndarray:
    return rng.random((count, NUM_PLANES, size, size), dtype=np.float32)


def ask(net: PolicyValueNet, planes: np.ndarray) -> Evaluation:
    with torch.no_grad():
        return Evaluation(*(output.numpy() for output in net(torch.from_numpy(planes))[:4]))


def assert_same(ours: Evaluation, theirs: Evaluation, name: str):
    tolerance = 0.1 if "bf16" in name else 1e-3
    for field, array in vars(ours).items():
        expected = vars(theirs)[field]
        assert array.shape == expected.shape and array.dtype == np.float32
        scale = max(1.0, abs(expected).max(initial=0))
        np.testing.assert_allclose(array, expected, atol=tolerance * scale, err_msg=field)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [2, 3, 5, 9, 13, 19])
def test_answers_are_the_networks(backend, size, rng):
    net = make_network()
    evaluator = make_evaluator(net, size, "cpu", backend, max_batch=16, exact=True)
    for count in (1, 5, 8, 16):
        planes = make_planes(rng, count, size)
        assert_same(evaluator.evaluate(planes), ask(net, planes), evaluator.name)


@pytest.mark.parametrize("backend", BACKENDS)
def test_any_number_of_rows(backend, rng):
    net = make_network()
    evaluator = make_evaluator(net, 5, "cpu", backend, max_batch=12, exact=True)
    planes = make_planes(rng, 41, 5)
    expected = ask(net, planes)
    for count in (0, 1, 2, 3, 7, 9, 11, 12, 13, 25, 40, 41):
        part = Evaluation(*(array[:count] for array in vars(expected).values()))
        assert_same(evaluator.evaluate(planes[:count]), part, evaluator.name)


@pytest.mark.parametrize("backend", BACKENDS)
def test_load_swaps_the_weights(backend, rng):
    first, second = make_network(seed=1), make_network(seed=2)
    evaluator = make_evaluator(first, 5, "cpu", backend, max_batch=4, exact=True)
    planes = make_planes(rng, 4, 5)
    before = evaluator.evaluate(planes)
    for net in (second, first, make_network("b3c24"), second):
        evaluator.load(net)
        assert_same(evaluator.evaluate(planes), ask(net, planes), evaluator.name)
    assert_same(before, ask(first, planes), evaluator.name)  # answers given aren't overwritten


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_network_still_trains_after_it_was_loaded(backend):
    net = make_network().train()
    make_evaluator(net, 5, device="cpu", backend=backend)
    assert net.training and all(p.requires_grad for p in net.parameters())


def test_planes_that_are_not_contiguous(rng):
    net = make_network()
    evaluator = make_evaluator(net, 5, device="cpu", max_batch=4, exact=True)
    planes = make_planes(rng, 4, 5).transpose(0, 1, 3, 2)
    assert_same(evaluator.evaluate(planes), ask(net, planes.copy()), evaluator.name)


@pytest.mark.skipif("openvino" not in BACKENDS, reason="OpenVINO isn't installed")
@pytest.mark.parametrize("size", [2, 9, 19])
def test_int8_is_used_and_close(size, monkeypatch):
    monkeypatch.setattr(module, "is_int8_fast", lambda: True)
    net, planes = make_network(seed=1), calibration_planes(size)
    evaluator = make_evaluator(net, size, device="cpu")
    for seed in (1, 2):  # its ranges follow the weights
        net = make_network(seed=seed)
        evaluator.load(net)
        ours, exact = evaluator.evaluate(planes), ask(net, planes)
        logs, others = (torch.from_numpy(x.logits).log_softmax(1) for x in (exact, ours))
        assert 0 < (logs.exp() * (logs - others)).sum(1).mean() < 0.002  # nats
        assert np.abs(ours.value - exact.value).mean() < 0.02
    compiled, compile_model = [], evaluator.backend._compile
    evaluator.backend._compile = lambda model: compiled.append(compile_model(model)) or compiled[0]
    evaluator.backend.make_program(8)
    nodes = compiled[0].get_runtime_model().get_ordered_ops()
    infos = [{key: value.astype(str) for key, value in node.rt_info.items()} for node in nodes]
    precisions = [i["runtimePrecision"] for i in infos if i["layerType"] == "Convolution"]
    assert sum(name in ("u8", "i8") for name in precisions) == len(evaluator.backend._ranges)
    assert evaluator.name == "OpenVINO int8"
    assert make_evaluator(net, size, device="cpu", exact=True).name != evaluator.name


def test_batches_waste_little(rng):
    evaluator = make_evaluator(PolicyValueNet("b1c8"), 2, device="cpu", max_batch=64)
    for count in range(1, 65):
        padded = len(evaluator._program(count)[0])
        assert count <= padded <= max(4, 2 * count - 2) and padded <= count + 15
    assert len(evaluator._program(64)[0]) == 64 and len(evaluator._program(1)[0]) == 1
    assert len(evaluator._programs) == len(evaluator.batch_sizes) == 7
    single = make_evaluator(PolicyValueNet("b1c8"), 2, device="cpu", max_batch=1)
    assert len(single.evaluate(make_planes(rng, 3, 2)).value) == 3 and len(single._programs) == 1


def test_bad_arguments(rng):
    net = PolicyValueNet("b1c8")
    for arguments, message in (
        ({"size": 20}, "board size 20"),
        ({"size": 9, "backend": "abacus"}, "'abacus'"),
        ({"size": 9, "max_batch": 0}, "max_batch 0"),
        ({"size": 9, "threads": 0}, "threads 0"),
        ({"size": 9, "device": "meta", "backend": "openvino"}, "openvino"),
    ):
        with pytest.raises(ValueError, match=message):
            make_evaluator(net, **arguments)
    evaluator = make_evaluator(net, 5, device="cpu", backend="torch")
    for planes in (make_planes(rng, 2, 9), make_planes(rng, 2, 5).astype(np.float64)):
        with pytest.raises(ValueError, match="planes are float"):
            evaluator.evaluate(planes)


def test_openvino_is_the_default_on_the_cpu():
    name = make_evaluator(PolicyValueNet("b1c8"), 5, device="cpu").name
    assert name.startswith("OpenVINO" if "openvino" in BACKENDS else "PyTorch cpu")


class FakeCuda:
    """Stands in for `torch.cuda`: a graph remembers one call of `forward`, and replays it."""

    def __init__(self, forward):
        self.forward, self.capturing, self.num_replays = forward, None, 0

    def record(self, planes):
        result = self.forward(planes)
        if self.capturing:
            self.capturing.call = planes, result
        return result

    def Stream(self):
        return SimpleNamespace(wait_stream=lambda other: None)

    current_stream = Stream

    def stream(self, stream):
        return contextlib.nullcontext()

    def CUDAGraph(self):
        graph = SimpleNamespace(call=None)

        def replay():
            self.num_replays += 1
            planes, result = graph.call
            result.copy_(self.forward(planes))

        graph.replay = replay
        return graph

    @contextlib.contextmanager
    def graph(self, graph):
        self.capturing = graph
        yield
        self.capturing = None


def test_the_path_of_cuda_graphs_on_a_fake_device(rng, monkeypatch):
    """Planes into the captured buffer, replay, and weights that change under the graph."""
    evaluator = make_evaluator(make_network(), 5, device="cpu", backend="torch", max_batch=8)
    backend = evaluator.backend
    cuda = FakeCuda(backend._forward)
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *a, pin_memory=False, **b: zeros(*a, **b))
    for name in ("Stream", "current_stream", "stream", "CUDAGraph", "graph"):
        monkeypatch.setattr(torch.cuda, name, getattr(cuda, name))
    monkeypatch.setattr(backend, "_forward", cuda.record)
    monkeypatch.setattr(backend, "_uses_graphs", True)
    for seed in (1, 2):
        evaluator.load(make_network(seed=seed))
        for count in (1, 8, 13):
            planes = make_planes(rng, count, 5)
            answer = ask(make_network(seed=seed), planes)
            assert_same(evaluator.evaluate(planes), answer, evaluator.name)
    assert cuda.num_replays == 2 * (1 + 1 + 2) and len(evaluator._programs) == 2


@pytest.mark.gpu
def test_cuda_graphs_answer_as_the_network(rng):
    net = make_network()
    evaluator = make_evaluator(net, 9, device="cuda", max_batch=16)
    for count in (1, 5, 16, 40):
        planes = make_planes(rng, count, 9)
        assert_same(evaluator.evaluate(planes), ask(net, planes), evaluator.name)
    evaluator.load(make_network(seed=2))
    assert_same(evaluator.evaluate(planes), ask(make_network(seed=2), planes), evaluator.name)
