"""What notebooks, TensorBoard and shells show of networks, trainings and the command."""

import copy
import html.parser
import shutil
import subprocess
import sys

import numpy as np
import pytest
from sklearn.utils import estimator_html_repr

import fastbp as fb
from fastbp.__main__ import main

# HTML


class Table(html.parser.HTMLParser):
    """The cells of a page's tables, row by row; tags have to be closed in order."""

    def __init__(self, page):
        super().__init__()
        self.open, self.rows, self.caption = [], [], ""
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        assert tag not in ("script", "link", "img")
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data
        elif "caption" in self.open:
            self.caption += data


def test_a_network_in_a_notebook():
    net = fb.mlp([784, 256, 10], dropout=0.1)
    table = Table(net._repr_html_())
    assert table.rows == [
        ["", "layer", "output", "parameters"],
        ["0", "Dense(n_in=784, n_out=256, init='he_uniform')", "(batch, 256)", "200,960"],
        ["1", "ReLU()", "(batch, 256)", "0"],
        ["2", "Dropout(rate=0.1)", "(batch, 256)", "0"],
        ["3", "Dense(n_in=256, n_out=10, init='glorot_uniform')", "(batch, 10)", "2,570"]]
    assert table.caption == "Sequential: 203,530 parameters, float32, 795 KiB"


def test_layers_in_layers_are_below_each_other():
    net = fb.Sequential([
        fb.Columns([(slice(0, 2), []), (2, fb.Embedding(7, 4))]),
        fb.Residual([fb.Dense(6, 6), fb.Residual([fb.LayerNorm(6), fb.GELU()])]),
        fb.Dense(6, 1),
    ], seed=0)
    lines = net.summary().splitlines()
    assert [line.split()[0] for line in lines[2:-1]] == [
        "0", "0.1.0", "1", "1.0", "1.1", "1.1.0", "1.1.1", "2"]
    assert "\n".join(lines).count("Dense(n_in=6, n_out=6") == 1
    indents = [len(line) - len(line[5:].lstrip()) for line in lines[2:-1]]
    assert indents[3] > indents[2] and indents[5] > indents[4] and indents[7] == indents[2]
    table = Table(net._repr_html_())
    assert [row[0] for row in table.rows[1:]] == [line.split()[0] for line in lines[2:-1]]
    assert table.rows[2][1].startswith("Embedding(") and table.rows[2][2] == "(batch, 4)"


def test_text_of_a_layer_of_ones_own_is_no_markup():
    class Strange(fb.Layer):
        def __repr__(self):
            return "<script>alert(1)</script>"

        def forward(self, X, training=True):
            return X

        def backward(self, dZ):
            return dZ

    assert Table(fb.Sequential([Strange()])._repr_html_()).rows[1][1] == "<script>alert(1)</script>"
    network = type("<b>", (fb.Sequential,), {})([Strange()])
    assert Table(network._repr_html_()).caption.startswith("<b>: ")


@pytest.mark.parametrize("model", [
    fb.MLPClassifier((8,), activation="tanh"), fb.TabPackClassifier(7), fb.TabMRegressor(),
    fb.TableEncoder()], ids=lambda model: type(model).__name__)
def test_estimators_in_a_notebook(model):
    page = estimator_html_repr(model)
    assert type(model).__name__ in page and model._repr_html_().count("<div") > 3
    assert "https://scikit-learn.org" not in page  # which has no page about them
    if isinstance(model, fb.MLPClassifier):
        assert "tanh" in page


# TensorBoard


