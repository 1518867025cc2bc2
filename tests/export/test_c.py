"""Exported C code: the bits of `predict`, from every compiler at every level."""

import subprocess

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import fastbp as fb
from fastbp.export.c_export import c_source, write_c
from fastbp.export.c_network import WRITERS
from fastbp.export.models import model_of
from fastbp.kernels import ops

from .c_programs import STRICT, call, compiled, compiler, same_bits

pytestmark = pytest.mark.once

N_NETWORKS = 500
SOME = range(10)


def models_of(cases):
    return {f"n{case.seed}": model_of(case.network, activation=case.activation, n_in=case.n_in)
            for case in cases}


def different(cases, library):
    """The seeds of networks whose C functions give other bits than `predict`."""
    return [case.seed for case in cases if not same_bits(
        Z := case.predict(),
        call(library[f"n{case.seed}_predict_rows"], case.X, Z.shape, Z.dtype))]


@pytest.fixture(scope="session")
def some(random_case, tmp_path_factory):
    """Some networks, and a C file of them."""
    cases = [random_case(seed) for seed in SOME]
    path = tmp_path_factory.mktemp("some") / "some.c"
    write_c(path, models_of(cases), weights="bits")
    return cases, path


class TestBits:
    def test_of_every_network(self, random_case, tmp_path):
        """All operations and functions of an element are among them."""
        cases = [random_case(seed) for seed in range(N_NETWORKS)]
        models = models_of(cases)
        used = {each.op for model in models.values() for each in model.networks[0].instructions}
        assert used == {*WRITERS, *ops.ACTIVATIONS, "exp"}
        write_c(tmp_path / "all.c", models, weights="bits")
        library = compiled(tmp_path / "all.c", compiler("gcc"), "-O0")
        assert different(cases, library) == []

    @pytest.mark.parametrize("command", [
        "gcc -O1", "gcc -O2", "gcc -O3", "gcc -O3 -mfma", "clang -O0", "clang -O1", "clang -O2",
        "clang -O3", "clang -O3 -mfma"])
    def test_at_every_level(self, some, tmp_path, command):
        cases, path = some
        name, *levels = command.split()
        source = tmp_path / path.name
        source.write_text(path.read_text())
        (tmp_path / "some.h").write_text(path.with_suffix(".h").read_text())
        assert different(cases, compiled(source, compiler(name), *levels)) == []

    @pytest.mark.parametrize("machine", ["aarch64", "riscv64"])
    def test_on_other_processors(self, some, tmp_path, machine):
        """By emulation: a program that reads rows and writes predictions."""
        gcc, qemu = compiler(f"{machine}-linux-gnu-gcc"), compiler(f"qemu-{machine}")
        cases, path = some
        calls = "".join(
            f"    run({case.X.itemsize}, {len(case.X)}, N{case.seed}_N_IN, N{case.seed}_N_OUT, "
            f"(function *)n{case.seed}_predict_rows);\n" for case in cases)
        (tmp_path / "main.c").write_text(f'''\
#include <stdio.h>
#include "{path.with_suffix(".h")}"
typedef void function(size_t, const void *, void *);
static char x[1 << 20], y[1 << 20];
static void run(size_t size, size_t rows, size_t n_in, size_t n_out, function *predict)
{{
    if (fread(x, size, rows * n_in, stdin) != rows * n_in) return;
    predict(rows, x, y);
    fwrite(y, size, rows * n_out, stdout);
}}
int main(void)
{{
{calls}    return 0;
}}
''')
        program = tmp_path / "program"
        subprocess.run([gcc, "-std=c99", "-O2", "-ffp-contract=off", "-static", "-o", program,
                        tmp_path / "main.c", path, "-lm"], check=True)
        result = subprocess.run([qemu, program], check=True, capture_output=True,
                                input=b"".join(case.X.tobytes() for case in cases)).stdout
        for case in cases:
            Z = case.predict()
            Y = np.frombuffer(result[:Z.nbytes], Z.dtype).reshape(Z.shape)
            result = result[Z.nbytes:]
            assert same_bits(Z, Y), case.network
        assert result == b""

    def test_of_every_number(self, tmp_path, rng):
        """Functions of an element, on all kinds of bits: subnormals, infinities, NaN."""
        networks = {f"{name}_{dtype}": fb.Sequential([layer()], dtype)
                    for name, layer in fb.layers.ACTIVATIONS.items()
                    for dtype in ("float32", "float64")}
        networks |= {f"exp_{dtype}": fb.Sequential([fb.Dropout(0.5)], dtype)
                     for dtype in ("float32", "float64")}
        write_c(tmp_path / "functions.c", {
            name: model_of(net, n_in=1, activation="exp" if name.startswith("exp") else None)
            for name, net in networks.items()})
        library = compiled(tmp_path / "functions.c", compiler("gcc"), "-O2", "-mfma")
        for name, net in networks.items():
            bits = rng.integers(0, 256, 100_000 * net.dtype.itemsize, np.uint8)
            X = np.concatenate([bits.view(net.dtype), rng.normal(0, 8, 100_000).astype(net.dtype),
                                np.array([0.0, -0.0, np.inf, -np.inf], net.dtype)])[:, None]
            with np.errstate(all="ignore"):
                Z = net.predict(X, activation="exp" if name.startswith("exp") else None)
            assert same_bits(Z, call(library[f"{name}_predict_rows"], X, Z.shape, Z.dtype)), name

    @given(k=st.integers(1, 700), n=st.integers(1, 70), seed=st.integers(0, 99))
    @example(k=256, n=64, seed=0)
    @example(k=513, n=65, seed=1)
    @settings(max_examples=8)
    def test_of_any_size(self, tmp_path_factory, k, n, seed):
        rng = np.random.default_rng(seed)
        net = fb.Sequential([fb.Dense(k, n)], "float64", seed=seed)
        net.parameters[...] *= 10.0 ** rng.integers(-160, 3, net.parameters.size)
        path = tmp_path_factory.mktemp("size") / "net.c"
        net.to_c(path, weights="hex")
        X = rng.normal(size=(3, k)) * 10.0 ** rng.integers(-160, 3, (3, k))
        library = compiled(path, compiler("gcc"), "-O1")
        assert same_bits(net.predict(X), call(library.net_predict_rows, X, (3, n), X.dtype))


