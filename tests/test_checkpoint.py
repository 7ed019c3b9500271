"""Checkpoints: what goes in comes out, and nothing but a whole checkpoint is read."""

import errno
import pickle
from unittest.mock import Mock

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from minigo import checkpoint as module  # noqa: E402
from minigo.checkpoint import (  # noqa: E402
    find_checkpoint,
    load_checkpoint,
    load_network,
    save_checkpoint,
)
from minigo.play.shipped import choose_network, describe, trained_sizes  # noqa: E402
from test_network import make_network, make_planes  # noqa: E402

INFO = {"step": 7, "recipe": {"size": 9, "network": "b2c16"}, "rates": [0.5, None]}


def save(path, **kwargs):
    kwargs = {"network": "b2c16", "weights": make_network().state_dict(), "info": INFO} | kwargs
    save_checkpoint(path, **kwargs)
    return path


def test_what_goes_in_comes_out(tmp_path):
    net = make_network()
    state = {"net": net.state_dict(), "step": 7, "optimizer": {"lr": 0.1, "groups": [[0, 1]]}}
    loaded = load_checkpoint(save(tmp_path / "a.pt", state=state))
    assert (loaded.network, loaded.info) == ("b2c16", INFO)
    assert loaded.state["step"] == 7 and loaded.state["optimizer"] == state["optimizer"]
    for name, weight in net.state_dict().items():
        copy = loaded.weights[name]
        assert torch.equal(weight, copy) and weight.dtype == copy.dtype
    planes = make_planes(2, 9)
    assert torch.equal(net(planes)[0], load_network(loaded)(planes)[0])
    assert not load_network(loaded).training


def test_half_is_half_the_size_and_nearly_the_same_network(tmp_path):
    options = {"network": "b4c64", "weights": make_network("b4c64").state_dict()}
    whole = save(tmp_path / "whole.pt", **options)
    half = save(tmp_path / "half.pt", **options, half=True)
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    loaded, planes = load_checkpoint(half), make_planes(2, 9)
    assert {weight.dtype for weight in loaded.weights.values()} == {torch.float32, torch.int64}
    ours, theirs = (load_network(load_checkpoint(path))(planes)[0] for path in (whole, half))
    torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.05)


def test_saving_replaces_the_file_and_leaves_nothing_else(tmp_path):
    path = save(tmp_path / "a.pt")
    save(path, info={"step": 8})
    assert load_checkpoint(path).info == {"step": 8}
    assert [file.name for file in tmp_path.iterdir()] == ["a.pt"]


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = save(tmp_path / "a.pt")
    with pytest.raises(TypeError):
        save(path, info={"step": np.int64(8)})  # no JSON
    full = OSError(errno.ENOSPC, "the disk is full")
    monkeypatch.setattr("minigo.machine.os.fsync", Mock(side_effect=full))
    with pytest.raises(OSError, match="the disk is full.*a.pt"):
        save(path, info={"step": 9})
    monkeypatch.undo()
    assert load_checkpoint(path).info == INFO
    assert [file.name for file in tmp_path.iterdir()] == ["a.pt"]


def assert_refused(path):
    with pytest.raises(ValueError) as error:
        load_checkpoint(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_truncated_file_or_one_bit_wrong_is_refused(tmp_path):
    path = save(tmp_path / "a.pt")
    data = path.read_bytes()
    for share in (0, 0.001, 0.01, 0.1, 0.3, 0.5, 0.8, 0.99, 0.999, 1 - 1 / len(data)):
        path.write_bytes(data[: round(share * len(data))])
        assert_refused(path)
    at = data.index(make_network().totals.weight.detach().numpy().tobytes()) + 100
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    assert_refused(path)


def test_what_is_no_checkpoint_is_refused(tmp_path, rng):
    path = tmp_path / "a.pt"
    for data in (b"", b"garbage", b"PK\x03\x04garbage", rng.bytes(5000), b"(;GM[1]SZ[9])"):
        path.write_bytes(data)
        assert_refused(path)
    for content in ({"weights": {}}, [1, 2], torch.zeros(3), {"format": "minigo checkpoint 99"}):
        torch.save(content, path)
        assert_refused(path)
    path.write_bytes(pickle.dumps({"format": "minigo checkpoint 1"}))
    assert_refused(path)
    assert_refused(tmp_path)
    assert_refused(tmp_path / "missing.pt")


def test_code_in_a_file_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    torch.save({"format": "minigo checkpoint 1", "info": Trap()}, tmp_path / "a.pt")
    assert_refused(tmp_path / "a.pt")
    assert not (tmp_path / "sprung").exists()


def test_damaged_fields_are_refused(tmp_path):
    path = save(tmp_path / "a.pt")
    content = torch.load(path, weights_only=True)
    for changes in ({"planes": ["stones"]}, {"weights": 3}, {"network": None}, {"state": "x"}):
        torch.save(content | changes, path)
        assert_refused(path)
    for changes in ({"network": "b3c16"}, {"network": "b2c32"}, {"weights": {}}):
        torch.save(content | changes, path)
        with pytest.raises(ValueError, match="weights of no"):
            load_network(load_checkpoint(path))


def test_shipped_networks_are_found_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_FOLDERS", (tmp_path / "none", tmp_path))
    path = save(tmp_path / "5x5.pt")
    assert find_checkpoint("5x5") == path and find_checkpoint(path) == path
    with pytest.raises(ValueError, match="6x6: no such file.*5x5"):
        find_checkpoint("6x6")
    assert list(describe()) == ["5x5"]


def test_describe_says_what_a_file_is(tmp_path):
    path = save(tmp_path / "a.pt", state={"step": 7})
    about = describe(path)
    assert about["network"] == "b2c16" and about["resumable"] and about["step"] == 7
    assert about["file_bytes"] == path.stat().st_size and about["parameters"] > 1000


def test_networks_are_chosen_by_size(monkeypatch):
    shipped = ["9x9", "9x9-human", "13x13-human"]
    monkeypatch.setattr("minigo.play.shipped.list_shipped", lambda: shipped)
    names = [choose_network(size, human) for size in (9, 13, 19) for human in (False, True)]
    assert names == ["9x9", "9x9-human", "13x13-human", "13x13-human", "9x9", "9x9-human"]


def test_a_checkpoint_says_what_sizes_it_learned_on():
    assert trained_sizes({}) == []
    assert trained_sizes({"size": 9}) == trained_sizes({"recipe": {"size": 9}}) == [9]
    assert trained_sizes({"size": [9, 19]}) == [9, 19]
    assert trained_sizes({"recipe": {"size": 9, "min_size": 7}}) == [7, 8, 9]