def read(folder):
    """What TensorBoard shows of a folder: steps and values by tag."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {tag: ([event.step for event in events.Scalars(tag)],
                  [event.value for event in events.Scalars(tag)])
            for tag in events.Tags()["scalars"]}


def fit(folder, epochs=4, **options):
    X, y = fb.datasets.digits("train")
    net = fb.mlp([64, 16, 10], seed=0)
    return net.fit(X, y, loss=fb.SoftmaxCrossEntropy(), epochs=epochs, seed=0,
                   callbacks=[fb.callbacks.TensorBoard(folder)], **options)


@pytest.fixture
def tensorboard():
    pytest.importorskip("tensorboardX")
    pytest.importorskip("tensorboard")


@pytest.mark.once
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_reads_the_history_back(tensorboard, tmp_path):
    history = fit(tmp_path / "run", validation_fraction=0.2, gradient_norms=True)
    train, validation = read(tmp_path / "run" / "train"), read(tmp_path / "run" / "validation")
    assert set(validation) == {"loss", "accuracy"}
    assert set(train) == {"loss", "accuracy", "learning_rate", "seconds", "gradient_norm/0_Dense",
                          "gradient_norm/2_Dense"}
    steps = [1, 2, 3, 4]
    for key in "loss", "accuracy":
        assert train[key] == (steps, np.float32(history[key]).tolist())
        assert validation[key] == (steps, np.float32(history[f"val_{key}"]).tolist())
    norms = np.float32([each[1] for each in history["gradient_norms"]]).tolist()
    assert train["gradient_norm/2_Dense"] == (steps, norms)


@pytest.mark.once
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_resumed_training_goes_on_in_tensorboard(tensorboard, tmp_path):
    folder, checkpoint = tmp_path / "run", tmp_path / "checkpoints"
    fit(folder, 3, checkpoint=checkpoint)
    history = fit(folder, 5, checkpoint=checkpoint, resume=True)
    assert read(folder / "train")["loss"] == ([1, 2, 3, 4, 5],
                                              np.float32(history["loss"]).tolist())


@pytest.mark.once
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_second_training_takes_the_place_of_the_first(tensorboard, tmp_path):
    fit(tmp_path, 4, validation_fraction=0.2)
    history = fit(tmp_path, 2, batch_size=256)
    assert read(tmp_path / "train")["loss"] == ([1, 2], np.float32(history["loss"]).tolist())
    assert read(tmp_path / "validation") == {}  # in which it has no part


@pytest.mark.once
def test_the_log_changes_no_result(tensorboard, tmp_path):
    X, y = fb.datasets.digits("train")
    plain = fb.mlp([64, 16, 10], seed=0).fit(X, y, loss=fb.SoftmaxCrossEntropy(), epochs=4, seed=0)
    assert fit(tmp_path)["loss"] == plain["loss"]


def test_tensorboard_refuses(tmp_path, monkeypatch):
    with pytest.raises(TypeError, match="folder: expected the path of a folder"):
        fb.callbacks.TensorBoard(3)
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="expected a folder, or none yet, got a file"):
        fit(tmp_path / "file")
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r'pip install "fastbp\[tensorboard\]"'):
        fit(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    callback = fb.callbacks.TensorBoard(tmp_path / "run")
    assert copy.deepcopy(callback).folder == callback.folder


# Completion in a shell


TRY = """
source completion.sh
try() {
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
    COMPREPLY=()
    $(complete -p fastbp | sed 's/.*-F \\([^ ]*\\).*/\\1/')
    printf '%s\\n' "${COMPREPLY[@]}" | sort -u | tr '\\n' ' '; echo
}
"""


@pytest.fixture
def completed(tmp_path, capsys):
    """A function: what bash completes the last word to."""
    pytest.importorskip("shtab")
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    assert main(["completion", "bash"]) == 0
    (tmp_path / "completion.sh").write_text(capsys.readouterr().out)
    (tmp_path / "houses.csv").write_text("a,b\n")
    (tmp_path / "results").mkdir()

    def complete(*words):
        quoted = " ".join(f"'{word}'" for word in words)
        run = subprocess.run([bash, "--norc", "-c", f"{TRY}try fastbp {quoted}"], cwd=tmp_path,
                             check=True, capture_output=True, text=True)
        assert run.stderr == ""
        return run.stdout.split()

    return complete


@pytest.mark.once
def test_bash_completes_options_values_and_files(completed):
    assert completed("--ta") == ["--target", "--task"]
    assert completed("exp") == ["explain", "export"] and completed("pre") == ["predict"]
    assert completed("--model", "") == ["auto", "mlp", "tabm", "tabpack"]
    assert completed("--activation", "si") == ["sigmoid", "silu"]
    assert completed("--data", "hou") == ["houses.csv"]
    assert completed("--output", "") == ["results"]
    assert completed("--data", "houses.csv", "--targ") == ["--target"]
    assert completed("export", "--w") == ["--weights"]
    assert completed("export", "--weights", "") == ["bits", "decimal", "hex"]
    assert completed("predict", "hou") == ["houses.csv"]
    assert completed("completion", "") == ["bash", "tcsh", "zsh"]


@pytest.mark.once
@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_can_read_their_scripts(shell, tmp_path, capsys):
    pytest.importorskip("shtab")
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "predict" in script
    if shutil.which(shell):
        (tmp_path / "script").write_text(script)
        run = subprocess.run([shell, "-n", str(tmp_path / "script")], capture_output=True,
                             text=True)
        assert run.returncode == 0 and run.stderr == ""


def test_completion_refuses(capsys, monkeypatch):
    assert main(["completion", "cmd"]) == 2
    assert "invalid choice: 'cmd' (choose from" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert capsys.readouterr().err == ('fastbp: completion: needs shtab: pip install '
                                       '"fastbp[completion]"\n')
