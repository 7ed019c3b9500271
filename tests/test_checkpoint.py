"""Checkpoints: what goes in comes out, and nothing but a whole checkpoint is read."""

import errno
import json
import os
from unittest.mock import Mock

import numpy as np
import pytest
import safetensors.numpy

torch = pytest.importorskip("torch")
from minigo import checkpoint as module  # noqa: E402
from minigo.architecture import Network  # noqa: E402
from minigo.checkpoint import (  # noqa: E402
    list_shipped,
    load_checkpoint,
    load_network,
    save_checkpoint,
)
from minigo.network import as_module  # noqa: E402
from minigo.play.shipped import choose_network, describe, trained_sizes  # noqa: E402
from test_network import make_network, make_planes, network_of  # noqa: E402

INFO = {"step": 7, "recipe": {"size": 9, "network": "b2c16"}, "rates": [0.5, None]}


def save(path, network=None, info=INFO, **options):
    save_checkpoint(path, network or network_of(make_network()), info, **options)
    return path


def test_what_goes_in_comes_out(tmp_path):
    net = make_network()
    state = {"means.0": np.arange(6.0).reshape(2, 3), "step": 7, "log": [{"a": None}, [0.5]]}
    loaded = load_checkpoint(save(tmp_path / "a.safetensors", state=state))
    assert (loaded.network, loaded.info) == ("b2c16", INFO)
    assert (loaded.state.pop("means.0") == state.pop("means.0")).all() and loaded.state == state
    for name, weight in network_of(net).weights.items():
        copy = loaded.weights[name]
        assert np.array_equal(weight, copy) and weight.dtype == copy.dtype
    planes, read = make_planes(2, 9), as_module(load_network(loaded))
    assert torch.equal(net(planes)[0], read(planes)[0]) and not read.training


def test_half_is_half_the_size_and_nearly_the_same_network(tmp_path):
    network = network_of(make_network("b4c64"))
    whole = save(tmp_path / "whole.safetensors", network)
    half = save(tmp_path / "half.safetensors", network, half=True)
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    loaded, planes = load_checkpoint(half), make_planes(2, 9)
    assert {str(weight.dtype) for weight in loaded.weights.values()} == {"float32", "int64"}
    nets = (as_module(load_network(load_checkpoint(path))) for path in (whole, half))
    ours, theirs = (net(planes)[0] for net in nets)
    torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.05)


def test_saving_replaces_the_file_or_leaves_it_and_nothing_else(tmp_path, monkeypatch):
    path = save(tmp_path / "a.safetensors")
    with pytest.raises(TypeError):
        save(path, info={"step": np.int64(8)})  # no JSON
    full = OSError(errno.ENOSPC, "the disk is full")
    monkeypatch.setattr("minigo.machine.os.fsync", Mock(side_effect=full))
    with pytest.raises(OSError, match="the disk is full.*a.safetensors"):
        save(path, info={"step": 9})
    monkeypatch.undo()
    assert load_checkpoint(path).info == INFO
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]
    save(path, info={"step": 8})
    assert load_checkpoint(path).info == {"step": 8}
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_nothing_takes_the_place_of_a_device(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDWR)
    module.write_whole(path, "all of it")
    assert os.read(reader, 99) == b"all of it" and path.is_fifo()
    os.close(reader)


def test_an_error_names_the_file_that_was_asked_for(tmp_path):
    (tmp_path / "game").touch()
    with pytest.raises(NotADirectoryError, match=r"/game/a\.sgf'$"):
        module.write_whole(tmp_path / "game" / "a.sgf", "all of it")


