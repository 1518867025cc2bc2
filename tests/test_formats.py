"""Tables in CSV, Parquet and NumPy files: the same columns and the same models, or refused."""

import re
import sys
import textwrap

import numpy as np
import polars as pl
import pytest

import fastbp as fb
from fastbp import datasets
from fastbp.__main__ import main
from fastbp.datasets.tables import column_names

COLUMNS = {
    "size": [41.5, 97.0, None, 120.25],
    "rooms": [2, 3, 4, None],
    "district": ["hills", "harbour", None, "hills"],
    "sold": ["2020-01-31", "2021-02-28 18:30", None, "2019-12-01"],
    "price": [200.5, 310.0, 280.0, 402.0],
}


@pytest.fixture
def files(tmp_path):
    """The same table in each format, in Parquet with dates as dates and as text."""
    table = pl.DataFrame(COLUMNS)
    table.write_csv(tmp_path / "t.csv")
    table.write_parquet(tmp_path / "text.parquet")
    table.with_columns(
        pl.col("sold").str.to_datetime("%Y-%m-%d %H:%M", strict=False).fill_null(
            pl.col("sold").str.to_datetime("%Y-%m-%d", strict=False)),
        pl.col("district").cast(pl.Categorical), pl.col("rooms").cast(pl.UInt8),
        pl.col("price").cast(pl.Decimal(10, 2)),
    ).write_parquet(tmp_path / "typed.PQ")
    rows = zip(*(COLUMNS[name] for name in list(COLUMNS)[:4]), strict=True)
    np.savez(tmp_path / "t.npz", X=[["" if cell is None else str(cell) for cell in row]
                                    for row in rows], y=COLUMNS["price"])
    return tmp_path


@pytest.mark.parametrize("name", ["text.parquet", "typed.PQ", "t.npz"])
def test_the_same_table_in_every_format(files, name):
    expected = datasets.read_frame(files / "t.csv", "price")
    frame = datasets.read_frame(files / name, None if name == "t.npz" else "price")
    assert [each.dtype for each in frame.cells] == [each.dtype for each in expected.cells]
    for ours, theirs in zip(frame.cells, expected.cells, strict=True):
        assert [str(each) for each in ours] == [str(each) for each in theirs]
    assert frame.y.tolist() == expected.y.tolist() == COLUMNS["price"]
    names = list(COLUMNS)[:4] if name != "t.npz" else [f"X[:, {i}]" for i in range(4)]
    assert frame.columns == names and not frame.is_complete
    assert column_names(files / name)[:4] == names


def test_columns_by_name_and_as_what_they_were_learned_as(files):
    kinds = {"rooms": "category", "size": "number", "sold": "date"}
    cells = datasets.read_frame(files / "typed.PQ", kinds=kinds).cells
    assert cells[0].tolist() == ["2", "3", "4", None]
    assert cells[1][:2].tolist() == [41.5, 97.0] and np.isnan(cells[1][2])
    assert str(cells[2][1]) == "2021-02-28T18:30:00.000000"
    pl.DataFrame({"on": [True, None], "n": [1.0, 2.5]}).write_parquet(files / "b.parquet")
    frame = datasets.read_frame(files / "b.parquet", kinds={"on": "number", "n": "category"})
    assert str(frame.cells) == str([np.array([1.0, np.nan]), np.array(["1", "2.5"], dtype=object)])
    frame = datasets.read_frame(files / "b.parquet", kinds={"on": "category"})
    assert frame.cells[0].tolist() == ["True", None]
    # The array X has no names: its columns are those that were learned, in order.
    frame = datasets.read_frame(files / "t.npz", kinds=dict(zip("abcd", [
        "category", "number", "category", "category"], strict=True)))
    assert frame.columns == list("abcd") and frame.cells[0].tolist() == ["41.5", "97.0", None,
                                                                         "120.25"]


def test_numbers_of_a_parquet_file(files):
    pl.DataFrame({"a": [1, 2], "b": [0.5, 1.5], "kind": ["x", "y"]}).write_parquet(files / "n.pq")
    table = datasets.read_table(files / "n.pq", "kind")
    assert table.X.tolist() == [[1, 0.5], [2, 1.5]] and table.y.tolist() == ["x", "y"]
    table = datasets.read_table(files / "n.pq", columns=["b", "a"])
    assert table.X.tolist() == [[0.5, 1], [1.5, 2]]
    np.savez(files / "n.npz", X=table.X)
    assert datasets.read_table(files / "n.npz", columns=["b", "a"]).X.tolist() == table.X.tolist()
    assert datasets.read_table(files / "n.npz", columns="X[:, 1]").X.tolist() == [[1], [2]]


