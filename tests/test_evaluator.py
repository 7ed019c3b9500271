"""Evaluators: both back ends answer as the network does, for every size and number of rows."""

import contextlib
import importlib.util
import platform
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import conftest

torch = pytest.importorskip("torch")
from minigo import openvino_backend  # noqa: E402
from minigo.architecture import fold  # noqa: E402
from minigo.checkpoint import load_checkpoint, load_network  # noqa: E402
from minigo.evaluator import Evaluation, make_evaluator  # noqa: E402
from minigo.export import export  # noqa: E402
from minigo.network import PolicyValueNet, as_module  # noqa: E402
from minigo.openvino_backend import calibration_positions, make_model  # noqa: E402
from test_network import make_network, network_of  # noqa: E402
from test_train import make_batch, make_learner, make_positions  # noqa: E402

CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
BACKENDS = ["torch"]
if importlib.util.find_spec("openvino"):
    BACKENDS.append("auto")


def ask(net: PolicyValueNet, positions: np.ndarray) -> Evaluation:
    planes = torch.from_numpy(conftest.planes_of(positions))
    with torch.no_grad():
        return Evaluation(*(output.numpy() for output in net(planes)[:4]))


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
    evaluator = make_evaluator(network_of(net), size, "cpu", backend, max_batch=16, exact=True)
    for count in (1, 5, 8, 16):
        positions = make_positions(rng, count, size)
        assert_same(evaluator.evaluate(positions), ask(net, positions), evaluator.name)


@pytest.mark.parametrize("backend", BACKENDS)
def test_any_number_of_rows(backend, rng):
    net = make_network()
    evaluator = make_evaluator(network_of(net), 5, "cpu", backend, max_batch=12, exact=True)
    positions = make_positions(rng, 41, 5)
    expected = ask(net, positions)
    for count in (0, 1, 2, 3, 7, 9, 11, 12, 13, 25, 40, 41):
        part = Evaluation(*(array[:count] for array in vars(expected).values()))
        assert_same(evaluator.evaluate(positions[:count]), part, evaluator.name)


@pytest.mark.parametrize("backend", BACKENDS)
def test_load_swaps_the_weights(backend, rng):
    first, second = make_network(seed=1), make_network(seed=2)
    evaluator = make_evaluator(network_of(first), 5, "cpu", backend, max_batch=4, exact=True)
    positions = make_positions(rng, 4, 5)
    before = evaluator.evaluate(positions)
    for net in (second, first, make_network("b3c24"), second):
        evaluator.load(network_of(net))
        assert_same(evaluator.evaluate(positions), ask(net, positions), evaluator.name)
    assert_same(before, ask(first, positions), evaluator.name)  # answers given aren't overwritten


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_network_still_trains_after_it_was_loaded(backend):
    net = make_network().train()
    make_evaluator(network_of(net), 5, device="cpu", backend=backend)
    assert net.training and all(p.requires_grad for p in net.parameters())


def test_positions_that_are_not_contiguous(rng):
    net, positions = make_network(), make_positions(rng, 4, 5)
    evaluator = make_evaluator(network_of(net), 5, device="cpu", max_batch=4, exact=True)
    answer = evaluator.evaluate(np.asfortranarray(positions))
    assert_same(answer, ask(net, positions), evaluator.name)


@pytest.mark.skipif("auto" not in BACKENDS, reason="OpenVINO isn't installed")
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="int8 is for x86 alone")
@pytest.mark.parametrize("size", [2, 9, 19])
def test_int8_is_used_and_close(size):
    net, positions = make_network(seed=1), calibration_positions(size)
    evaluator = make_evaluator(network_of(net), size, device="cpu")
    for seed in (1, 2):  # its ranges follow the weights
        net = make_network(seed=seed)
        evaluator.load(network_of(net))
        ours, exact = evaluator.evaluate(positions), ask(net, positions)
        logs, others = (torch.from_numpy(x.logits).log_softmax(1) for x in (exact, ours))
        assert 0 < (logs.exp() * (logs - others)).sum(1).mean() < 0.002  # nats
        assert np.abs(ours.value - exact.value).mean() < 0.02
    compiled, compile_model = [], evaluator.backend._compile
    evaluator.backend._compile = lambda model: compiled.append(compile_model(model)) or compiled[0]
    evaluator.backend.make_program(8)
    nodes = compiled[0].get_runtime_model().get_ordered_ops()
    infos = [{key: value.astype(str) for key, value in node.rt_info.items()} for node in nodes]
    inputs = openvino_backend.tower_convolutions(make_model(fold(network_of(net), size), size, 1))
    precisions = [i["runtimePrecision"] for i in infos if i["layerType"] == "Convolution"]
    assert sum(name in ("u8", "i8") for name in precisions) == len(inputs)
    assert evaluator.name == "OpenVINO int8"
    assert make_evaluator(network_of(net), size, device="cpu", exact=True).name != evaluator.name


