"""What Python assigns between two calls, or in a callback, may not crash the interpreter.

Each case runs in a process of its own, whose memory it may spoil, and says what it expects.
"""

import subprocess
import sys

import pytest

PRELUDE = """
import copy
import numpy as np, scipy.sparse, fastbp as fb

rng = np.random.default_rng(0)
X = rng.normal(size=(300, 8)).astype("f4")
y = np.arange(300) % 4
loss = fb.SoftmaxCrossEntropy()
net = fb.mlp([8, 16, 4], seed=0)

def fit(*callbacks, network=net, X=X, y=y, **options):
    options = {"loss": loss, "epochs": 3, "seed": 0} | options
    return network.fit(X, y, callbacks=list(callbacks), **options)

def refused(error, words, function, *arguments, **options):
    try:
        function(*arguments, **options)
    except error as raised:
        assert words in str(raised), str(raised)
    else:
        raise AssertionError(f"expected {error.__name__} with {words!r}")

def same_as_layers(network, X=X):
    Z = np.ascontiguousarray(X, network.dtype)
    for layer in network.layers:
        Z = layer.forward(Z, training=False)
    assert network.predict(X).tobytes() == Z.tobytes()
"""


def run(case):
    child = subprocess.run([sys.executable, "-c", PRELUDE + case + "\nprint('alive')"],
                           capture_output=True, text=True, check=False)
    assert child.stdout == "alive\n", f"ended with {child.returncode}: {child.stderr}"


# Layers that take the place of others


@pytest.mark.parametrize("use", ["fit", "predict"])
@pytest.mark.parametrize("n_out", [3, 2000])
def test_another_head(n_out, use):
    run(f"""
body, n_out = net.layers[:-1], {n_out}
kept = net.layers[0].W.copy()
if {use == "predict"}:
    net.predict(X)  # as the old network
net.layers = body + (fb.Dense(16, n_out), fb.ReLU(), fb.Dense(n_out, 3))
assert net.n_out == 3 and net.layers[0].W.tobytes() == kept.tobytes()
assert net.parameters.size == 8 * 16 + 16 + 17 * n_out + (n_out + 1) * 3
same_as_layers(net)
history = fit(y=y % 3, optimizer=fb.Adam(0.01), epochs=5)
assert history["loss"][-1] < history["loss"][0]
same_as_layers(net)
""")


def test_a_head_that_is_taken_off():
    run("""
net.predict(X)
net.layers = net.layers[:-1]
assert net.predict(X).shape == net.forward(X).shape == (300, 16)
same_as_layers(net)
""")


# Sizes


def test_sizes_are_read_only():
    run("""
before = net.predict(X)
for size in (50_000_000, 1, 0, -1, None):
    for name in ("n_in", "n_out", "dtype", "parameters"):
        refused(AttributeError, "", setattr, net, name, size)
    for name in ("n_in", "n_out", "parameter_shapes"):
        refused(AttributeError, name, setattr, net.layers[0], name, size)
        refused(AttributeError, name, delattr, net.layers[-1], name)
refused(AttributeError, "", lambda: net.layers[0].parameter_shapes.update(W=(1, 1)))
refused(ValueError, "X: expected 8 columns", net.predict, X[:, :1])
assert net.predict(X).tobytes() == before.tobytes()
""")


@pytest.mark.parametrize("size", [50_000_000, 15])
def test_sizes_that_are_changed_behind_its_back(size):
    """The compiled code adds them up itself."""
    run(f"""
before, expected = net.predict(X), fb.mlp([8, 16, 4], seed=0)
fit(network=expected)
vars(net.layers[0])["n_out"] = {size}
assert net.predict(X).tobytes() == before.tobytes()
fit()
assert net.parameters.tobytes() == expected.parameters.tobytes()
vars(net.layers[0])["_parameter_shapes"] = {{"W": (8, {size}), "b": ({size},)}}
net.programs.clear()
refused(ValueError, "expected", net.predict, X)
refused((ValueError, TypeError), "expected", fit)

net = fb.mlp([8, 16, 4], seed=0)
def change(training):
    vars(training.network.layers[-1])["_parameter_shapes"] = {{"W": (16, {size}), "b": ({size},)}}
    training.network.layers[0].init = "he_normal"  # the programs are made anew
refused((ValueError, TypeError), "expected", fit, change, network=net)
net = fb.mlp([8, 16, 4], seed=0)
net._n_in = {size}
refused(ValueError, "expected", net.predict, np.zeros((3, {min(size, 99)}), "f4"))
""")