BAD = {
    "text where numbers are needed": (
        "read_table", ("price",), {},
        "column 'size' lacks 1 value, first in row 2; column 'rooms' lacks 1 value, first in row "
        "3; column 'district' holds text; column 'sold' holds dates. Expected finite numbers: "),
    "and how to leave it out": ("read_table", ("price",), {}, "--drop size --drop rooms"),
    "no target": ("read_frame", (), {}, "target: name the column to learn; the columns that the "
                                        "file has are 'size', 'rooms'"),
    "another target": ("read_frame", ("cost",), {}, "target: there is no column 'cost'"),
    "another column": ("read_frame", (), {"columns": ["size", "garden"]},
                       "columns: there is no column 'garden'"),
    "missing target": ("read_frame", ("rooms",), {"drop": "tags"},
                       "the target column 'rooms' lacks a value, in row 3; remove such rows"),
    "missing class": ("read_frame", ("district",), {"drop": "tags"},
                      "'district' lacks a value, in row 2"),
    "a target of dates": ("read_frame", ("day",), {"drop": "tags"},
                          "'day' holds dates; expected numbers or te"),
    "an infinite target": ("read_frame", ("far",), {"drop": "tags"},
                           "'far' holds an infinite number in row 1"),
    "infinity": ("read_frame", ("price",), {"columns": "far"},
                 "column 'far' holds an infinite number in row 1; replace it"),
    "lists": ("read_frame", ("price",), {"columns": "tags"},
              "column 'tags' holds List(Int64); expected numbers, text or dates"),
    "text as numbers": ("read_frame", (), {"kinds": {"district": "number"}},
                        "column 'district' holds text, first 'hills' in row 0; correct such"),
    "numbers as dates": ("read_frame", (), {"kinds": {"size": "date"}},
                         "column 'size' holds numbers; expected dates"),
    "dates as numbers": ("read_frame", (), {"kinds": {"day": "number"}},
                         "column 'day' holds dates; expected numbers"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_parquet_file_that_does_not_do_is_refused(files, case):
    function, arguments, options, message = BAD[case]
    table = pl.DataFrame(COLUMNS | {"far": [1.0, np.inf, 2.0, 3.0], "tags": [[1]] * 4,
                                    "day": [1, 2, 3, 4]}).cast({"day": pl.Date})
    path = files / "bad.parquet"
    keep = list(COLUMNS) if function == "read_table" else table.columns
    table.select(keep).write_parquet(path)
    with pytest.raises(ValueError, match="^" + re.escape(f"{path}: ")) as caught:
        getattr(datasets, function)(path, *arguments, **options)
    assert message in str(caught.value)


def test_what_is_no_parquet_file_is_refused(files, monkeypatch):
    whole = (files / "text.parquet").read_bytes()
    path = files / "damaged.parquet"
    middle = bytearray(whole)
    middle[4:40] = bytes(36)
    for content in (b"", b"hello", whole[:200], whole[:-9], bytes(middle), b"a,b\n1,2\n"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is not a Parquet file, or a damaged one"):
            datasets.read_frame(path, "price")
    with pytest.raises(FileNotFoundError):
        datasets.read_frame(files / "none.parquet", "price")
    pl.DataFrame({"a": [], "y": []}).write_parquet(path)
    with pytest.raises(ValueError, match="has no rows"):
        datasets.read_frame(path, "y")
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ImportError, match=r'need polars: pip install "fastbp\[parquet\]"'):
        datasets.read_table(files / "text.parquet", "price")


def test_arrays_of_text_that_do_not_do_are_refused(files):
    with pytest.raises(ValueError, match=r"X: expected 3 columns, in this order: 'a', 'b', 'c'; "
                                         r"got 4"):
        datasets.read_table(files / "t.npz", columns=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"column 'X\[:, 2\]' holds text"):
        datasets.read_table(files / "t.npz", columns=["X[:, 0]", "X[:, 2]"])
    with pytest.raises(ValueError, match="drop: the columns of an"):
        datasets.read_frame(files / "t.npz", drop="X[:, 0]")
    np.savez(files / "objects.npz", X=np.array([["a", None]], dtype=object), y=[1])
    with pytest.raises(ValueError, match="X cannot be read: it holds Python objects"):
        datasets.read_frame(files / "objects.npz")


def write(folder, rng, n=120):
    """Houses, as CSV, Parquet and NPZ."""
    district = rng.choice(["hills", "harbour"], n)
    size = rng.uniform(40, 200, n).round(1)
    table = pl.DataFrame({
        "size": [None if i % 11 == 0 else s for i, s in enumerate(size.tolist())],
        "district": district.tolist(),
        "price": (2 * size + 80 * (district == "hills")).tolist()})
    table.write_csv(folder / "h.csv")
    table.write_parquet(folder / "h.parquet")
    np.savez(folder / "h.npz", y=table["price"], X=[
        ["" if size is None else str(size), where] for size, where, _ in table.iter_rows()])


def test_the_command_learns_the_same_from_every_format(tmp_path, rng, monkeypatch, capsys):
    """One model, bit for bit, and the same predictions of rows in any of the formats."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, rng)
    scores, predicted = set(), set()
    for name, target in (("h.csv", ["--target", "price"]), ("h.parquet", ["--target", "price"]),
                         ("h.npz", [])):
        folder = f"out-{name}"
        assert main(["--data", name, *target, "--model", "tabm", "--members", "2", "--quiet",
                     "--time-limit", "60", "--output", folder]) == 0
        scores.add(capsys.readouterr().out)
        for rows in ["h.npz"] if name == "h.npz" else ["h.csv", "h.parquet", "h.npz"]:
            assert main(["--predict", rows, "--quiet", "--output", folder]) == 0
            text = (tmp_path / folder / "predictions.csv").read_text()
            predicted.add(text.split("\n", 1)[1])
            assert main(["predict", f"{folder}/model.safetensors", rows]) == 0
            assert capsys.readouterr().out == text
    assert len(scores) == len(predicted) == 1
    assert main(["--predict", "h.csv", "--output", "out-h.npz"]) == 2
    assert "there are no columns 'X[:, 0]', 'X[:, 1]'" in capsys.readouterr().err


def test_networks_of_numbers_too(tmp_path, rng, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    X = rng.normal(size=(80, 3))
    y = np.where(X[:, 0] > X[:, 1], "more", "less")
    table = pl.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "kind": y})
    table.write_parquet("t.parquet")
    table.write_csv("t.csv")
    np.savez("t.npz", X=X, y=y)
    outputs = []
    for name, target in (("t.csv", ["--target", "kind"]), ("t.parquet", ["--target", "kind"]),
                         ("t.npz", [])):
        assert main(["--data", name, *target, "--epochs", "5", "--output", name[2:]]) == 0
        printed = capsys.readouterr().out
        names = {}
        exec(textwrap.dedent(printed[printed.index("    import json") :]), names)
        assert main(["predict", f"{name[2:]}/model.safetensors", name]) == 0
        outputs.append(capsys.readouterr().out.split()[1:])
        assert outputs[-1] == names["prediction"]
    assert outputs[0] == outputs[1] == outputs[2]


def test_without_polars_the_command_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "polars", None)
    (tmp_path / "t.parquet").write_bytes(b"")
    assert main(["--data", str(tmp_path / "t.parquet"), "--target", "y"]) == 2
    assert capsys.readouterr().err == ('fastbp: Parquet files need polars: pip install '
                                       '"fastbp[parquet]"\n')


def test_a_model_without_names_takes_the_columns_of_any_format(tmp_path, capsys, rng):
    X = rng.normal(size=(5, 2)).round(3)
    fb.mlp([2, 3], seed=0).save(tmp_path / "net.safetensors")
    pl.DataFrame({"a": X[:, 0], "b": X[:, 1]}).write_csv(tmp_path / "t.csv")
    pl.DataFrame({"a": X[:, 0], "b": X[:, 1]}).write_parquet(tmp_path / "t.parquet")
    np.savez(tmp_path / "t.npz", X=X)
    texts = set()
    for end in "csv", "parquet", "npz":
        assert main(["predict", str(tmp_path / "net.safetensors"),
                     str(tmp_path / f"t.{end}")]) == 0
        texts.add(capsys.readouterr().out)
    assert len(texts) == 1
    (tmp_path / "latin.csv").write_bytes("größe,b\n1,2\n".encode("latin-1"))
    assert main(["predict", str(tmp_path / "net.safetensors"), str(tmp_path / "latin.csv")]) == 2
    assert f"{tmp_path / 'latin.csv'}: is not UTF-8 text" in capsys.readouterr().err


def test_folders_and_paths_that_are_not_there(tmp_path, capsys):
    net = fb.mlp([2, 3], seed=0)
    net.save(tmp_path / "model.safetensors")
    for command, after in (("predict", "t.csv"), ("export", "net.h")):
        assert main([command, str(tmp_path), after]) == 2
        assert capsys.readouterr().err == (
            f"fastbp: MODEL: expected a file that holds a model, got the folder {str(tmp_path)!r}; "
            f"choose {tmp_path / 'model.safetensors'}\n")
    path = tmp_path / "no" / "net.h"
    with pytest.raises(FileNotFoundError, match="there is no folder") as caught:
        net.to_c(path)
    assert caught.value.filename == str(path) and ".part" not in str(caught.value)
    assert main(["export", str(tmp_path / "model.safetensors"), str(path)]) == 2
    assert capsys.readouterr().err == (f"fastbp: {path}: there is no folder {str(path.parent)!r}; "
                                       f"create it, or choose another path\n")
