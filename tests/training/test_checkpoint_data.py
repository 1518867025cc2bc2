"""A training is gone on with on the same data only."""

import functools
import tracemalloc

import numpy as np
import pytest
import scipy.sparse

import fastbp as fb
from fastbp.training import described

from .checkpoint_jobs import RNG


def large(**changes):
    """A fit of many rows, from the making of the network on."""
    rng = np.random.default_rng(3)
    data = {"X": rng.normal(size=(5000, 6)), "y": np.arange(5000) % 3,
            "sample_weight": rng.random(5000), "X_val": rng.normal(size=(3000, 6)),
            "y_val": np.arange(3000) % 3, "weights_val": rng.random(3000)}
    for name, change in changes.items():
        data[name] = change(data[name])
    return data


def fit_large(folder, resume=False, epochs=1, **changes):
    data = large(**changes)
    aside = data.pop("X_val"), data.pop("y_val"), data.pop("weights_val")
    net = fb.mlp([6, 3], seed=0)
    net.fit(**data, validation_data=aside, loss=fb.SoftmaxCrossEntropy(), epochs=epochs,
            batch_size=500, checkpoint=folder, resume=resume)
    return net.parameters.tobytes()


def half_zeroed(array):
    array = array.copy()
    array[1::2] = 0
    return array


def last_changed(array):
    array = array.copy()
    array[-2:] = array[-2:][::-1]
    return array


def one_changed(array):
    array = array.copy()
    array[(1237, 3)[: array.ndim]] = 2
    return array


@pytest.mark.parametrize("change", [half_zeroed, last_changed, one_changed])
@pytest.mark.parametrize("name", ["X", "y", "sample_weight", "X_val", "y_val", "weights_val"])
def test_data_that_are_not_the_same(folder, name, change):
    fit_large(folder)
    what = {"X_val": "validation_data X", "y_val": "validation_data y",
            "weights_val": "validation_data sample_weight"}.get(name, name)
    with pytest.raises(ValueError, match=rf"^resume: .*contents of {what} are not the same"):
        fit_large(folder, resume=True, epochs=2, **{name: change})
    assert fit_large(folder, resume=True, epochs=2) == fit_large(None, epochs=2)


def test_sparse_data_that_are_not_the_same(folder):
    dense = np.where(RNG.random((5000, 6)) < 0.3, RNG.normal(size=(5000, 6)), 0)
    places = scipy.sparse.csr_array(dense)
    other_number, other_place = places.copy(), np.roll(dense, 1, axis=1)
    other_number.data[2500] += 1
    other_rows = dense.copy()
    other_rows[[10, 11]] = dense[[11, 10]]
    fit_it = functools.partial(
        fb.mlp([6, 3], seed=0).fit, y=np.arange(5000) % 3, loss=fb.SoftmaxCrossEntropy(),
        batch_size=500, checkpoint=folder)
    fit_it(places, epochs=1)
    for another in (other_number, scipy.sparse.csr_array(other_place),
                    scipy.sparse.csr_array(other_rows)):
        with pytest.raises(ValueError, match=r"^resume: .*contents of X are not the same"):
            fit_it(another, epochs=2, resume=True)
    wide = places.copy()
    wide.indices, wide.indptr = wide.indices.astype("i8"), wide.indptr.astype("i8")
    for same in (scipy.sparse.coo_array(dense), scipy.sparse.csc_array(dense), wide):
        fit_it(same, epochs=2, resume=True)


def test_the_checksum_does_not_depend_on_memory(tmp_path):
    rng = np.random.default_rng(0)
    for shape in ((3000, 17), (1, 40_000), (40_000, 1), (5, 30_001), (7,), (70_000,)):
        for dtype in ("f4", "f8", "f2", "u1", "i4", "?"):
            array = (rng.normal(size=shape) * 9).astype(dtype)
            sums = {described.checksum(array), described.checksum(np.asfortranarray(array))}
            holder = np.zeros(tuple(3 * n for n in shape), dtype)
            strided = holder[tuple(slice(0, None, 3) for _ in shape)]
            strided[...] = array
            mapped = np.memmap(tmp_path / "mapped", dtype, "w+", offset=3, shape=shape)
            mapped[...] = array
            backwards = array[::-1].copy()[::-1]
            swapped = array.astype(array.dtype.newbyteorder(">"))
            for same in (strided, mapped, backwards, swapped, array.copy()):
                sums.add(described.checksum(same))
            assert len(sums) == 1, (shape, dtype)
    array = np.arange(70).reshape(7, 10)
    others = {described.checksum(each) for each in
              (array, array.reshape(-1, 7), array.T, array.astype("u1"), array.ravel())}
    assert len(others) == 5


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_the_checksum_sees_every_change(dtype):
    """Above all of signs, which are the top bits of words: two of them must not cancel out."""
    X = np.random.default_rng(0).normal(size=(700, 64)).astype(dtype)
    others = [X, -X, np.roll(X, 1, axis=0), np.roll(X, 1, axis=1), X[::-1], X[:, ::-1], np.abs(X)]
    for stride in (1, 2, 3, 64, 128):
        flipped = X.copy()
        flipped.reshape(-1)[::stride] *= -1
        if stride > 1:
            others.append(flipped)
    for a, b in ((0, 1), (0, 2), (1, 3), (0, 64), (5, 6), (640, 641), (0, 44_799)):
        for number in (-1, 2, 0):
            two = X.copy()
            two.reshape(-1)[[a, b]] *= number
            others.append(two)
        swapped = X.copy()
        swapped.reshape(-1)[[a, b]] = X.reshape(-1)[[b, a]]
        others.append(swapped)
    for place in range(0, X.size, 997):
        one = X.copy()
        one.reshape(-1)[place] = np.nextafter(one.reshape(-1)[place], 9)
        others.append(one)
    assert len({described.checksum(other) for other in others}) == len(others)


def test_the_checksum_copies_little():
    X = np.zeros((200_000, 30), order="F")
    tracemalloc.start()
    try:
        for array in (X, X[:, ::2], X.T, X.reshape(-1, order="F"),
                      X.reshape(1, -1, order="F")[:, ::2]):
            tracemalloc.reset_peak()
            described.checksum(array)
            few = 1.3 if len(array) > 40 else X.nbytes / 1e6  # a row at the most
            assert tracemalloc.get_traced_memory()[1] < few * 1e6
    finally:
        tracemalloc.stop()


def test_other_rows_are_another_training(folder):
    net, X = fb.mlp([4, 6, 3], seed=0), np.random.default_rng(0).normal(size=(30, 4))
    settings = {"loss": fb.SoftmaxCrossEntropy(), "epochs": 2, "checkpoint": folder}
    net.fit(X, np.arange(30) % 3, **settings)
    with pytest.raises(ValueError, match=r"^resume: .* contents of X are not the same"):
        net.fit(X + 5, np.arange(30) % 3, resume=True, **settings)