def test_a_callback_cannot_change_sizes():
    run("""
def change(training):
    training.network.layers[0].n_out = 50_000_000
refused(AttributeError, "n_out", fit, change)
same_as_layers(net)
""")


def test_a_callback_cannot_exchange_what_is_trained():
    run("""
for name in ("network", "optimizer", "history", "epoch", "epochs", "compiled", "stopping", "sums",
             "steps_per_epoch", "learning_rate"):
    def change(training):
        setattr(training, name, fb.mlp([8, 3000, 4]))
    refused(AttributeError, name, fit, change)
same_as_layers(net)
""")


def test_a_callback_cannot_replace_layers():
    run("""
def change(training):
    net.layers = [fb.Dense(8, 4)]
refused(RuntimeError, "used by a training", fit, change)
net.layers = [fb.Dense(8, 4)]
same_as_layers(net)
""")


# Arrays that become others

BECOMES_ANOTHER = """
import sys
from fastbp.training import run as loop
from fastbp.program import reference

def check(words, *changes, **options):
    # Each change in a callback of a fit by itself, with arrays of its own.
    for change in changes:
        for anew in (False, True):  # and with a setting for which the program is compiled anew
            print(change, anew, file=sys.stderr)
            here = {"X": X.copy(), "y": y.copy(), "w": np.ones(300, "f4"),
                    "S": scipy.sparse.csr_array(X), "fb": fb, "big": rng.random((600, 9), "f4"),
                    "one": np.ones(300, "f4"),
                    "X_val": X.copy(), "y_val": y.copy(), "net": fb.mlp([8, 16, 4], seed=0)}
            given = {name: eval(value, here) for name, value in options.items()}
            def callback(training):
                exec(change, here | {"training": training})
                training.l2 = 0.5 * anew
            refused((TypeError, ValueError), words, fit, callback,
                    **{"network": here["net"]} | given)
            assert np.isfinite(here["net"].layers[0].W).all()
"""


@pytest.fixture(params=["compiled", "interpreted"])
def check(request):
    """Code that defines a function `check`, of compiled or interpreted steps."""
    without = "loop.new_steps = reference.new_steps\n"
    return BECOMES_ANOTHER + (without if request.param == "interpreted" else "")


def test_a_callback_that_makes_another_array_of_the_data(check):
    run(check + """
options = {"X": "X", "y": "y", "sample_weight": "w"}
check("X: expected the array as it was", "X.dtype = 'f8'", "X.dtype = 'i4'", "X.dtype = '>f4'",
      "X.shape = (600, 4)", "X.shape = (2400,)", "X.resize((3, 8), refcheck=False)",
      "X.resize((30000, 8), refcheck=False)", **options)
check("X: expected the array as it was", "big.resize(3, refcheck=False)", X="big[::2, :8]", y="y")
check("y: expected the array as it was", "one.resize(3, refcheck=False)", X="X", y="one",
      loss="fb.MeanSquaredError()", network="fb.mlp([8, 16, 1], seed=0)")
check("y: expected the array as it was", "y.dtype = 'f8'", "y.dtype = 'i4'", "y.shape = (150, 2)",
      "y.resize(3, refcheck=False)", **options)
check("sample_weight: expected the array as it was", "w.dtype = 'i4'", "w.shape = (150, 2)",
      "w.resize(3, refcheck=False)", "w.resize(30000, refcheck=False)", **options)
""")


def test_a_callback_that_makes_another_array_of_the_validation_data(check):
    run(check + """
options = {"validation_data": "(X_val, y_val)"}
check("validation_data X: expected the array as it was", "X_val.dtype = 'f8'",
      "X_val.shape = (2400,)", "X_val.resize((3, 8), refcheck=False)", **options)
check("validation_data y: expected the array as it was", "y_val.dtype = 'f8'",
      "y_val.resize(3, refcheck=False)", **options)
""")


def test_a_callback_that_makes_another_array_of_sparse_data(check):
    run(check + """
check("X.data: expected the array as it was", "S.data.dtype = 'i4'", X="S")
check("X.indices: expected the array as it was", "S.indices.dtype = 'i8'", X="S")
check("X.indptr: expected the array as it was", "S.indptr.shape = (7, 43)", X="S")
""")