class TestFiles:
    def test_a_header_alone(self, tmp_path):
        """Two in one program, one row and several rows, without a warning."""
        nets = {name: fb.mlp([3, 5, 2], seed=i) for i, name in enumerate(["one", "two"])}
        for (name, net), weights in zip(nets.items(), ["decimal", "hex"], strict=True):
            assert net.to_c(tmp_path / f"{name}.h", name=name, weights=weights) == [
                str(tmp_path / f"{name}.h")]
        (tmp_path / "program.c").write_text('''
#include "one.h"
#include "two.h"
void both(size_t rows, const float *x, float *y)
{
    one_predict(x, y);
    two_predict_rows(rows - 1, x + ONE_N_IN, y + ONE_N_OUT);
}
''')
        library = compiled(tmp_path / "program.c", compiler("gcc"), "-O2")
        X = np.array([[1, 2, 3], [4, 5, 6], [-1, 0, 1]], "f4")
        expected = np.concatenate([nets["one"].predict(X[:1]), nets["two"].predict(X[1:])])
        assert same_bits(call(library.both, X, (3, 2), "f4"), expected)

    def test_from_cplusplus(self, tmp_path):
        fb.mlp([3, 2], seed=0).to_c(tmp_path / "net.c")
        (tmp_path / "program.cpp").write_text('''
#include "net.h"
#include <cstdio>
int main()
{
    const float x[NET_N_IN] = {1, 2, 3};
    float y[NET_N_OUT];
    net_predict(x, y);
    std::printf("%.9g %.9g", y[0], y[1]);
}
''')
        subprocess.run([compiler("gcc"), *STRICT, "-c", "net.c"], cwd=tmp_path, check=True)
        subprocess.run([compiler("g++"), "-o", "program", "program.cpp", "net.o"], cwd=tmp_path,
                       check=True)
        result = subprocess.run([tmp_path / "program"], check=True, capture_output=True).stdout
        assert same_bits(np.array([result.split()], "f4"),
                         fb.mlp([3, 2], seed=0).predict([[1, 2, 3]]))

    def test_from_fortran(self, tmp_path):
        net = fb.mlp([3, 4, 2], seed=0)
        names = net.to_c(tmp_path / "net.c", fortran=True)
        assert names == [str(tmp_path / f"net.{end}") for end in ("h", "c", "f90")]
        (tmp_path / "program.f90").write_text('''
program predict
  use net
  use, intrinsic :: iso_c_binding
  implicit none
  real(c_float) :: x(net_n_in, 2) = reshape([1., 2., 3., 4., 5., 6.], [3, 2]), y(net_n_out, 2)
  call net_predict_rows(2_c_size_t, x, y)
  call net_predict(x(:, 1), y(:, 1))
  print "(4(es20.9e3))", y
end program
''')
        subprocess.run([compiler("gcc"), *STRICT, "-c", "net.c"], cwd=tmp_path, check=True)
        subprocess.run([compiler("gfortran"), "-Wall", "-o", "program", "net.f90", "program.f90",
                        "net.o"], cwd=tmp_path, check=True)
        result = subprocess.run([tmp_path / "program"], check=True, capture_output=True).stdout
        assert same_bits(np.array(result.split(), "f4").reshape(2, 2),
                         net.predict([[1, 2, 3], [4, 5, 6]]))

    def test_in_a_section(self, tmp_path):
        """Weights may be put into flash."""
        fb.mlp([3, 2], seed=0).to_c(tmp_path / "net.c")
        subprocess.run([compiler("gcc"), "-c", "net.c",
                        '-DNET_FLASH=__attribute__((section(".flash")))'],
                       cwd=tmp_path, check=True)
        assert b".flash" in (tmp_path / "net.o").read_bytes()

    @pytest.mark.parametrize("flag", ["-ffast-math", "-Ofast", "-ffinite-math-only",
                                      "-mfpmath=387"])
    def test_refuses_other_arithmetic(self, tmp_path, flag):
        fb.mlp([3, 2], seed=0).to_c(tmp_path / "net.h")
        run = subprocess.run([compiler("gcc"), *flag.split(), "-fsyntax-only", "net.h"],
                             cwd=tmp_path, capture_output=True, text=True)
        assert run.returncode and "#error" in run.stderr

    @pytest.mark.parametrize("weights", ["decimal", "hex", "bits"])
    def test_weights_are_exact(self, tmp_path, weights, dtype):
        """Of any bits: subnormal, infinite, NaN."""
        bits = np.random.default_rng(0).integers(0, 256, 999 * dtype.itemsize, np.uint8)
        W = np.concatenate([bits.view(dtype), np.array([0, -0.0, np.nan, np.inf, -np.inf], dtype)])
        net = fb.Sequential([fb.Embedding(len(W), 1)], dtype)
        net.layers[0].table = W[:, None]
        net.to_c(tmp_path / "net.c", weights=weights)
        X = np.arange(len(W), dtype=dtype)[:, None]
        library = compiled(tmp_path / "net.c", compiler("gcc"))
        assert same_bits(net.predict(X), call(library.net_predict_rows, X, X.shape, dtype))

    def test_codes_that_are_none(self, tmp_path):
        """No memory is read but the table's; predict refuses such codes."""
        net = fb.Sequential([fb.Embedding(3, 2)], seed=0)
        net.to_c(tmp_path / "net.c")
        X = np.array([[-1], [3], [np.nan], [np.inf], [-1e30], [2]], "f4")
        library = compiled(tmp_path / "net.c", compiler("gcc"))
        Y = call(library.net_predict_rows, X, (6, 2), "f4")
        assert np.isnan(Y[:5]).all() and same_bits(Y[5:], net.predict(X[5:]))

    def test_refuses_reduced_precision(self, tmp_path):
        """The C code would have other bits than predict."""
        net = fb.mlp([3, 4, 2], seed=0, precision="medium")
        for model in net, fb.Ensemble([fb.mlp([3, 2], seed=1), net]):
            with pytest.raises(ValueError, match="net: expected a network whose precision is 'hig"):
                model.to_c(tmp_path / "net.h")
        net.precision = "highest"
        net.to_c(tmp_path / "net.h")

    def test_the_same_file_every_time(self):
        net = fb.mlp([3, 4, 2], seed=0)
        assert c_source({"net": net}) == c_source({"net": net})