def assert_refused(path):
    with pytest.raises(ValueError) as error:
        load_checkpoint(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_truncated_file_or_one_bit_wrong_is_refused(tmp_path):
    path = save(tmp_path / "a.safetensors")
    data = path.read_bytes()
    for share in (0, 0.001, 0.01, 0.1, 0.3, 0.5, 0.8, 0.99, 0.999, 1 - 1 / len(data)):
        path.write_bytes(data[: round(share * len(data))])
        assert_refused(path)
    at = data.index(make_network().totals.weight.detach().numpy().tobytes()) + 100
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    assert_refused(path)


def test_what_is_no_checkpoint_is_refused(tmp_path, rng):
    path = tmp_path / "a.safetensors"
    for data in (b"", b"garbage", b"PK\x03\x04garbage", rng.bytes(5000), b"(;GM[1]SZ[9])"):
        path.write_bytes(data)
        assert_refused(path)
    for metadata in (None, {"format": "np"}, {"minigo": "{}", "crc32": "00000000"}):
        path.write_bytes(safetensors.numpy.save({"a": np.zeros(3)}, metadata))
        assert_refused(path)
    assert_refused(tmp_path)
    assert_refused(tmp_path / "missing.safetensors")


def test_an_older_minigos_file_is_refused_by_name_and_its_code_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    torch.save({"format": "minigo checkpoint 1", "info": Trap()}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"a.pt: not a checkpoint.*an older minigo's .pt is no"):
        load_checkpoint(tmp_path / "a.pt")
    assert not (tmp_path / "sprung").exists()


def test_damaged_fields_are_refused(tmp_path, monkeypatch):
    dumps = json.dumps
    for changes in ({"network": None}, {"state": "x"}, {"info": []}, {"state": {}, "info": 1}):
        monkeypatch.setattr(module.json, "dumps", lambda x, c=changes: dumps(x | c))
        path = save(tmp_path / "a.safetensors")
        assert_refused(path)
    monkeypatch.setattr(module.json, "dumps", lambda x: "[]")
    assert_refused(save(tmp_path / "a.safetensors"))
    monkeypatch.undo()
    weights = network_of(make_network()).weights
    wrong = {
        name: weights | {name: weights[name][:, :5]} for name in ("stem.weight", "pooled.weight")
    }
    wrong |= {
        "none": {},
        "one less": {name: weights[name] for name in weights if name != "totals.bias"},
    }
    wrong["flat"] = {name: weight.ravel() for name, weight in weights.items()}
    wrong = [Network("b2c16", weights) for weights in wrong.values()]
    for network in (Network("b3c16", weights), Network("b2c32", weights), *wrong):
        path = save(tmp_path / "a.safetensors", network)
        with pytest.raises(ValueError, match="weights of no"):
            load_network(load_checkpoint(path))
    for name in ("PLANE_NAMES", "_FORMAT"):
        monkeypatch.setattr(module, name, "others")
        assert_refused(path)


def test_shipped_networks_are_found_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_FOLDERS", (tmp_path / "none", tmp_path))
    path = save(tmp_path / "5x5.safetensors")
    assert module.find_checkpoint("5x5") == path and module.find_checkpoint(path) == path
    (tmp_path / "a" / "5x5").mkdir(parents=True)  # such as a run's
    monkeypatch.chdir(tmp_path / "a")
    assert module.find_checkpoint("5x5") == path
    with pytest.raises(ValueError, match="6x6: no such file.*5x5"):
        module.find_checkpoint("6x6")
    assert list(describe()) == ["5x5"]


def test_describe_says_what_a_file_is(tmp_path):
    path = save(tmp_path / "a.safetensors", state={"step": 7})
    about = describe(path)
    assert about["network"] == "b2c16" and about["resumable"] and about["step"] == 7
    assert about["file_bytes"] == path.stat().st_size and about["parameters"] > 1000


def test_networks_are_chosen_by_size():
    names = [choose_network(size, human) for human in (False, True) for size in (5, 9, 12, 19)]
    assert names == ["9x9", "9x9", "13x13", *["human"] * 5]
    assert set(names) <= set(list_shipped())


def test_a_checkpoint_says_what_sizes_it_learned_on():
    assert trained_sizes({}) == []
    assert trained_sizes({"size": 9}) == trained_sizes({"recipe": {"size": 9}}) == [9]
    assert trained_sizes({"size": [9, 19]}) == [9, 19]
    assert trained_sizes({"recipe": {"size": 9, "shares": [[13, 1.0], [9, 2.0]]}}) == [9, 13]