def test_batches_waste_little(rng):
    evaluator = make_evaluator(network_of(PolicyValueNet("b1c8")), 2, device="cpu", max_batch=64)
    for count in range(1, 65):
        evaluator._programs.clear()
        evaluator.evaluate(make_positions(rng, count, 2))
        (padded,) = evaluator._programs
        assert count <= padded <= max(4, 2 * count - 2) and padded <= count + 15
        assert padded == count or count not in (1, 64)
    for most in (1, 8):  # a program isn't worth the time that it takes to make
        single = make_evaluator(network_of(PolicyValueNet("b1c8")), 2, device="cpu", max_batch=most)
        for count in (1, 3, 8):
            assert len(single.evaluate(make_positions(rng, count, 2)).value) == count
        assert list(single._programs) == [most]


def test_bad_arguments(rng):
    net = PolicyValueNet("b1c8")
    for arguments, message in (
        ({"size": 20}, "board size 20"),
        ({"size": 9, "max_batch": 0}, "max_batch 0"),
        ({"size": 9, "threads": 0}, "threads 0"),
        ({"size": 9, "device": "cuda:99"}, "'cuda:99': PyTorch finds no"),
    ):
        with pytest.raises(ValueError, match=message):
            make_evaluator(network_of(net), **arguments)
    evaluator = make_evaluator(network_of(net), 5, device="cpu", backend="torch")
    for positions in (make_positions(rng, 2, 9), make_positions(rng, 2, 5).astype(np.int64)):
        with pytest.raises(ValueError, match=r"positions are int.*, not int32 \(up to 64, 26\)"):
            evaluator.evaluate(positions)
    with pytest.raises(ValueError, match=r"positions are int32 \(65, 26\), not int32 \(up to 64,"):
        evaluator.begin(make_positions(rng, 65, 5))


def test_openvino_is_the_default_on_the_cpu():
    name = make_evaluator(network_of(PolicyValueNet("b1c8")), 5, device="cpu").name
    assert name.startswith("OpenVINO" if "auto" in BACKENDS else "PyTorch cpu")


class FakeCuda:
    """Stands in for `torch.cuda`: while a graph is captured, what is called is only remembered."""

    def __init__(self, monkeypatch):
        self.capturing, self.num_replays = None, 0
        event = SimpleNamespace(synchronize=lambda: None)
        self.waited_for = []
        calls = {"record_event": lambda: event, "wait_stream": self.waited_for.append}
        self.a_stream = SimpleNamespace(**calls)
        zeros = torch.zeros
        monkeypatch.setattr(torch, "zeros", lambda *a, pin_memory=False, **b: zeros(*a, **b))
        for name in ("current_stream", "stream", "CUDAGraph", "graph"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))

    def recorded(self, function):
        """Make a function one that a graph can capture: it returns a new tensor, or None."""

        def call(*tensors):
            result = function(*tensors) if self.capturing is None or pure else None
            if self.capturing:
                self.capturing.call = function, tensors, result
            return result

        pure = function.__name__ == "_forward"
        return call

    def current_stream(self, device=None):
        return self.a_stream

    def stream(self, stream):
        return contextlib.nullcontext()

    def CUDAGraph(self):
        graph = SimpleNamespace()

        def replay():
            self.num_replays += 1
            function, tensors, result = graph.call
            again = function(*tensors)
            if result is not None:
                result.copy_(again)

        graph.replay = replay
        return graph

    @contextlib.contextmanager
    def graph(self, graph, stream):
        self.capturing = graph
        yield
        self.capturing = None


