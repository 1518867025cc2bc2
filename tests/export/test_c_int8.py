"""Networks in 8-bit integers: the C code computes what Python says, and that comes close."""

import ctypes
import subprocess

import numpy as np
import pytest

import fastbp as fb
from fastbp.export.int8 import quantized
from fastbp.export.models import model_of

from .c_programs import compiled, compiler

pytestmark = pytest.mark.once

NETWORKS = {
    "relu": lambda: fb.mlp([6, 32, 32, 4], seed=0),
    "smooth": lambda: fb.mlp([6, 32, 16, 3], ["gelu", "tanh"], dtype="float64", seed=0),
    "mixed": lambda: fb.Sequential([
        fb.BatchNorm(6), fb.Dense(6, 16), fb.BatchNorm(16), fb.Tanh(),
        fb.Residual([fb.Dense(16, 16), fb.SiLU()]),
        fb.Columns([(slice(0, 8), fb.ReLU()), ([9, 3], fb.Dense(2, 3))], n_in=16),
        fb.Scale(11), fb.Dense(11, 1), fb.Sigmoid()], seed=0),
    "ends with a ReLU": lambda: fb.Sequential([fb.Dense(6, 3), fb.ReLU()], seed=0),
    "columns": lambda: fb.Sequential([fb.Columns([([0, 2], [])], n_in=6)]),
    "ends with a sum": lambda: fb.Sequential([fb.Residual([fb.Dense(6, 6), fb.ELU()])], seed=0),
}
PROGRAM = """
#include "net.h"
void predict_rows(size_t rows, const float *v, int32_t *y)
{
    int8_t x[NET_N_IN];
    for (size_t i = 0; i < rows; i++) {
        net_quantize(v + i * NET_N_IN, x);
        net_predict(x, y + i * NET_N_OUT);
    }
}
"""


@pytest.fixture(scope="module")
def rows():
    return (np.random.default_rng(0).normal(size=(400, 6)) * [1, 10, 0.1, 3, 5, 1]).astype("f4")


def made_of(net, X):
    """The network in integers."""
    return quantized(model_of(net).networks[0], X)


def pointer(array):
    return array.ctypes.data_as(ctypes.c_void_p)


def write(net, X, folder):
    report = net.to_c_int8(folder / "net.h", X)
    (folder / "program.c").write_text(PROGRAM)
    return report


@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_integers(tmp_path, rows, name):
    net = NETWORKS[name]()
    report = write(net, rows, tmp_path)
    made = made_of(net, rows)
    others = np.concatenate([rows, 100 * rows, np.full((1, 6), np.nan, "f4")])
    expected = made.run(made.quantize(others))
    library = compiled(tmp_path / "program.c", compiler("gcc"), "-O2")
    got = np.zeros_like(expected)
    library.predict_rows(ctypes.c_size_t(len(others)), pointer(others), pointer(got))
    assert (got == expected).all()
    # The report is about what was computed.
    Z = net.predict(rows).astype(float)
    error = got[: len(rows)] * made.y_scale - Z
    assert report["largest_error"] == pytest.approx(abs(error).max())
    assert report["rms_error"] == pytest.approx(np.sqrt((error**2).mean()))
    assert report["rms_error"] < {"columns": 0.1, "smooth": 0.04}.get(name, 0.02) * report["rms"]
    assert ("same_largest" in report) == (Z.shape[1] > 1)
    assert report.get("same_largest", 1) > 0.95


@pytest.mark.parametrize("command", ["gcc -O0", "gcc -O3 -ffast-math", "clang -O2",
                                     "aarch64-linux-gnu-gcc -O2", "riscv64-linux-gnu-gcc -O2"])
