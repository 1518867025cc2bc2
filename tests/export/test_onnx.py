"""ONNX files: those that are written give the same in ONNX Runtime, and those that are read in
fastbp what ONNX Runtime gives."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import fastbp as fb
from fastbp.export.onnx_functions import FUNCTIONS
from fastbp.export.onnx_writing import SAME, WRITERS

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

pytestmark = pytest.mark.once

# Of the largest output: to the rounding of float32, in which ONNX Runtime computes some functions
# of float64 networks too.  Files hold epsilons in float32.
WRITTEN, READ_BACK = 1e-5, 3e-6


def run(path, X):
    """What ONNX Runtime makes of rows."""
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: X})


def error(Z, Y):
    """The largest difference beside the largest number."""
    assert Z.shape == Y.shape and Z.dtype == Y.dtype
    finite = np.isfinite(Z)
    if not finite.any():
        return 0
    return float(abs(Z - Y)[finite].max() / max(abs(Z[finite]).max(), 1e-30))


def test_every_network_and_back(random_case, tmp_path):
    """All operations are among them; some are checked by ONNX's own checker."""
    path, operators, functions = tmp_path / "net.onnx", set(), set()
    for seed in range(500):
        case = random_case(seed)
        case.network.to_onnx(path, activation=case.activation, n_in=case.n_in)
        if seed < 30:
            onnx.checker.check_model(str(path), full_check=True)
        proto = onnx.load(path)
        operators |= {node.op_type for node in proto.graph.node}
        functions |= {each.name for each in proto.functions}
        Z = case.predict()
        (Y,) = run(path, case.X)
        assert error(Z, Y) < WRITTEN, case.network
        net = fb.from_onnx(path)
        assert error(Z, net.predict(case.X)) < READ_BACK, case.network
        assert isinstance(net, fb.Ensemble) == (case.activation in ("softmax", "exp"))
    assert functions == set(FUNCTIONS)
    assert operators >= {*SAME.values()} - {"Erf", "Log"}
    assert len(WRITERS) == 19


def test_one_row_and_many(tmp_path):
    net = fb.mlp([3, 5, 2], seed=0)
    net.to_onnx(tmp_path / "net.onnx")
    for rows in (1, 7, 300):
        X = np.ones((rows, 3), "f4")
        assert error(net.predict(X), run(tmp_path / "net.onnx", X)[0]) < WRITTEN


def test_ensembles(tmp_path, rng):
    nets = [fb.mlp([4, n, 3], seed=n) for n in (5, 7, 9)]
    X = rng.normal(size=(20, 4)).astype("f4")
    for activation in (None, "softmax"):
        ensemble = fb.Ensemble(nets, [0.2, 0.5, 1.1], activation)
        ensemble.to_onnx(tmp_path / "net.onnx")
        assert error(ensemble.predict(X), run(tmp_path / "net.onnx", X)[0]) < WRITTEN


@pytest.mark.filterwarnings("ignore:.*converge")
def test_estimators(tmp_path, rng):
    """Labels and probabilities, laid out as skl2onnx does."""
    X, path = rng.normal(size=(60, 4)).astype("f4"), tmp_path / "model.onnx"
    few = {"hidden_layer_sizes": (6,), "solver": "lbfgs", "max_iter": 5, "random_state": 0}
    three = rng.integers(0, 3, 60)
    for y in ((X[:, 0] > 0), (X[:, 0] > 0).astype(int), np.where(X[:, 0] > 0, "yes", "no"),
              np.array(["u", "v", "w"])[three], three + 5, np.stack([three > 0, three > 1]).T):
        model = fb.MLPClassifier(**few).fit(X, y)
        model.to_onnx(path)
        onnx.checker.check_model(str(path), full_check=True)
        assert [each.name for each in onnx.load(path).graph.output] == ["label", "probabilities"]
        label, probabilities = run(path, X)
        assert (label == model.predict(X)).all()
        assert error(model.predict_proba(X), probabilities) < WRITTEN
        assert error(model.predict_proba(X), fb.from_onnx(path).predict(X)) < READ_BACK
    for y in (X[:, 0], X[:, :2]):
        model = fb.MLPRegressor(**few).fit(X, y)
        model.to_onnx(path)
        (variable,) = run(path, X)
        assert error(model.predict(X).reshape(len(X), -1), variable) < WRITTEN