def test_a_callback_that_makes_another_array_of_the_optimizers_state(check):
    run(check + """
check("expected", "training.optimizer.state['m'].dtype = 'f8'",
      "training.optimizer.state['v'].shape = (2, -1)")
""")


@pytest.mark.parametrize("path", ["compiled", "interpreted"])
def test_what_is_made_of_the_parameters_arrays_changes_nothing(path):
    """Flat arrays are given out as views, and those of a layer are put back."""
    run(f"""
from fastbp.training import run as loop
from fastbp.program import reference
if {path == "interpreted"}:
    loop.new_steps = reference.new_steps
fit(l2=0.1, gradient_norms=True)
expected, Z = net.parameters.tobytes(), net.predict(X).tobytes()
for change in ("net.parameters.dtype = 'f8'", "net.parameters.dtype = 'i4'",
               "net.parameters.shape = (2, -1)", "net.gradients.dtype = 'f8'",
               "net.layers[0].W.shape = (16, 8)", "net.layers[0].W.dtype = 'i4'",
               "net.layers[0].b.dtype = 'f8'", "net.layers[2].dW.shape = (-1,)",
               "net.layers[2].W.strides = (4, 8)"):
    net = fb.mlp([8, 16, 4], seed=0)
    def callback(training):
        exec(change, {{"net": net}})
    fit(callback, network=net, l2=0.1, gradient_norms=True)
    assert net.parameters.tobytes() == expected, change
    exec(change, {{"net": net}})
    assert net.predict(X).tobytes() == Z, change
    assert np.isfinite(net.layers[0].W).all()
""")


def test_a_callback_that_puts_other_arrays_into_a_sparse_one():
    """What was given to `fit` is what is trained on."""
    run("""
S = scipy.sparse.csr_array(X)
expected = fb.mlp([8, 16, 4], seed=0)
fit(network=expected, X=S)
def change(training):
    S.data, S.indices, S.indptr = S.data[:3], S.indices[:3], S.indptr[:2]
fit(change, X=S)
assert net.parameters.tobytes() == expected.parameters.tobytes()
""")


# The compiled side by itself


MAKES = """
from fastbp.kernels import encoded, executor, steps
from fastbp.program import compiler, encode, lower, plan

def places(layers):
    found, start = {}, 0
    for layer in layers:
        for name, shape in layer.parameter_shapes.items():
            found[id(layer), name] = start
            start += int(np.prod(shape))
    return found, start

def described(layers=None, training=True, n_in=8, n=None, fuse_update=False):
    layers = layers or [fb.Dense(8, 16), fb.ReLU(), fb.Dense(16, 4)]
    where, total = places(layers)
    n = total if n is None else n
    compiler.EncodedProgram = dict
    lowered = lower(layers, n_in, training=training, places=where)
    arguments = encode(plan(lowered, fuse_update))
    return arguments | {"parameters": np.zeros(n, "f4"), "gradients": np.zeros(n, "f4"),
                        "buffers": np.zeros(0, "f4")}

def make_executor(*, parameters, gradients, buffers, **program):
    return executor.Executor(encoded.EncodedProgram(**program), parameters, gradients, buffers)
"""