def test_on_every_target(tmp_path, rows, command):
    """Integers in, integers out, whatever the flags."""
    net = NETWORKS["mixed"]()
    write(net, rows, tmp_path)
    made = made_of(net, rows)
    (tmp_path / "main.c").write_text(f'''
#include <stdio.h>
#include "net.h"
int main(void)
{{
    int8_t x[NET_N_IN];
    int32_t y[NET_N_OUT];
    for (int i = 0; i < {len(rows)}; i++) {{
        if (fread(x, 1, sizeof x, stdin) != sizeof x) return 1;
        net_predict(x, y);
        fwrite(y, 1, sizeof y, stdout);
    }}
    return 0;
}}
''')
    name, *flags = command.split()
    machine = name.partition("-linux")[0]
    emulator = [compiler(f"qemu-{machine}")] if machine != name else []
    subprocess.run([compiler(name), *flags, "-std=c99", "-static", "-o", "program", "main.c"],
                   cwd=tmp_path, check=True)
    Q = made.quantize(rows)
    got = subprocess.run([*emulator, tmp_path / "program"], input=Q.tobytes(), check=True,
                         capture_output=True).stdout
    assert (np.frombuffer(got, np.int32).reshape(len(Q), -1) == made.run(Q)).all()


def test_no_arithmetic_but_of_integers(tmp_path, rows):
    """A processor without floating point links it without a library."""
    NETWORKS["mixed"]().to_c_int8(tmp_path / "net.h", rows)
    text = (tmp_path / "net.h").read_text()
    function = text.partition("inline void net_predict")[2].partition("\n}\n")[0]
    assert "float" not in function and "double" not in function and "int8_t t[" in function
    (tmp_path / "main.c").write_text('''
#include "net.h"
int main(void)
{
    static const int8_t x[NET_N_IN];
    static int32_t y[NET_N_OUT];
    net_predict(x, y);
    return 0;
}
''')
    subprocess.run([compiler("gcc"), "-O2", "-mno-sse", "-mno-80387", "-c", "main.c"],
                   cwd=tmp_path, check=True)


@pytest.mark.parametrize(("layers", "op"), [
    ([fb.LayerNorm(6)], "normalize_rows"), ([fb.Embedding(3, 2)], "embedding"),
    ([fb.Repeat(6, 2), fb.MeanOfMembers(6, 2)], "repeat")])
def test_refused(tmp_path, rows, layers, op):
    net = fb.Sequential(layers)
    with pytest.raises(ValueError, match=f"layer 0: expected operations that have a form.* {op};"):
        net.to_c_int8(tmp_path / "net.h", abs(rows[:, : net.n_in]) < 1)
    assert list(tmp_path.iterdir()) == []


def test_the_precision_of_the_products_has_no_influence(tmp_path, rows):
    reports, files = [], []
    for precision in "highest", "medium":
        net = fb.mlp([6, 32, 3], precision=precision, seed=0)
        reports.append(net.to_c_int8(tmp_path / "net.h", rows))
        files.append((tmp_path / "net.h").read_text())
    assert files[0] == files[1] and reports[0] == reports[1]


def test_arguments(tmp_path, rows):
    net = fb.mlp([6, 2], seed=0)
    for arguments, message in [
            (("net.c", rows), "path: expected a file that ends with .h"),
            (("net.h", rows[:, :5]), r"rows: expected shape \(any, 6\)|rows: expected"),
            (("net.h", rows * np.nan), "rows: "), (("net.h", "text"), "rows: ")]:
        path, *rest = arguments
        with pytest.raises((TypeError, ValueError), match=message):
            net.to_c_int8(tmp_path / path, *rest)
    with pytest.raises(ValueError, match="name: expected letters"):
        net.to_c_int8(tmp_path / "net.h", rows, name="1")
    with pytest.raises(ValueError, match="expected layers that compute something in prediction"):
        fb.Sequential([fb.Dropout(0.5)]).to_c_int8(tmp_path / "net.h", rows, n_in=6)
    wide = fb.mlp([70_000, 1], seed=0)
    with pytest.raises(ValueError, match="at most 65,535 inputs"):
        wide.to_c_int8(tmp_path / "net.h", np.ones((2, 70_000), "f4"))
    assert list(tmp_path.iterdir()) == []