class TestRefusals:
    def test_layers_in_python(self, random_programs, tmp_path):
        own = random_programs.Own(3)
        net = fb.Sequential([fb.Residual([fb.Dense(3, 3), own])])
        with pytest.raises(ValueError, match=r"layer 0\.1 .*Own.*runs in Python.*define its `low"):
            net.to_c(tmp_path / "net.h")
        assert list(tmp_path.iterdir()) == []

    def test_unknown_columns(self, tmp_path):
        net = fb.Sequential([fb.ReLU()])
        with pytest.raises(ValueError, match=r"n_in: expected the number of columns.*pass n_in=…"):
            net.to_c(tmp_path / "net.h")
        net.to_c(tmp_path / "net.h", n_in=3)
        with pytest.raises(ValueError, match="n_in: expected 2, which the network's first"):
            fb.mlp([2, 1]).to_c(tmp_path / "net.h", n_in=3)

    @pytest.mark.parametrize(("arguments", "message"), [
        ({"path": "net.txt"}, "path: expected a file that ends with .h or .c"),
        ({"path": 3}, "path: expected the path of a file"),
        ({"path": 'a"b.c'}, "path: expected a name without quotation marks"),
        ({"name": "2nd"}, "name: expected letters, digits and _"),
        ({"name": "a b"}, "name: expected letters"),
        ({"activation": "relu"}, "activation: expected softmax, sigmoid, exp"),
        ({"weights": "octal"}, "weights: expected one of decimal, hex, bits"),
        ({"fortran": True}, "fortran: expected False with a header"),
    ])
    def test_arguments(self, tmp_path, arguments, message):
        path = arguments.pop("path", "net.h")
        path = tmp_path / path if isinstance(path, str) else path
        with pytest.raises((TypeError, ValueError), match=message):
            fb.mlp([2, 1]).to_c(path, **arguments)
        assert list(tmp_path.iterdir()) == []

    def test_nothing(self, tmp_path):
        with pytest.raises(ValueError, match="models: expected at least one"):
            write_c(tmp_path / "net.h", {})
        with pytest.raises(TypeError, match="model: expected a Sequential, an Ensemble"):
            write_c(tmp_path / "net.h", {"net": 3})
        net = fb.mlp([2, 1])
        with pytest.raises(ValueError, match="name: expected names that differ in more than case"):
            write_c(tmp_path / "net.h", {"a": net, "A": net})


class TestEnsembles:
    @pytest.mark.parametrize("activation", [None, "softmax"])
    def test_the_mean(self, tmp_path, rng, activation):
        nets = [fb.mlp([4, n, 3], seed=n) for n in (5, 7, 300)]
        ensemble = fb.Ensemble(nets, [0.2, 0.5, 1.1], activation)
        ensemble.to_c(tmp_path / "net.c")
        X = rng.normal(size=(50, 4)).astype("f4")
        library = compiled(tmp_path / "net.c", compiler("gcc"), "-O2")
        assert same_bits(ensemble.predict(X), call(library.net_predict_rows, X, (50, 3), "f4"))

    def test_of_two_dtypes(self, tmp_path):
        ensemble = fb.Ensemble([fb.mlp([2, 1]), fb.mlp([2, 1], dtype="float64")])
        with pytest.raises(ValueError, match=r"networks: expected one dtype.*net\.astype"):
            ensemble.to_c(tmp_path / "net.h")
        with pytest.raises(ValueError, match="activation, n_in: expected None"):
            fb.Ensemble([fb.mlp([2, 1])]).to_c(tmp_path / "net.h", activation="exp")