def test_the_executor_checks_what_it_is_told():
    run(MAKES + """
good = described()
make_executor(**good)
def refuse(error=ValueError, words="", **changes):
    refused(error, words, make_executor, **good | changes)
refuse(words="parameters: expected at least 212", parameters=np.zeros(211, "f4"),
       gradients=np.zeros(211, "f4"))
refuse(words="gradients: expected shape", gradients=np.zeros(213, "f4"))
refuse(words="memory of its own", gradients=good["parameters"])
refuse(TypeError, "parameters: expected", parameters=np.zeros(212, "i4"))
refuse(ValueError, "contiguous", parameters=np.zeros(424, "f4")[::2])
read_only = np.zeros(212, "f4")
read_only.setflags(write=False)
refuse(words="parameters: expected a writable", parameters=read_only)
refuse(words="values: expected", arena_per_row=1)
refuse(words="x: expected", x=1)
refuse(words="z: expected", z=99)
refuse(words="dz: expected", dz=-1)
for i, (kind, rows, columns, place, per_row) in enumerate(good["values"]):
    for other in ((kind, rows, columns + 1, place, per_row), (kind, rows, 0, place, per_row),
                  (kind, rows, columns, 10**9, per_row), (kind, rows, columns, -1, per_row),
                  (kind, rows, columns, place, 10**9), (kind, rows, 2**62, place, per_row),
                  ("input", rows, columns, place, per_row), ("odd", 1, 1, 0, 0)):
        if other == good["values"][i]:
            continue
        values = list(good["values"])
        values[i] = other
        try:
            e = make_executor(**good | {"values": values})
        except ValueError:
            continue
        # Where it stays in its array and fits all instructions, it is another program.
        assert other[0] == kind and other[1:3] == (rows, columns)
ops = [each[0] for each in good["forward"]]
for section in ("forward", "backward"):
    for i, each in enumerate(good[section]):
        for j, other in ((0, "nonsense"), (1, each[1][:-1]), (1, [*each[1], 0]), (2, [0]),
                         (3, [1.0, 2.0, 3.0])):
            changed = list(good[section])
            changed[i] = each[:j] + (other,) + each[j + 1:]
            refuse(words="expected", **{section: changed})
backward = [each[:6] + (True,) + each[7:] for each in good["backward"]]
refuse(words="no ReLU", backward=backward)
for n_fused in (-1, 1, len(good["backward"]) + 1):  # a gradient of a bias comes last
    refuse(words="n_fused: expected", n_fused=n_fused)
fused = described(fuse_update=True)
assert fused["n_fused"] == 2 and make_executor(**fused)
backward = [each[:9] + (False,) for each in fused["backward"]]
refused(ValueError, "a barrier before", make_executor, **fused | {"backward": backward})
refused(ValueError, "expected", make_executor, **described() | {"calls": []}
        | {"forward": [("python", [0], [0], [], None, 0, False, None, "highest",
                         True)]})
for precision in ("low", "medium"):
    changed = [each[:8] + (precision,) + each[9:] for each in good["backward"]]
    refuse(words="precision", backward=changed)  # the gradient of a bias has the highest
reduced = [good["forward"][0][:8] + ("medium",) + good["forward"][0][9:], *good["forward"][1:]]
make_executor(**good | {"forward": reduced})
refuse(words="precision: expected", forward=reduced, parameters=np.zeros(212),
       gradients=np.zeros(212), buffers=np.zeros(0))
refused(ValueError, "a program for prediction", make_executor(**good), X[:, :8].copy())
""")


def test_an_embeddings_codes_are_always_checked():
    run("""
class Trusting(fb.Layer):
    def lower(self, builder, x):
        codes = builder.op("take_columns", x, columns=[0], sizes={"n": 1})
        builder.op("embedding_backward", codes, x, sizes={"c": 3})
        return x
net = fb.Sequential([Trusting()])
refused(ValueError, "an embedding of as many rows", net.predict, np.full((4, 2), 1e12, "f4"))
""")


def test_buffers_that_changed_their_memory_are_noticed():
    run("""
net = fb.Sequential([fb.BatchNorm(8)])
X = np.ones((4, 8), "f4")
net.predict(X)
buffers = net.buffers.base
buffers.resize(1, refcheck=False)
refused(ValueError, "buffers: expected the array as it was", net.predict, X)
""")


