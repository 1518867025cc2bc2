"""Tables: what is read, what is refused and how that is said, and what makes them ready."""

import re
import sys

import numpy as np
import pytest
import sklearn.datasets
from hypothesis import given
from hypothesis import strategies as st

import fastbp as fb
from fastbp import datasets

# The digits


def test_digits_are_those_of_scikit_learn_scaled_to_1():
    X, y = datasets.digits()
    pixels, labels = sklearn.datasets.load_digits(return_X_y=True)
    assert (X.dtype, y.dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(X * 16, pixels)
    np.testing.assert_array_equal(y, labels)


def test_digits_train_and_test_are_a_fixed_partition():
    X, y = datasets.digits()
    parts = [datasets.digits("train"), datasets.digits("test")]
    assert [len(part[1]) for part in parts] == [1438, 359]
    rows = [sorted(map(tuple, np.column_stack(part).tolist())) for part in [(X, y), *parts]]
    assert rows[0] == sorted(rows[1] + rows[2])
    assert np.ptp(np.bincount(parts[1][1])) <= 2  # about as many of each digit
    again = datasets.digits("test")
    np.testing.assert_array_equal(parts[1][0], again[0])


def test_digits_refuses_other_parts():
    with pytest.raises(ValueError, match='part: expected "all", "train" or "test", got \'val\''):
        datasets.digits("val")


def test_without_scikit_learn_the_error_names_the_extra(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "sklearn"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r'pip install "fastbp\[sklearn\]"'):
        datasets.digits()


# CSV


@pytest.fixture
def file(tmp_path):
    """A function that writes a file of this content and returns its path."""

    def write(content, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_csv_of_numbers(file):
    table = datasets.read_table(file("a,b,c\n1,2,3\n-4.5,5e3,6\n"), "b")
    np.testing.assert_array_equal(table.X, [[1, 3], [-4.5, 6]])
    np.testing.assert_array_equal(table.y, [2, 5000])
    assert (table.columns, table.target) == (["a", "c"], "b")
    assert table.X.dtype == table.y.dtype == np.float64


@pytest.mark.parametrize("content", [
    "a;b;c\n1;2;3\n", "a\tb\tc\n1\t2\t3\n",
    "\ufeffa,b,c\r\n1,2,3\r\n",  # as Excel writes it
    'a ,"b",c\n1, 2 ,"3"\n\n',
    "a,b,c\n\n1,2,3",
], ids=["semicolons", "tabs", "Excel", "spaces and quotes", "empty line and no last line end"])
def test_csv_of_other_habits(file, content):
    table = datasets.read_table(file(content), "b")
    assert (table.columns, table.X.tolist(), table.y.tolist()) == (["a", "c"], [[1, 3]], [2])


def test_csv_with_a_text_target_gives_class_names(file):
    table = datasets.read_table(file("a,kind\n1, cat\n2,dog \n3,7\n4,Ærø\n"), "kind")
    assert table.y.tolist() == ["cat", "dog", "7", "Ærø"]
    assert table.y.dtype.kind == "U"


def test_dropped_columns_are_not_looked_at(file):
    path = file("id,a,note,y\nx1,1,,5\nx2,2,hello,6\n")
    table = datasets.read_table(path, "y", drop=["id", "note"])
    assert (table.columns, table.X.tolist()) == (["a"], [[1], [2]])
    table = datasets.read_table(file("a,id,y\n1,x,3\n"), "y", drop="id")
    assert table.columns == ["a"]


BAD_CSV = {
    "text columns, all at once": (
        "a,street,y,city\n1,High St,2,Rome\n2,3,4,5\n", "y",
        "column 'street' holds text, first 'High St' in line 2; column 'city' holds text, first "
        "'Rome' in line 2. Expected finite numbers: turn text into numbers (a column of 0 and 1 "
        "for each value), or leave these columns out with drop=['street', 'city'], on the command "
        "line --drop street --drop city"),
    "text far down": ("a,y\n1,2\n\n3,4\nNA,5\n12 kg,6\n", "y",
                      "column 'a' holds text, first '12 kg' in line 6."),
    "decimal commas": ("a;y\n1,5;2\n", "y", "column 'a' holds text, first '1,5' in line 2."),
    "missing values": (
        "a,b,y\n1,1,1\n1,,1\n1,NA,1\n1,nan,1\n", "y",
        "column 'b' lacks 3 values, first in line 3. Expected finite numbers: fill in missing "
        "values or remove their rows, or leave"),
    "one missing value": ("a,y\n1,1\n n/a ,1\n", "y",
                          "column 'a' lacks a value, in line 3."),
    "infinite": ("a,y\n1,1\n1e999,2\n", "y",
                 "column 'a' holds an infinite number, '1e999' in line 3. Expected finite "
                 "numbers: replace infinite numbers, or"),
    "quoted names": ("a b,y\nx,1\n", "y", "on the command line --drop 'a b'"),
    "missing target value": (
        "a,y\n1,1\n2,\n3,NaN\n", "y",
        "the target column 'y' lacks 2 values, first in line 3; remove such rows, since a target "
        "cannot be filled in"),
    "missing class": ("a,y\n1,cat\n2,\n", "y", "the target column 'y' lacks a value"),
    "infinite target": ("a,y\n1,1\n2,inf\n", "y", "the target column 'y' holds an infinite"),
    "no target": ("a,b\n1,2\n", None, "target: name the column to learn; the columns that the "
                                      "first line names are 'a', 'b'"),
    "unknown target": ("a,b\n1,2\n", "c", "target: there is no column 'c'; the columns that the "
                                          "first line names are 'a', 'b'"),
    "no header": ("1.5,2\n3,4\n", "y", "the first line must name the columns, but holds "
                                       "numbers: '1.5', '2'"),
    "many columns": (",".join(f"c{i}" for i in range(30)) + "\n", "y", "'c19' and 10 more"),
    "duplicate names": ("a,b,a,b,y\n1,2,3,4,5\n", "y", "the first line names 'a', 'b' more than "
                                                       "once; give each column a name"),
    "nameless column": (",a,y\n0,1,2\n", "y", "column 1 has no name in the first line; name it, "
                                              "or remove it"),
    "empty": ("", "y", "is empty"),
    "only blank": ("\n\n", "y", "is empty, or its first line is"),
    "no rows": ("a,y\n", "y", "has no rows below the first line"),
    "short row": ("a,b,y\n1,2,3\n4,5\n", "y", "line 3 has 2 cells, but the first line names 3 "
                                              "columns"),
    "long row": ("a,y\n1,2\n1,000,2\n", "y", "line 3 has 3 cells, but the first line names 2"),
    "only the target": ("y\n1\n", "y", "no column is left to learn 'y' from"),
    "open quote": ('a,y\n1,2\n"3,4\n', "y", "line 3 is not valid CSV: unexpected end of data"),
    "not UTF-8": ("a,y\n1,Köln\n".encode("latin-1"), "y",
                  "is not UTF-8 text (byte 0xf6); save it as UTF-8"),
    "UTF-16": ("a,y\n1,2\n".encode("utf-16"), "y", "is not UTF-8 text (byte 0xff)"),
}


@pytest.mark.parametrize("case", BAD_CSV)
def test_bad_csv_is_refused_with_the_place_and_the_remedy(file, case):
    content, target, message = BAD_CSV[case]
    path = file(content)
    with pytest.raises(ValueError, match="^" + re.escape(f"{path}: ")) as caught:
        datasets.read_table(path, target)
    assert message in str(caught.value)


@pytest.mark.parametrize(("drop", "message"), [
    (["b"], "drop: there is no column 'b'; the columns that the first line names are 'a', 'y'"),
    (["y"], "drop: column 'y' is the target"),
    (["a"], "no column is left to learn 'y' from"),
])
def test_bad_drop_is_refused(file, drop, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        datasets.read_table(file("a,y\n1,2\n"), "y", drop)


def test_a_message_does_not_list_hundreds_of_columns(file):
    names = [f"c{i}" for i in range(300)]
    path = file(",".join(names) + ",y\n" + "x," * 300 + "1\n")
    with pytest.raises(ValueError, match="and 280 more columns") as caught:
        datasets.read_table(path, "y")
    assert len(str(caught.value)) < 3000


def test_a_missing_file_is_an_error_of_the_system(tmp_path):
    for name in "none.csv", "none.npz":
        with pytest.raises(FileNotFoundError):
            datasets.read_table(tmp_path / name, "y")


def test_columns_are_selected_by_name(file):
    path = file("b,note,a\n1,x,2\n")
    table = datasets.read_table(path, columns=["a", "b"])
    assert (table.X.tolist(), table.y, table.columns) == ([[2, 1]], None, ["a", "b"])
    with pytest.raises(ValueError, match="columns: there are no columns 'c', 'd'"):
        datasets.read_table(path, columns=["a", "c", "d"])
    with pytest.raises(ValueError, match="target: expected a column that is not one of X's too, go"
                                         "t 'a'; leave it out of columns"):
        datasets.read_table(path, "a", columns=["a", "b"])
    with pytest.raises(ValueError, match=r"drop: expected no names together with columns, .* 'b';"):
        datasets.read_table(path, columns=["a"], drop=["b"])
    with pytest.raises(ValueError, match="columns: expected the names of X's columns, got none"):
        datasets.read_table(path, "a", columns=[])


def test_standardizer_names_the_column_that_is_too_large():
    with pytest.raises(ValueError, match="column 'b': expected numbers whose squares"):
        datasets.Standardizer([[1, 1e300], [2, -1e300]], ["a", "b"])


# npz


def test_npz_of_numbers(tmp_path):
    path = tmp_path / "t.NPZ"
    X, y = np.arange(6, dtype=np.uint8).reshape(3, 2), np.array([[True], [False], [True]])
    with open(path, "wb") as file:
        np.savez(file, X=X, y=y)
    table = datasets.read_table(path)
    np.testing.assert_array_equal(table.X, X)
    assert (table.y.dtype, table.y.tolist()) == (np.float64, [1, 0, 1])
    assert (table.columns, table.target) == (["X[:, 0]", "X[:, 1]"], "y")


def test_npz_with_text_and_another_target(tmp_path):
    np.savez(tmp_path / "t.npz", X=np.eye(2), y=[1.0, 2.0], kind=["cat", "dog"])
    assert datasets.read_table(tmp_path / "t.npz", "kind").y.tolist() == ["cat", "dog"]


NAN = np.array([[1, 2], [np.nan, np.inf]])
BAD_NPZ = {
    "no X": ({"a": [1], "b": [2]}, "there is no array 'X', but 'a', 'b'; write the file with "
                                   "numpy.savez(path, X=X, y=y)"),
    "no y": ({"X": [[1]]}, "there is no array 'y', but 'X'"),
    "nothing": ({}, "there is no array 'X', but none at all"),
    "objects": ({"X": np.array([[1, None]], object), "y": [1]},
                "X cannot be read: it holds Python objects; write numbers"),
    "text": ({"X": [["a"]], "y": [1]}, "X: expected numbers of shape (rows, columns), got <U1 of "
                                       "shape (1, 1); read_frame and --model tabpack take text"),
    "pictures": ({"X": np.ones((2, 3, 3)), "y": [1, 2]}, "of shape (2, 3, 3)"),
    "several targets": ({"X": np.ones((2, 3)), "y": np.ones((2, 2))},
                        "y: expected numbers or text of shape (rows,), got float64 of shape "
                        "(2, 2)"),
    "lengths": ({"X": np.ones((2, 3)), "y": np.ones(3)}, "got shapes (2, 3) and (3,)"),
    "no rows": ({"X": np.ones((0, 3)), "y": np.ones(0)},
                "X: expected at least one row and one column, got shape (0, 3)"),
    "NaN in X": ({"X": NAN, "y": [1, 2]}, "X holds 2 NaN or infinite values (first in row 1, "
                                          "column 0); fill in"),
    "NaN in y": ({"X": np.eye(2), "y": [1, np.nan]}, "y holds 1 NaN or infinite value; fill"),
}


@pytest.mark.parametrize("case", BAD_NPZ)
def test_bad_npz_is_refused(tmp_path, case):
    arrays, message = BAD_NPZ[case]
    path = tmp_path / "t.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="^" + re.escape(f"{path}: ")) as caught:
        datasets.read_table(path)
    assert message in str(caught.value)


def test_damaged_npz_is_refused(tmp_path):
    path = tmp_path / "t.npz"
    np.savez(path, X=np.ones((50, 50)), y=np.ones(50))
    whole = path.read_bytes()
    flipped, method, encrypted = bytearray(whole), bytearray(whole), bytearray(whole)
    flipped[5000] ^= 255
    method[whole.index(b"PK\1\2") + 10] = 99  # one that nobody knows
    encrypted[whole.index(b"PK\1\2") + 8] |= 1
    cut = whole[:40] + whole[60:]  # offsets point before the file's start
    single = tmp_path / "single.npy"
    np.save(single, np.ones(3))
    for content in (b"", b"hello", whole[:900], whole[:-30], single.read_bytes(), flipped, method,
                    encrypted, cut):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"t\.npz: .*(is not an \.npz file|cannot be read)"):
            datasets.read_table(path)


def test_npz_has_no_columns_to_drop(tmp_path):
    with pytest.raises(ValueError, match=r"drop: the columns of an \.npz file have no names"):
        datasets.read_table(tmp_path / "t.npz", drop=["a"])


# What a table needs before training


@given(st.lists(st.sampled_from("abcde"), min_size=2, max_size=200), st.floats(0.05, 0.95),
       st.integers(0, 2**40), st.booleans())
def test_hold_out_is_a_partition_of_the_right_sizes(y, share, seed, stratify):
    y = np.array(y)
    if int(len(y) * share) == 0:
        with pytest.raises(ValueError, match=r"test_share: expected a share that holds out at"):
            datasets.hold_out(y, share, seed, stratify)
        return
    train, test = datasets.hold_out(y, share, seed, stratify)
    assert sorted([*train, *test]) == list(range(len(y)))
    assert (np.diff(train) > 0).all() and (np.diff(test) > 0).all()
    assert len(test) == int(len(y) * share)
    if stratify:
        for label in "abcde":
            assert abs((y[test] == label).sum() - share * (y == label).sum()) < 1 + 1e-9


def test_hold_out_follows_from_the_seed():
    y = np.zeros(100)
    draws = [tuple(datasets.hold_out(y, 0.3, seed)[1]) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert draws[0] != tuple(range(70, 100)) and len(set(np.diff(draws[0]))) > 2  # at random


@pytest.mark.parametrize("share", [0, 1, -0.1, float("nan")])
def test_hold_out_refuses_other_shares(share):
    with pytest.raises(ValueError, match="test_share: expected a finite number"):
        datasets.hold_out(np.zeros(10), share)


def test_standardizer_gives_mean_0_and_deviation_1(rng):
    X = rng.normal(size=(500, 3)) * [1, 1e-6, 1e6] + [0, 5, -1e7]
    Z = datasets.Standardizer(X)(X)
    np.testing.assert_allclose(Z.mean(axis=0), 0, atol=1e-8)
    np.testing.assert_allclose(Z.std(axis=0), 1, rtol=1e-8)
    np.testing.assert_allclose(datasets.Standardizer(X)(X[:5]), Z[:5])


def test_a_constant_column_comes_out_0_whatever_follows():
    X = np.column_stack([np.full(77, 0.1), np.arange(77)])  # whose mean is not quite 0.1
    assert X[:, 0].std() > 0
    standardize = datasets.Standardizer(X)
    np.testing.assert_array_equal(standardize(X)[:, 0], 0)
    np.testing.assert_array_equal(standardize(np.array([[1e9, 38.0]])), [[0, 0]])


def test_standardizer_refuses_nan():
    with pytest.raises(ValueError, match="X: expected finite numbers, got nan in row 1, column 0"):
        datasets.Standardizer([[1.0], [np.nan]])


@pytest.mark.parametrize("hidden", [[], [8], [8, 8]])
def test_fold_makes_the_network_take_and_give_the_data_as_they_were(hidden, rng):
    # Far from 0 for their deviation, as years or coordinates are, and one constant.
    X = rng.normal(size=(200, 4)) * [1, 1e-3, 1e6, 0] + [-120, 7, 1.6e9, 3.3]
    y = rng.normal(size=(200, 2)) * [1e-4, 1e5] + [1, 2e5]
    inputs, outputs = datasets.Standardizer(X), datasets.Standardizer(y)
    net = fb.mlp([4, *hidden, 2], dropout=0.1, seed=0)
    before = net.parameters.copy()
    expected = net.astype("float64").predict(inputs(X)) * outputs.scale + outputs.mean
    whole = datasets.fold(net, inputs, outputs)
    assert whole.dtype == np.float64
    difference = (whole.predict(X) - expected) / outputs.scale
    assert abs(difference).max() < 1e-7
    # Nor does it say anything new about a column that was constant in the training.
    other = X.copy()
    other[:, 3] = 1e9
    np.testing.assert_array_equal(whole.predict(other), whole.predict(X))
    np.testing.assert_array_equal(net.parameters, before)


@pytest.mark.parametrize(("precision", "tolerance"), [("medium", 0.02), ("high", 1e-4)])
def test_fold_keeps_a_lower_precision(precision, tolerance, rng):
    X = rng.normal(size=(200, 4)) * [1, 0.1, 10, 0] + [-120, 7, 2000, 3.3]
    y = rng.normal(size=(200, 2)) * [1e-4, 1e5] + [1e-3, 2e5]
    inputs, outputs = datasets.Standardizer(X), datasets.Standardizer(y)
    net = fb.mlp([4, 8, 2], precision=precision, seed=0)
    whole = datasets.fold(net, inputs, outputs)
    assert (whole.dtype, whole.precision) == (np.float32, precision)
    expected = net.predict(inputs(X)) * outputs.scale + outputs.mean
    assert abs((whole.predict(X) - expected) / outputs.scale).max() < tolerance
    other = X.copy()
    other[:, 3] = 1e9
    np.testing.assert_array_equal(whole.predict(other), whole.predict(X))
    assert len(net.layers) == 3
    np.testing.assert_array_equal(datasets.fold(net, outputs=outputs).layers[0].W, net.layers[0].W)


@pytest.mark.parametrize("column", [
    lambda x: 1.7e9 + 30 * x, lambda x: 1e-40 * x, lambda x: 1e40 * x, lambda x: 1e40 + 0 * x])
def test_fold_is_exact_where_float32_would_lose_a_column(column, rng):
    X = np.column_stack([rng.normal(size=200), column(rng.normal(size=200))])
    scale = datasets.Standardizer(X)
    net = fb.mlp([2, 8, 1], precision="high", seed=0)
    whole = datasets.fold(net, scale)
    assert (whole.dtype, whole.precision) == (np.float64, "highest")
    np.testing.assert_allclose(whole.predict(X), net.predict(scale(X)), atol=1e-4)


def test_fold_one_side_only(rng):
    X = rng.normal(size=(20, 3)) + 5
    net = fb.mlp([3, 4, 2], dtype="float64", seed=0)
    scale = datasets.Standardizer(X)
    np.testing.assert_allclose(datasets.fold(net, inputs=scale).predict(X), net.predict(scale(X)))
    y = datasets.Standardizer(np.array([[1.0, 7.0], [3.0, 7.0]]))
    folded = datasets.fold(net, outputs=y).predict(X)
    np.testing.assert_allclose(folded[:, 0], net.predict(X)[:, 0] + 2)
    np.testing.assert_array_equal(folded[:, 1], 7)  # the constant target


def test_fold_needs_dense_layers(rng):
    scale = datasets.Standardizer(rng.normal(size=(20, 3)))
    net = fb.Sequential([fb.Dropout(0.5), fb.Dense(3, 3), fb.ReLU()])
    with pytest.raises(TypeError, match=r"network: expected a Dense layer.*got Dropout"):
        datasets.fold(net, inputs=scale)
    with pytest.raises(TypeError, match=r"network: expected a Dense layer.*got ReLU"):
        datasets.fold(net, outputs=scale)
