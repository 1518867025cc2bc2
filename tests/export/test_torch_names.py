"""Weights in safetensors files under PyTorch's names, without PyTorch."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import fastbp as fb

pytestmark = pytest.mark.once


@pytest.fixture
def net():
    return fb.Sequential([fb.Dense(2, 3), fb.BatchNorm(3), fb.Residual([fb.LayerNorm(3)]),
                          fb.Scale(3)], seed=0)


def test_names(net, tmp_path):
    net.save_torch(tmp_path / "net.safetensors")
    arrays = load_file(tmp_path / "net.safetensors")
    assert sorted(arrays) == sorted([
        "0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var",
        "1.num_batches_tracked", "2.0.weight", "2.0.bias", "3.gamma"])
    assert (arrays["0.weight"] == net.layers[0].W.T).all()


def test_names_of_ones_own(net, tmp_path):
    names = {"0.W": "encoder.fc.weight", "0.b": "encoder.fc.bias"}
    net.save_torch(tmp_path / "net.safetensors", names)
    arrays = load_file(tmp_path / "net.safetensors")
    assert {"encoder.fc.weight", "encoder.fc.bias", "3.gamma"} < set(arrays)
    save_file(arrays | {"head.weight": np.ones(2)}, tmp_path / "more.safetensors")
    other = fb.Sequential([fb.Dense(2, 3), fb.BatchNorm(3), fb.Residual([fb.LayerNorm(3)]),
                           fb.Scale(3)], seed=1)
    other.load_torch(tmp_path / "more.safetensors", names)
    assert (other.parameters == net.parameters).all()


def test_other_dtypes(net, tmp_path):
    arrays = {"0.weight": np.ones((3, 2), np.float16), "0.bias": np.full(3, 0.1)}
    save_file(arrays, tmp_path / "net.safetensors")
    small = fb.Sequential([fb.Dense(2, 3)], seed=0)
    small.load_torch(tmp_path / "net.safetensors")
    assert (small.layers[0].W == 1).all() and (small.layers[0].b == np.float32(0.1)).all()


def test_nothing_changes_unless_all_fits(net, tmp_path):
    before, path = net.get_state(), tmp_path / "net.safetensors"
    net.save_torch(path)
    good = load_file(path)
    cases = [
        (good | {"more": np.ones(1)}, r"not expected: more; name them with weights=\{own name"),
        ({name: each for name, each in good.items() if name != "3.gamma"}, "missing: 3.gamma"),
        (good | {"0.weight": np.ones((2, 3), "f4")}, r"0\.weight: expected numbers of shape \(3"),
        (good | {"3.gamma": np.ones(3, np.int64)}, r"3\.gamma: expected numbers.*got I64"),
    ]
    for arrays, message in cases:
        arrays = {name: np.asarray(each + (name[0] == "0")) for name, each in arrays.items()}
        save_file(arrays, path)
        with pytest.raises(ValueError, match=message):
            net.load_torch(path)
        assert (net.get_state() == before).all()


@pytest.mark.parametrize("content", [b"", b"hello", bytes(range(200))])
def test_damaged_files(net, tmp_path, content):
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(ValueError, match=r"path: .*bad' is not a safetensors file"):
        net.load_torch(tmp_path / "bad")


def test_arguments(net, tmp_path):
    path = tmp_path / "net.safetensors"
    with pytest.raises(FileNotFoundError, match="path: there is no file"):
        net.load_torch(path)
    with pytest.raises(ValueError, match="path: expected a file, got"):
        net.load_torch(tmp_path)
    with pytest.raises(TypeError, match="weights: expected a dict"):
        net.save_torch(path, "0.W")
    with pytest.raises(ValueError, match=r"weights: expected names.*such as 0\.W, .* got '9\.W'"):
        net.save_torch(path, {"9.W": "a"})
    with pytest.raises(ValueError, match="got one twice"):
        net.save_torch(path, {"0.W": "a", "0.b": "a"})
    assert list(tmp_path.iterdir()) == []