def test_the_steps_check_what_they_are_told():
    run(MAKES + """
from fastbp.kernels import gather
targets = np.zeros((300, 4), "f4")
class Turns:
    def refuse(self, step):
        raise IndexError(step)
def make(X=X, y=y, metric=None, loss=("softmax_cross_entropy", 0.0, np.inf), batch_size=32,
         n_rows=300, weights=((0, 128), (144, 64)), layers=((0, 144), (144, 68)), **changes):
    described_program = described()
    parts = {key: described_program[key] for key in ("parameters", "gradients")}
    return steps.Steps(make_executor(**described_program), **parts | dict(
        X=X, y=y, sample_weight=None, n_rows=n_rows, batch_size=batch_size, loss=loss,
        metric=metric, update="sgd", state=[], weights=list(weights), layers=list(layers),
        groups=[(0, 212)], shapes=[None], average=None, turns=Turns()) | changes)
make()
refused(ValueError, "those that the executor has", make, parameters=np.zeros(212, "f4"))
of_program = described()
over = make_executor(**of_program)
for name in ("parameters", "gradients"):
    refused(ValueError, "those that the executor has", steps.Steps, over,
            **{key: of_program[key].view("f8" if key == name else "f4")
               for key in ("parameters", "gradients")},
            **dict(X=X, y=y, sample_weight=None, n_rows=300, batch_size=32, loss=None,
                   metric=None, update="sgd", state=[], weights=[], layers=[], groups=[(0, 106)],
                   shapes=[None], average=None, turns=None))
refused(ValueError, "a program for training", steps.Steps,
        make_executor(**(d := described(training=False))), d["parameters"], d["gradients"], X,
        y, None, 300, 32, ("softmax_cross_entropy", 0.0, np.inf), None, "sgd", [], [], [],
        [], [], None, None)
refused(ValueError, "X: expected", make, X=X[:, :7].copy())
refused(ValueError, "X: expected", make, X=X[:299])
refused(ValueError, "batch_size", make, batch_size=0)
refused(ValueError, "y: expected", make, y=targets[:, :3].copy())
refused(ValueError, "y: expected", make, y=targets.reshape(300, 2, 2))
refused(ValueError, "y: expected", make, y=targets[:299])
refused(ValueError, "y: expected", make, y=None)
refused(ValueError, "weights: expected", make, weights=((0, 213),))
refused(ValueError, "layers: expected", make, layers=((100, 100), (0, 100)))

rows, rates = np.arange(300)[None], np.zeros((10, 1))
def run_steps(made, rows=rows, first=0, stop=10, rates=rates, attributes=np.zeros((1, 1)),
              stats=(10, 3),
              sums=None, mean=None, norms=None, random=np.empty((2, 0), np.uint64),
              epoch_stats=(1, 3)):
    return made.run(rows, first, stop, rates, attributes, 0.0, 0.0, 0.0, 0.0, 0, random,
                    np.zeros(stats), sums, mean, norms, np.zeros(epoch_stats))
assert run_steps(make()) == 10
for options in ({"stop": 11}, {"rates": rates[:9]}, {"stats": (9, 3)}, {"stats": (10, 2)},
                {"rows": rows[:, :0]}, {"rows": rows[:, :64]}, {"first": -1},
                {"first": 7, "stop": 6}):
    refused(ValueError, "stop: expected", run_steps, make(), **options)
for norms in (np.zeros((1, 1)), np.zeros((0, 2))):
    refused(ValueError, "layer_norms: expected shape (1, 2)", run_steps, make(), norms=norms)
for shape in ((0, 3), (1, 2)):
    refused(ValueError, "epoch_stats: expected", run_steps, make(), epoch_stats=shape)
refused(ValueError, "attributes: expected 1", run_steps, make(), attributes=np.zeros((1, 2)))
refused(ValueError, "attributes: expected 1", run_steps, make(), attributes=np.zeros((2, 1)))
refused(ValueError, "rates: expected 2", run_steps,
        make(groups=[(0, 100), (100, 112)], shapes=[None, None]))
refused(ValueError, "groups: expected", make, groups=[(0, 100), (50, 112)], shapes=[None, None])
refused(ValueError, "shapes: expected None", make, shapes=[(4, 53)])
refused(ValueError, "shapes: expected those of the groups", make, shapes=[(3, 53)])
refused(ValueError, "shapes: expected a shape or None for each of 1 groups", make, shapes=[])
refused(ValueError, "state", make, average=np.zeros(211, "f4"))
refused(ValueError, "random: expected", run_steps, make(), random=np.empty((1, 0), np.uint64))
squares = make(y=targets, loss=("mean_squared_error", 0.0, np.inf), metric="r2")
for shape in ((1, 2), (0, 8)):
    refused(ValueError, "metric_sums: expected", run_steps, squares, sums=np.zeros(shape),
            mean=np.zeros(4))
refused(ValueError, "metric_mean: expected", run_steps, squares, sums=np.zeros((1, 8)),
        mean=np.zeros(3))
for row in (300, 10**15, -1):  # it leaves such a step to others
    wrong = rows.copy()
    wrong[0, 70] = row
    made = make()
    refused(IndexError, "2", run_steps, made, wrong)
    assert made.made == 2
S = scipy.sparse.csr_array(X)
refused(IndexError, "rows: expected", gather.dense_rows, S, np.array([0, 300]), np.dtype("f4"))
refused(IndexError, "rows: expected", gather.dense_rows, S, np.array([-1]), np.dtype("f4"))
refused(ValueError, "X: expected", gather.Rows, X.astype("f2"), np.dtype("f4"))
""")