def test_tables_are_refused(tmp_path):
    X, y = np.arange(60.0).reshape(30, 2), np.arange(30.0)
    model = fb.TabPackRegressor(2, max_epochs=1, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match=r"encoder of tables.*export its ensemble_ or network_"):
        model.to_onnx(tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
    model.ensemble_.to_onnx(tmp_path / "model.onnx")
    encoded = model.encoder_.transform(X)
    assert error(model.ensemble_.predict(encoded),
                 run(tmp_path / "model.onnx", encoded)[0]) < WRITTEN


def test_layers_in_python(random_programs, tmp_path):
    net = fb.Sequential([fb.Dense(3, 3), random_programs.Own(3)])
    with pytest.raises(ValueError, match=r"layer 1 .*Own.*runs in Python"):
        net.to_onnx(tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


# Files of other programs.


def a_file(path, nodes, arrays, shape=("rows", 4), outputs=("y",), kind=TensorProto.FLOAT,
           **options):
    """A graph from x to y, of nodes as tuples (operator, inputs, outputs, attributes)."""
    graph = helper.make_graph(
        [helper.make_node(op, reads.split(), writes.split(), **attributes)
         for op, reads, writes, attributes in nodes], "graph",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(name, kind, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()])
    model = helper.make_model(graph, ir_version=9, opset_imports=[
        helper.make_opsetid("", options.get("opset", 17))])
    onnx.save(model, path)
    return path


f4 = np.float32
W = {"W": np.linspace(-1, 1, 12, dtype=f4).reshape(4, 3), "b": np.array([0.1, -0.2, 0.3], f4)}
DENSE = [("Gemm", "x W b", "h", {})]
CHAINS = {
    "a product and a sum": ([("MatMul", "x W", "h", {}), ("Add", "h b", "y", {})], W),
    "a product alone": ([("MatMul", "x W", "y", {})], W),
    "transposed": ([("Gemm", "x V b", "y", {"transB": 1, "alpha": 0.5, "beta": 2.0})],
                   {"V": W["W"].T.copy(), "b": W["b"]}),
    "weights that are transposed there": ([("Transpose", "V", "U", {"perm": [1, 0]}),
                                           ("Gemm", "x U", "y", {})], {"V": W["W"].T.copy()}),
    "scaled inputs": ([("Sub", "x m", "c", {}), ("Div", "c s", "d", {}),
                       ("Gemm", "d W b", "y", {})],
                      W | {"m": np.array([1, 2, 3, 4], f4), "s": np.array([2, 1, 4, 0.5], f4)}),
    "less from a number": ([("Sub", "one x", "y", {})], {"one": f4(1)}),
    "ReLU by Clip": ([*DENSE, ("Clip", "h zero", "y", {})], W | {"zero": f4(0)}),
    "ReLU by Max": ([*DENSE, ("Max", "h zero", "y", {})], W | {"zero": f4(0)}),
    "SiLU": ([*DENSE, ("Sigmoid", "h", "s", {}), ("Mul", "h s", "y", {})], W),
    "Mish": ([*DENSE, ("Softplus", "h", "s", {}), ("Tanh", "s", "t", {}),
              ("Mul", "t h", "y", {})], W),
    "GELU": ([*DENSE, ("Div", "h root", "d", {}), ("Erf", "d", "e", {}), ("Add", "e one", "a", {}),
              ("Mul", "h a", "p", {}), ("Mul", "p half", "y", {})],
             W | {"root": f4(2**0.5), "one": f4(1), "half": f4(0.5)}),
    "GELU, halved first": ([*DENSE, ("Div", "h root", "d", {}), ("Erf", "d", "e", {}),
                            ("Add", "e one", "a", {}), ("Mul", "h half", "k", {}),
                            ("Mul", "k a", "y", {})],
                           W | {"root": f4(2**0.5), "one": f4(1), "half": f4(0.5)}),
    "layer normalization": ([
        ("ReduceMean", "x", "m", {"axes": [-1]}), ("Sub", "x m", "c", {}),
        ("Pow", "c two", "q", {}), ("ReduceMean", "q", "v", {"axes": [1]}),
        ("Add", "v eps", "e", {}), ("Sqrt", "e", "r", {}), ("Div", "c r", "n", {}),
        ("Mul", "n g", "s", {}), ("Add", "s t", "y", {})],
        {"two": f4(2), "eps": f4(1e-3), "g": np.array([1, 2, 3, 4], f4),
         "t": np.array([4, 3, 2, 1], f4)}),
    "RMS normalization": ([
        ("Mul", "x x", "q", {}), ("ReduceMean", "q", "v", {"axes": [-1]}),
        ("Add", "v eps", "e", {}), ("Sqrt", "e", "r", {}), ("Reciprocal", "r", "i", {}),
        ("Mul", "x i", "n", {}), ("Mul", "n g", "y", {})],
        {"eps": f4(1e-3), "g": np.array([1, 2, 3, 4], f4)}),
    "a residual connection": ([*DENSE, ("Relu", "h", "r", {}), ("Gemm", "r V", "f", {}),
                               ("Add", "f x", "z", {}), ("Tanh", "z", "y", {})],
                              W | {"V": W["W"].T.copy()}),
    "another way around": ([*DENSE, ("Gemm", "x V", "g", {}), ("Relu", "g", "r", {}),
                            ("Sub", "h r", "y", {})], W | {"V": W["W"] * f4(0.7)}),
    "parts of the columns": ([
        ("Slice", "x start stop axis", "p", {}), ("Gather", "x places", "q", {"axis": 1}),
        ("Relu", "p", "r", {}), ("Concat", "q r p", "y", {"axis": 1})],
        {"start": np.array([1]), "stop": np.array([3]), "axis": np.array([1]),
         "places": np.array([3, 0, -1])}),
    "split": ([("Split", "x sizes", "p q", {"axis": 1}), ("Concat", "q p", "y", {"axis": -1})],
              {"sizes": np.array([1, 3])}),
    "several at once": ([("Flatten", "x", "f", {}), ("Identity", "f", "i", {}),
                         ("Neg", "i", "n", {}), ("LeakyRelu", "n", "y", {})], {}),
    "PReLU with one slope": ([("PRelu", "x a", "y", {})], {"a": np.array([0.3], f4)}),
    "twice": ([("Add", "x x", "y", {})], {}),
}


@pytest.mark.parametrize("name", CHAINS)
def test_chains(tmp_path, rng, name):
    """Fastbp's layers give what ONNX Runtime does."""
    path = a_file(tmp_path / "net.onnx", *CHAINS[name])
    X = rng.normal(size=(30, 4)).astype("f4")
    assert error(run(path, X)[0], fb.from_onnx(path).predict(X)) < READ_BACK


def test_a_fixed_number_of_rows(tmp_path, rng):
    """A shape may then begin with it."""
    path = a_file(tmp_path / "net.onnx", [("Reshape", "x shape", "f", {}),
                                          ("Gemm", "f W", "y", {})],
                  {"W": W["W"], "shape": np.array([1, -1])}, shape=(1, 4))
    X = rng.normal(size=(1, 4)).astype("f4")
    assert error(run(path, X)[0], fb.from_onnx(path).predict(X)) < READ_BACK


def test_codes(tmp_path):
    """Columns of whole numbers, of which one is a category."""
    path = a_file(tmp_path / "net.onnx", [
        ("Gather", "x first", "c", {"axis": 1}), ("Gather", "table c", "e", {}),
        ("Cast", "x", "f", {"to": 1}), ("Concat", "e f", "y", {"axis": 1})],
        {"first": np.array(0), "table": np.arange(15, dtype=f4).reshape(5, 3)},
        kind=TensorProto.INT64, shape=("rows", 2))
    X = np.array([[4, 7], [0, 8]])
    net = fb.from_onnx(path)
    assert net.predict(X).tolist() == [[12, 13, 14, 4, 7], [0, 1, 2, 0, 8]]


def test_weights_in_another_file(tmp_path, rng):
    path = a_file(tmp_path / "net.onnx", [("MatMul", "x W", "y", {})], W)
    X = rng.normal(size=(3, 4)).astype("f4")
    Z = fb.from_onnx(path).predict(X)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="more.bin",
              size_threshold=0)
    assert (fb.from_onnx(path).predict(X) == Z).all()
    (tmp_path / "more.bin").write_bytes(b"12")
    with pytest.raises(ValueError, match=r"'W' is beyond the end of 'more.bin'"):
        fb.from_onnx(path)
    (tmp_path / "more.bin").unlink()
    with pytest.raises(ValueError, match=r"'more.bin', which cannot be read: No such file"):
        fb.from_onnx(path)
    for where in ("../more.bin", "/etc/passwd", "..", ""):
        proto = onnx.load(path, load_external_data=False)
        proto.graph.initializer[0].external_data[0].value = where
        path.write_bytes(proto.SerializeToString())
        with pytest.raises(ValueError, match="expected one in the same folder"):
            fb.from_onnx(path)


@pytest.mark.parametrize("name", ["plain", "dynamo"])
def test_files_of_pytorch(tmp_path, name):
    """Both of its exporters."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    nn = torch.nn
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(5)
    norm.running_mean.normal_()

    class Block(nn.Sequential):
        def forward(self, x):
            return x + super().forward(x)

    module = nn.Sequential(
        nn.Linear(6, 5), norm, nn.SiLU(), nn.Dropout(0.3),
        Block(nn.LayerNorm(5), nn.Linear(5, 9), nn.GELU(), nn.Linear(9, 5), nn.PReLU(5)),
        nn.Mish(), nn.Linear(5, 4), nn.ELU(0.7), nn.Linear(4, 3, bias=False), nn.SELU(),
        nn.Softmax(1)).eval()
    x = torch.randn(9, 6)
    path = str(tmp_path / "net.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x,), path, input_names=["x"], dynamo=name == "dynamo",
                          verbose=False)
    with torch.no_grad():
        assert error(module(x).numpy(), fb.from_onnx(path).predict(x.numpy())) < READ_BACK


@pytest.mark.filterwarnings("ignore")
def test_files_of_skl2onnx(tmp_path, rng):
    convert = pytest.importorskip("skl2onnx").to_onnx
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X, path = rng.normal(size=(80, 4)).astype("f4"), tmp_path / "model.onnx"
    for y in ((X[:, 0] > 0).astype(int), np.array(["u", "v", "w"])[rng.integers(0, 3, 80)]):
        for activation in ("relu", "logistic", "tanh", "identity"):
            model = make_pipeline(StandardScaler(), MLPClassifier(
                (5,), activation, max_iter=9, random_state=0)).fit(X, y)
            for options in ({"zipmap": True}, {"zipmap": False}):
                path.write_bytes(convert(model, X[:1], options=options).SerializeToString())
                P = fb.from_onnx(path).predict(X)
                assert abs(P - model.predict_proba(X)).max() < WRITTEN
    model = MLPRegressor(hidden_layer_sizes=(5,), max_iter=9).fit(X, X[:, 0])
    path.write_bytes(convert(model, X[:1]).SerializeToString())
    assert abs(fb.from_onnx(path).predict(X)[:, 0] - model.predict(X)).max() < WRITTEN


# Bad input.


@pytest.mark.parametrize(("nodes", "arrays", "message"), [
    ([("Conv", "x W", "y", {})], W, r"node 0 \(Conv\): expected operators of layers"),
    ([*DENSE, ("HardSigmoid", "h", "y", {})], W, r"node 1 \(HardSigmoid\)"),
    ([*DENSE, ("Softmax", "h", "s", {}), ("Relu", "s", "y", {})], W, r"node 1 \(Softmax\)"),
    ([*DENSE, ("Mul", "h h", "y", {})], W, r"node 1 \(Mul\)"),
    ([*DENSE, ("Add", "h x", "y", {})], W, r"node 1 \(Add\): expected as many columns"),
    ([("MatMul", "x V", "y", {})], {"V": np.ones((5, 2), f4)}, "expected 4 rows of weights, got 5"),
    ([("MatMul", "x x", "y", {})], {},
     r"node 0 \(MatMul\): can be read only with constant weights; change it, or take it out"),
    ([("Gelu", "x", "y", {"approximate": "tanh"})], {},
     r'\(Gelu\): can be read only with approximate="none"; change it'),
    ([("Reshape", "x shape", "y", {})], {"shape": np.array([-1, 3])},
     "if it leaves 4 numbers in each row"),
    ([("Reshape", "x shape", "y", {})], {"shape": np.array([1, -1])}, "if it keeps the rows"),
    ([("Flatten", "x", "y", {"axis": 0})], {}, "if it keeps the rows"),
    ([("Gemm", "x W c", "y", {})], W | {"c": np.ones((3, 1), f4)}, r"\(Gemm\): expected 3 numbers"),
    ([("Slice", "x start stop axis", "c", {}), ("Max", "c zeros", "y", {})],
     {"start": np.array([0]), "stop": np.array([1]), "axis": np.array([1]),
      "zeros": np.zeros(5, f4)}, r"node 1 \(Max\)"),
    ([("BatchNormalization", "x a a a v", "y", {})],
     {"a": np.ones(4, f4), "v": -np.ones(4, f4)}, "variances of at least 0"),
    ([("Gather", "x places", "y", {"axis": 1})], {"places": np.array([9])}, "columns that are not"),
    ([("Gemm", "x W b", "y", {})], {"W": W["W"].astype(np.float16)}, "has type 10"),
    ([("Relu", "nothing", "y", {})], {}, "expected one input, got 0"),
    ([("Constant", "", "y", {"value_float": 1.0})], {}, "expected one input, got 0"),
    ([("Add", "x c", "y", {})], {"c": np.ones((3, 4), f4)}, r"node 0 \(Add\)"),
    ([("Split", "x sizes", "y z", {"axis": 1})], {"sizes": np.array([1, 2])},
     r"\(Split\): can be read only into parts that add up to the 4 columns, one for each output, "
     r"not \[1, 2\]; change it"),
    ([("Split", "x", "y z u", {"axis": 1, "num_outputs": 2})], {}, r"\(Split\): can be read only"),
    ([("Slice", "x start stop axis step", "y", {})],
     {"start": np.array([0]), "stop": np.array([2]), "axis": np.array([1]), "step": np.array([0])},
     r"\(Slice\): can be read only with steps other than 0"),
    ([*DENSE, ("PRelu", "h h", "y", {})], W, r"\(PRelu\): can be read only with constant slopes"),
    ([*DENSE, ("PRelu", "h s", "y", {})], W | {"s": np.ones(7, f4)}, r"node 1 \(PRelu\)"),
    ([("LayerNormalization", "x s", "y", {"axis": 1})], {"s": np.ones((2, 2, 2), f4)},
     r"LayerNormalization"),
])
def test_refused_by_name(tmp_path, nodes, arrays, message):
    path = a_file(tmp_path / "net.onnx", nodes, arrays)
    with pytest.raises(ValueError, match=message) as caught:
        fb.from_onnx(path)
    assert str(caught.value).startswith(f"path: {str(path)!r} cannot be read as a network: ")


def test_an_input_without_a_shape(tmp_path):
    path = a_file(tmp_path / "net.onnx", [*DENSE[:-1], ("Gemm", "x W b", "y", {})], W)
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    onnx.save(model, path)
    with pytest.raises(ValueError, match=r"its input 'x' has no shape; export the model with an"):
        fb.from_onnx(path)


def test_no_onnx_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="path: there is no file"):
        fb.from_onnx(tmp_path / "no.onnx")
    with pytest.raises(IsADirectoryError, match="path: expected a file"):
        fb.from_onnx(tmp_path)
    with pytest.raises(TypeError, match="path: expected the path of a file"):
        fb.from_onnx(3)
    for content in (b"", b"hello", b"\x08\x09", bytes(range(256))):
        (tmp_path / "bad.onnx").write_bytes(content)
        with pytest.raises(ValueError, match=r"path: .*bad\.onnx' cannot be read as a network: it"):
            fb.from_onnx(tmp_path / "bad.onnx")


def test_infinite_numbers(tmp_path):
    """They are a network's, without a warning."""
    path = a_file(tmp_path / "net.onnx", [("Gemm", "x W", "y", {"alpha": float("inf")})],
                  {"W": np.array([[0, 1, -1]] * 4, f4)})
    W = fb.from_onnx(path).layers[0].W
    assert np.isnan(W[0, 0]) and W[0, 1:].tolist() == [np.inf, -np.inf]


def test_another_function_of_the_same_name(tmp_path):
    """Functions of fastbp's are known by name, so others may not have it."""
    net = fb.Sequential([fb.Repeat(2, 3), fb.MeanOfMembers(2, 3)])
    net.to_onnx(tmp_path / "net.onnx")
    proto = onnx.load(tmp_path / "net.onnx")
    proto.functions[0].node[-1].op_type = "ReduceSum"
    onnx.save(proto, tmp_path / "net.onnx")
    with pytest.raises(ValueError, match="its function MeanOfMembers is not the one that fastbp w"):
        fb.from_onnx(tmp_path / "net.onnx")


def test_mutated_files(tmp_path):
    """bench/fuzz_onnx.py plays as many as one likes."""
    bench = Path(__file__).parents[2] / "bench"
    if not bench.exists():
        pytest.skip("no benchmarks beside the tests")
    sys.path.insert(0, str(bench))
    try:
        import fuzz_onnx
    finally:
        sys.path.remove(str(bench))
    counts, bad = fuzz_onnx.fuzz(600, 1, tmp_path)
    assert bad == []
    assert counts["ValueError"] > 300 and counts["a network"] > 50
