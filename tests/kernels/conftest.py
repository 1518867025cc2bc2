"""What the kernels' tests share: the comparison of bits, a call of every kernel."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from fastbp import kernels
from fastbp.kernels import dispatch, ops


@pytest.fixture(scope="session")
def same_bits():
    """A function that fails unless two arrays hold the same bits; all NaNs count as one."""

    def check(got, expected, what=""):
        got, expected = np.asarray(got), np.asarray(expected)
        assert got.dtype == expected.dtype, what
        assert got.shape == expected.shape, what
        bits = f"u{got.itemsize}"
        equal = got.reshape(-1).view(bits) == expected.reshape(-1).view(bits)
        equal |= np.isnan(got.reshape(-1)) & np.isnan(expected.reshape(-1))
        where = np.unravel_index(np.argmin(equal), got.shape) if equal.size else ()
        assert equal.all(), f"{what} differs in {where}: {got[where]!r} from {expected[where]!r}"

    return check


@pytest.fixture(scope="session")
def same_in_every_tier(same_bits):
    """A function that fails unless all that another one returns has the same bits in every tier."""

    def check(compute):
        used, found = dispatch.isa(), []
        try:
            for isa in dispatch.available():
                dispatch.use(isa)
                found.append(compute())
        finally:
            dispatch.use(used)
        for returned in found[1:]:
            for got, expected in zip(returned, found[0], strict=True):
                same_bits(got, expected)

    return check


CATEGORIES = 7
# Embeddings of numbers: how many bins each of 3 features has, and their edges.
N_BINS = 1, 3, 1
EDGES = 0, 1, -1, 0, 0.5, 2, -0.25, 0.25


@dataclass(frozen=True)
class Call:
    """One way to call a kernel.

    Sizes are letters: ``arrays={"X": "mk"}`` says that X has m rows and k columns.  A digit is
    itself, d is n + 1, and v and w are 3 n and 3 d.
    """

    kernel: str
    arrays: dict
    out: str = ""
    in_place: tuple = ()  # what `out` may be
    changed: tuple = ()  # arguments that are written
    gradient: bool = False  # whether the result is one, with the larger least number
    options: dict = field(default_factory=dict)
    not_empty: str = ""  # sizes that must not be 0

    @staticmethod
    def shape(letters, **sizes):
        n = sizes["n"]
        sizes |= {"d": n + 1, "v": 3 * n, "w": 3 * (n + 1)}
        return tuple(sizes[letter] if letter in sizes else int(letter) for letter in letters)

    def make(self, dtype, m=3, k=4, n=5, seed=0, exponents=(-1, 2)):
        """Random arguments, their sizes scattered over 2**low ... 2**high."""
        rng = np.random.default_rng(seed)
        arrays = {}
        for name, letters in self.arrays.items():
            shape = self.shape(letters, m=m, k=k, n=n)
            with np.errstate(over="ignore"):
                values = np.ldexp(rng.normal(size=shape), rng.integers(*exponents, size=shape))
            values = np.clip(values, np.finfo(dtype).min, np.finfo(dtype).max)
            if name == "y":  # probabilities, or labels
                values = rng.random(shape) + 0.1
                values /= values.sum(axis=-1, keepdims=True)
                if len(letters) == 1:
                    arrays[name] = rng.integers(max(n, 1), size=shape)
                    continue
            if name == "codes":
                values = rng.integers(CATEGORIES, size=shape)
            if name == "edges":
                values = np.array(EDGES)
            if name == "bins":
                values = rng.integers(N_BINS, size=shape)
            if name in ("v", "sample_weight"):
                values = abs(values)
            arrays[name] = values.astype(dtype)
        return arrays

    def run(self, arrays, **more):
        """A list of what the kernel returns and what it changes."""
        result = getattr(kernels, self.kernel)(**arrays, **self.options, **more)
        if self.changed:
            changed = [arrays[name] for name in self.changed]
            return changed if result is None else [*changed, np.float64(result)]
        if isinstance(result, tuple):  # what `out` is for comes last
            if isinstance(result[0], np.ndarray):
                return list(reversed(result))
            return [np.float64(result[0]), result[1]]
        return [np.asarray(result)]


class Table(dict):
    def __repr__(self):
        return f"{len(self)} calls"


def _add_normalization(table):
    """What normalization.pyx, columns.pyx, elementwise.pyx and embeddings.pyx have."""
    for gradient in (False, True):
        end, options = " gradient" * gradient, {"gradient": gradient}
        table["add" + end] = Call("add", {"X": "mn", "Y": "mn"}, "mn", ("X", "Y"), (), gradient,
                                  options)
        table["scale_columns" + end] = Call(
            "scale_columns", {"X": "mn", "gamma": "n", "beta": "n"}, "mn", ("X",), (), gradient,
            options)
        table["scale_columns without beta" + end] = Call(
            "scale_columns", {"X": "mn", "gamma": "n"}, "mn", ("X",), (), gradient, options)
    for center in (True, False):
        end, options = " around 0" * (not center), {"center": center}
        table["normalize_rows" + end] = Call("normalize_rows", {"X": "mn"}, "mn", ("X",),
                                             options=options, not_empty="n")
        table["normalize_rows_backward" + end] = Call(
            "normalize_rows_backward", {"dN": "mn", "N": "mn", "rstd": "m"}, "mn", ("dN", "N"),
            gradient=True, options=options, not_empty="n")
    table |= {
        "column_moments": Call("column_moments", {"X": "mn"}, not_empty="m"),
        "inverse_sqrt": Call("inverse_sqrt", {"X": "mn"}, "mn", ("X",),
                             options={"epsilon": 1e-5}),
        "normalize_columns": Call("normalize_columns", {"X": "mn", "mean": "n", "rstd": "n"},
                                  "mn", ("X",)),
        "normalize_columns_backward": Call(
            "normalize_columns_backward", {"dN": "mn", "N": "mn", "rstd": "n"}, "mn", ("dN", "N"),
            gradient=True),
        "column_dots": Call("column_dots", {"A": "mn", "B": "mn"}, "n", gradient=True),
        "column_dots sums": Call("column_dots", {"A": "mn"}, "n", gradient=True),
        "prelu": Call("prelu", {"X": "mn", "slope": "n"}, "mn", ("X",)),
        "prelu_backward": Call("prelu_backward", {"dY": "mn", "X": "mn", "slope": "n"}, "mn",
                               ("dY", "X"), gradient=True),
        "prelu_slope_gradient": Call("prelu_slope_gradient", {"dY": "mn", "X": "mn"}, "n",
                                     gradient=True),
        "running_average": Call("running_average", {"average": "n", "X": "n"},
                                changed=("average",), options={"keep": 0.9}),
        "embedding": Call("embedding", {"table": f"{CATEGORIES}n", "codes": "m"}, "mn"),
        "embedding_backward": Call("embedding_backward", {"dZ": "mn", "codes": "m"},
                                   f"{CATEGORIES}n", gradient=True,
                                   options={"n_categories": CATEGORIES}),
    }


def _add_embeddings_of_numbers(table):
    """What periodic_embeddings.pyx and piecewise_embeddings.pyx have, for 3 features."""
    waves = {"frequencies": "3n", "phases": "3n"}
    table["scale_shift_backward"] = Call("scale_shift_backward", {"dY": "mn", "X": "mn"},
                                         gradient=True)
    for name in ("periodic", "periodic_features"):
        table[name] = Call(name, {"X": "m3", **waves, "gamma": "3d", "beta": "3d"}, "mw")
    for name, out in (("periodic_backward", ""), ("periodic_backward_input", "m3")):
        table[name] = Call(name, {"dZ": "mw", "X": "m3", **waves, "gamma": "3d"}, out,
                           gradient=True)
    bins = {"options": {"n_bins": N_BINS}}
    table |= {
        "piecewise_nodes": Call("piecewise_nodes", {"W": "5n", "b": "3n"}, "5n", **bins),
        "piecewise": Call("piecewise", {"X": "m3", "edges": "8", "W": "5n", "nodes": "5n"}, "mv",
                          **bins),
        "piecewise_backward": Call(
            "piecewise_backward", {"dZ": "mv", "bins": "m3", "fractions": "m3"}, "5n",
            gradient=True, **bins),
        "piecewise_backward_input": Call(
            "piecewise_backward_input", {"dZ": "mv", "bins": "m3", "edges": "8", "W": "5n"}, "m3",
            gradient=True, **bins),
    }


def _add_members(table):
    """What members.pyx has, for 3 members."""
    three = {"options": {"n_members": 3}}
    table |= {
        "repeat_columns": Call("repeat_columns", {"X": "mn"}, "mv", **three),
        "sum_members": Call("sum_members", {"X": "mv"}, "mn", **three),
        "repeat_columns gradient": Call(
            "repeat_columns", {"X": "mn"}, "mv", gradient=True,
            options={"n_members": 3, "factor": 0.375, "gradient": True}),
        "sum_members gradient": Call(
            "sum_members", {"X": "mv"}, "mn", gradient=True,
            options={"n_members": 3, "factor": 0.375, "gradient": True}),
        "separate_dense_forward": Call(
            "separate_dense_forward", {"X": "mw", "W": "3dn", "b": "3n"}, "mv"),
        "separate_dense_backward_weights": Call(
            "separate_dense_backward_weights", {"X": "mw", "dZ": "mv"}, "3dn", gradient=True,
            **three),
        "separate_dense_backward_input": Call(
            "separate_dense_backward_input", {"dZ": "mv", "W": "3dn"}, "mw", gradient=True),
    }


def _table():
    table = Table({
        "dense_forward": Call("dense_forward", {"X": "mk", "W": "kn", "b": "n"}, "mn"),
        "dense_backward_weights": Call(
            "dense_backward_weights", {"X": "mk", "dZ": "mn"}, "kn", gradient=True
        ),
        "dense_backward_bias": Call("dense_backward_bias", {"dZ": "mn"}, "n", gradient=True),
        "dense_backward_input": Call(
            "dense_backward_input", {"dZ": "mn", "W": "kn"}, "mk", gradient=True
        ),
        "softmax": Call("softmax", {"Z": "mn"}, "mn", ("Z",), not_empty="n"),
        "dropout": Call(
            "dropout", {"X": "mn"}, "mn", ("X",), options={"rate": 0.3, "key": 1, "step": 2}
        ),
        "norm": Call("norm", {"X": "mn"}),
    })
    for name, op in ops.ACTIVATIONS.items():
        table[name] = Call(name, {"Z": "mn"}, "mn", ("Z",))
        kept = "A" if op.from_output else "Z"
        table[f"{name}_backward"] = Call(
            f"{name}_backward", {"dA": "mn", kept: "mn"}, "mn", ("dA", kept), gradient=True
        )
    for name in ops.FUNCTIONS:
        table[name] = Call(name, {"X": "mn"}, "mn", ("X",))
    for name in ops.LOSSES:
        arrays = {"Z": "mn", "y": "mn", "sample_weight": "m"}
        table[name] = Call(name, arrays, "mn", ("Z",), gradient=True, not_empty="mn")
        table[f"{name} unweighted"] = Call(name, {"Z": "mn", "y": "mn"}, "mn", ("Z",),
                                           gradient=True, not_empty="mn")
    for smoothing in (0.0, 0.1):
        table[f"softmax_cross_entropy labels {smoothing}"] = Call(
            "softmax_cross_entropy", {"Z": "mn", "y": "m"}, "mn", ("Z",), gradient=True,
            options={"label_smoothing": smoothing}, not_empty="mn",
        )
    _add_normalization(table)
    _add_embeddings_of_numbers(table)
    _add_members(table)
    flat = {"parameters": "n", "gradients": "n"}
    table["sgd_step plain"] = Call(
        "sgd_step", flat, changed=("parameters",),
        options={"learning_rate": 0.1, "weight_decay": 0.01},
    )
    for name, nesterov in (("sgd_step", False), ("sgd_step Nesterov", True)):
        table[name] = Call(
            "sgd_step", flat | {"velocity": "n"}, changed=("parameters", "velocity"),
            options={"learning_rate": 0.1, "momentum": 0.9, "nesterov": nesterov},
        )
    table["adam_step epsilon_hat"] = Call(
        "adam_step", flat | {"m": "n", "v": "n"}, changed=("parameters", "m", "v"),
        options={"step": 3, "epsilon": 0.1, "epsilon_hat": True},
    )
    table["penalize"] = Call("penalize", flat, changed=("gradients",), options={"strength": 0.1})
    for name, decoupled in (("adam_step", False), ("adam_step decoupled", True)):
        table[name] = Call(
            "adam_step", flat | {"m": "n", "v": "n"}, changed=("parameters", "m", "v"),
            options={"step": 3, "weight_decay": 0.01, "decoupled": decoupled},
        )
    table["orthogonalize"] = Call("orthogonalize", {"G": "mn"}, "mn")
    for name, nesterov in (("muon_step", True), ("muon_step plain", False)):
        table[name] = Call(
            "muon_step", {"W": "mn", "G": "mn", "m": "mn"}, changed=("W", "m"),
            options={"learning_rate": 0.1, "weight_decay": 0.01, "nesterov": nesterov},
        )
    return table


@pytest.fixture(scope="session")
def calls():
    """Every kernel as a `Call`, under its own name, and some more with other options."""
    return _table()


@pytest.fixture(scope="session")
def reduced_calls():
    """The products of reduced precision, which are for float32."""
    return Table({
        f"{kernel} {precision}": Call(kernel, arrays, out, gradient=gradient,
                                      options={"precision": precision})
        for precision in ("high", "medium")
        for kernel, arrays, out, gradient in (
            ("dense_forward", {"X": "mk", "W": "kn", "b": "n"}, "mn", False),
            ("dense_backward_weights", {"X": "mk", "dZ": "mn"}, "kn", True),
            ("dense_backward_input", {"dZ": "mn", "W": "kn"}, "mk", True),
        )
    })