def test_what_was_not_made_whole_does_not_run():
    run("""
from fastbp.kernels import encoded, executor, gather, guards, steps
unmade = steps.Steps.__new__(steps.Steps)
refused(RuntimeError, "initialized", unmade.run, np.zeros((1, 4), int), 0, 1, np.zeros((1, 1)),
        np.zeros((1, 1)), 0.0, 0.0, 0.0, 0.0, 0, np.empty((2, 0), np.uint64),
        np.zeros((1, 3)), None, None, None, np.zeros((1, 3)))
unmade = executor.Executor.__new__(executor.Executor)
assert unmade(X) is None and not unmade.accepts(X)
refused(RuntimeError, "initialized", unmade, np.zeros((3, 0), bool))
refused(RuntimeError, "initialized", guards.Borrowed.__new__(guards.Borrowed).check)

made = net.programs.predictor(None)
program = encoded.EncodedProgram.__new__(encoded.EncodedProgram)
refused(RuntimeError, "initialized", executor.Executor, program, *[np.zeros(0, "f4")] * 3)
refused(RuntimeError, "already initialized", made.__init__, program, *[np.zeros(0, "f4")] * 3)
same_as_layers(net)
borrowed = guards.Borrowed("X", X)
refused(RuntimeError, "already initialized", borrowed.__init__, "X", X[:3])
rows = gather.Rows(X, np.dtype("f4"))
refused(RuntimeError, "already initialized", rows.__init__, X[:3], np.dtype("f4"))
def change(training):
    refused(RuntimeError, "already initialized", training.compiled.__init__, made, *[None] * 17)
fit(change)
same_as_layers(net)
""")


def test_states_that_are_no_arrays_or_the_same_memory():
    run("""
from fastbp.kernels import optimizers
optimizer = fb.Adam()
optimizer.state, optimizer.steps = {"m": None, "v": None}, 1
refused(TypeError, "m: expected a numpy.ndarray", optimizer.update, np.ones(3, "f4"),
        np.ones(3, "f4"), 0.1)
p = np.ones(3, "f4")
rates = {"weight_decay": 0, "beta1": 0.9, "beta2": 0.99}
for state, error in (({"m": None}, TypeError), ([p], TypeError), ({}, ValueError),
                     ({"m": p}, ValueError), ({"m": np.ones(2, "f4")}, ValueError)):
    refused(error, "", optimizers.update_step, "lion", p, p.copy(), state, learning_rate=0.1,
            step=1, attributes=rates)

class Forgets(fb.Lion):
    def update(self, parameters, gradients, learning_rate):
        self.state["m"] = None
        super().update(parameters, gradients, learning_rate)
refused(TypeError, "m: expected", fit, optimizer=Forgets())

from fastbp.training import run as loop
from fastbp.program import reference
for loop.new_steps in (loop.new_steps, reference.new_steps):
    for state in ("{'m': a, 'v': a}", "{'m': net.parameters, 'v': a}",
                  "{'m': net.gradients, 'v': a}", "{'m': a, 'v': net.parameters[:]}"):
        net = fb.mlp([8, 16, 4], seed=0)
        def change(training):
            a = np.zeros(net.parameters.size, "f4")
            training.optimizer.state = eval(state, {"a": a, "net": net})
        refused(ValueError, "overlaps", fit, change, network=net, optimizer=fb.Adam())
        assert np.isfinite(net.parameters).all()
""")


# Programs of layers of one's own


def test_a_layer_that_resizes_what_is_predicted():
    run("""
once = []
class Resizes(fb.Layer):
    def forward(self, Z, training=True):
        while once:
            once.pop().resize((1, 1), refcheck=False)
        return Z * 1
    def backward(self, dZ):
        return dZ
own = fb.Sequential([Resizes(), fb.Dense(32, 64)])
for which in (0, 1):
    given = np.ones((200000, 32), "f4"), np.ones((200000, 64), "f4")
    once.append(given[which])
    refused(ValueError, "expected the array as it was", own.predict, given[0], out=given[1])
""")