def test_the_path_of_cuda_graphs_on_a_fake_device(rng, monkeypatch):
    """Positions into the captured tensor, replay, and weights that change under the graph."""
    evaluator = make_evaluator(network_of(make_network()), 5, "cpu", "torch", max_batch=16)
    cuda, backend = FakeCuda(monkeypatch), evaluator.backend
    monkeypatch.setattr(backend, "_forward", cuda.recorded(backend._forward))
    monkeypatch.setattr(backend, "_stream", cuda.a_stream)
    backend._net = None  # to be made anew, for this device
    for seed in (1, 2):
        evaluator.load(network_of(make_network(seed=seed)))
        for count in (16, 1, 16, 1, 16, 16, 29, 1):
            positions = make_positions(rng, count, 5)
            answer = ask(make_network(seed=seed), positions)
            assert_same(evaluator.evaluate(positions), answer, evaluator.name)
    # 6 calls of 1 row and 12 of 16; the first three of each were no graph yet.
    assert cuda.num_replays == 3 + 9


@pytest.mark.parametrize("size", [5, 9])
def test_training_as_a_graph_on_a_fake_device(size, rng, monkeypatch):
    """The same steps to the last bit, whether eager or, from the fourth on, replayed."""
    eager, captured = (make_learner() for _ in range(2))
    cuda = FakeCuda(monkeypatch)
    batches = [make_batch(rng, size=size) for _ in range(7)]
    eager.train(iter(batches), 7, float)
    monkeypatch.setattr(captured, "_learn", cuda.recorded(captured._learn))
    monkeypatch.setattr(captured, "_stream", cuda.a_stream)
    captured.train(iter(batches), 7, float)
    assert cuda.num_replays == 4 and captured.report().losses == eager.report().losses
    assert cuda.waited_for == [cuda.a_stream]  # on which positions were added
    ours, theirs = captured.average.weights, eager.average.weights
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("path", sorted(CHECKPOINTS.glob("*.safetensors")), ids=lambda p: p.stem)
def test_activations_of_shipped_networks_stay_far_below_what_half_precision_holds(path):
    largest = []
    net = as_module(load_network(load_checkpoint(path)))
    for layer in net.modules():
        if not list(layer.children()):
            layer.register_forward_hook(lambda *call: largest.append(call[2].abs().max().item()))
    ask(net, calibration_positions(9))
    assert max(largest) < 4096  # of 65,504


@pytest.mark.gpu
def test_cuda_graphs_answer_as_the_network(rng):
    net = make_network()
    evaluator = make_evaluator(network_of(net), 9, device="cuda", max_batch=16)
    for count in (1, 5, 16, 40):
        positions = make_positions(rng, count, 9)
        assert_same(evaluator.evaluate(positions), ask(net, positions), evaluator.name)
    evaluator.load(network_of(make_network(seed=2)))
    assert_same(evaluator.evaluate(positions), ask(make_network(seed=2), positions), evaluator.name)


@pytest.mark.skipif("auto" not in BACKENDS, reason="OpenVINO isn't installed")
@pytest.mark.parametrize("name", ["b4c32", "b6c64"])
@pytest.mark.parametrize("size", [5, 9, 13, 19])
def test_the_model_is_the_network_and_so_are_its_exports(name, size, rng, tmp_path):
    """In float32, up to its rounding; of both kinds of network that ship."""
    import openvino

    net, planes = make_network(name), conftest.planes_of(make_positions(rng, 3, size))
    expected = [output.detach().numpy() for output in net(torch.from_numpy(planes))]
    models = [make_model(fold(network_of(net), size), size, 3)]
    for suffix in ("xml", *(["onnx"] if importlib.util.find_spec("onnx") else [])):
        export(network_of(net), tmp_path / f"a.{suffix}", size)
        models.append(openvino.Core().read_model(tmp_path / f"a.{suffix}"))
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    for model in models:
        answers = openvino.compile_model(model, "CPU", options)(planes)
        for key, exact in zip(("policy", "value", "score", "ownership"), expected, strict=False):
            scale = max(1.0, abs(exact).max())
            np.testing.assert_allclose(answers[key], exact, atol=1e-4 * scale, err_msg=key)
    with pytest.raises(ValueError, match="a.pdf: not a .onnx or .xml"):
        export(network_of(net), tmp_path / "a.pdf", size)