def test_instructions_that_have_no_place_in_a_program():
    run("""
class Draws(fb.Layer):
    def lower(self, builder, x):
        return builder.op("dropout", x, layer=self, rate=0.5)
own = fb.Sequential([fb.Dense(8, 8), Draws(), fb.Dense(8, 4)])
fit(network=own)
refused(ValueError, "dropout: expected it in a program for training", own.predict, X)
class Forgets(fb.Layer):
    def lower(self, builder, x):
        return builder.op("dropout", x, rate=0.5)
own = fb.Sequential([fb.Dense(8, 8), Forgets(), fb.Dense(8, 4)])
refused(ValueError, "layer=self", fit, network=own)
class After(fb.Layer):
    def lower(self, builder, x):
        if builder.training:
            builder.after_step("python", x, layer=self, sizes={"n": 8})
        return x
own = fb.Sequential([fb.Dense(8, 8), After(), fb.Dense(8, 4)])
refused(ValueError, "in Python after a step", fit, network=own)
class Looks(fb.Layer):
    def lower(self, builder, x):
        builder.op("relu", x)
        return x
own = fb.Sequential([Looks()])
assert own.predict(X).tobytes() == X.tobytes()
class Keeps(fb.Layer):
    def __init__(self, n):
        super().__init__(n, n)
        self.inner = fb.Dense(n, n)
    def lower(self, builder, x):
        return builder.layer(0, self.inner, x)
own = fb.Sequential([fb.Dense(8, 8), Keeps(8)])
refused(ValueError, "Container", own.predict, X)
class Overwrites(fb.Layer):
    def lower(self, builder, x):
        h = builder.op("tanh", x)
        builder.op("exp", x, out=h)
        return h
refused(ValueError, "expected no `out`", fb.Sequential([fb.Dense(8, 4), Overwrites()]).predict, X)
class Nothing(fb.Layer):
    def lower(self, builder, x):
        pass
refused(TypeError, "lower returned None", fb.Sequential([fb.Dense(8, 4), Nothing()]).predict, X)
class Ends(fb.Layer):
    def lower(self, builder, x):
        return builder.op("softmax", x)
own = fb.Sequential([fb.Dense(8, 4), Ends()])
assert np.allclose(own.predict(X).sum(axis=1), 1)
refused(NotImplementedError, "softmax has no gradient", fit, network=own)
norm = fb.Sequential([fb.Dense(8, 4), fb.BatchNorm(4)])
refused(ValueError, "out overlaps buffers", norm.predict, X[:1],
        out=norm.layers[1].mean.reshape(1, 4))
""")


def test_indices_that_are_none():
    run(MAKES + """
good = described()
for i in (0, -1):
    for index in (-1, -2, 99):
        each = list(good["forward"][i])
        each[1] = [index, *each[1][1:]]
        changed = list(good["forward"])
        changed[i] = tuple(each)
        refused(ValueError, "expected indices", make_executor, **good | {"forward": changed})
refused(ValueError, "arena: expected", make_executor, **good | {"arena": 2**62})
""")


def test_gradients_that_no_rule_has():
    """They would be written where another layer's belong, or be left out."""
    run("""
class By(fb.Layer):
    def __init__(self, what):
        super().__init__(4, 4, g=(4,))
        self.add_buffers(fixed=(4,))
        self.what = what
    def initialize(self, rng):
        self.g, self.fixed = 1, 1
    def lower(self, builder, x):
        g, fixed = builder.parameter(self, "g"), builder.buffer(self, "fixed")
        mean, variance = builder.op("column_moments", x)
        rstd = builder.op("inverse_sqrt", variance, epsilon=1e-5)
        normal, row_rstd = builder.op("normalize_rows", x, epsilon=1e-5, center=1.0)
        z = {"buffer": lambda: builder.op("scale", x, fixed, gradient=0.0),
             "value": lambda: builder.op("scale", x, rstd, gradient=0.0),
             "rstd": lambda: builder.op("join", row_rstd, row_rstd, row_rstd, row_rstd),
             "others": lambda: builder.op("normalize_columns", normal, mean, rstd),
             "fixed": lambda: builder.op("normalize_columns", x, fixed, rstd),
             "own": lambda: builder.op("normalize_columns", x, mean, rstd)}[self.what]()
        return builder.op("scale", z, g, gradient=0.0)
for what in ("buffer", "value", "rstd", "others", "fixed"):
    own = fb.Sequential([fb.Dense(8, 4), By(what), fb.Dense(4, 4)], seed=0)
    assert own.predict(X).shape == (300, 4)  # which needs none
    before = own.parameters.copy()
    refused(NotImplementedError, "layer 1: ", fit, network=own)
    refused(NotImplementedError, "layer 1: ", own.forward, X)
    assert own.parameters.tobytes() == before.tobytes()
fit(network=fb.Sequential([fb.Dense(8, 4), By("own"), fb.Dense(4, 4)], seed=0))
""")
