"""Saving and loading: the same bits back, and an answer to every file that is no model."""

import json
import os
import pickle
import socket
import stat
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

import fastbp as fb
from fastbp import files


def a_net(dtype="float32"):
    """Every kind of layer, none with its default settings."""
    return fb.Sequential(
        [fb.Dense(4, 6, "glorot_normal"), fb.GELU(), fb.Dropout(0.3), fb.Dense(6, 5), fb.Tanh(),
         fb.ELU(0.5), fb.LeakyReLU(0.2), fb.SiLU(), fb.ReLU(), fb.Dense(5, 3), fb.Sigmoid()],
        dtype=dtype, seed=0,
    )


class Shift(fb.Layer):
    def __init__(self, n, by=1.0):
        super().__init__(n, shift=(n,))
        self.n, self.by = n, by

    def initialize(self, rng):
        self.shift = self.by

    def forward(self, X, training=True):
        return X + self.shift

    def backward(self, dZ):
        self.dshift = dZ.sum(axis=0)
        return dZ


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


# Round trips


@pytest.mark.parametrize("kind", [str, Path])
def test_every_layer_comes_back_with_its_bits(dtype, path, kind):
    net, X = a_net(dtype), np.random.default_rng(0).normal(size=(9, 4))
    net.save(kind(path))
    loaded = fb.load(kind(path))
    assert repr(loaded) == repr(net)
    assert loaded.dtype == dtype
    assert loaded.parameters.tobytes() == net.parameters.tobytes()
    assert loaded.predict(X).tobytes() == net.predict(X).tobytes()
    y = np.random.default_rng(1).random((9, 3))
    for each in (net, loaded):  # and it trains on as the first one would
        each.fit(X, y, loss=fb.MeanSquaredError(), epochs=2, seed=3)
    assert loaded.parameters.tobytes() == net.parameters.tobytes()


@settings(max_examples=15)
@given(sizes=st.lists(st.integers(1, 6), min_size=2, max_size=5), seed=st.integers(0, 99))
def test_networks_of_any_size(dtype, tmp_path_factory, sizes, seed):
    path = tmp_path_factory.mktemp("model") / "m"
    net = fb.mlp(sizes, "silu", dtype=dtype, seed=seed)
    net.save(path)
    assert fb.load(path).parameters.tobytes() == net.parameters.tobytes()


def test_unusual_numbers_come_back(path):
    net = fb.mlp([2, 3, 1], seed=0)
    net.parameters[:5] = [np.nan, np.inf, -np.inf, -0.0, np.finfo("f4").max]
    net.save(path)
    with pytest.warns(RuntimeWarning, match="holds NaN or infinity in layers.0.W$"):
        assert fb.load(path).parameters.tobytes() == net.parameters.tobytes()


def test_a_network_without_parameters(path):
    fb.Sequential([fb.ReLU(), fb.Dropout(0.5)]).save(path)
    assert repr(fb.load(path)) == repr(fb.Sequential([fb.ReLU(), fb.Dropout(0.5)]))


def test_weights_from_a_function_are_saved_without_the_function(path):
    net = fb.Sequential([fb.Dense(2, 3, init=lambda rng, n_in, n_out: np.eye(n_in, n_out))])
    net.save(path)
    assert fb.load(path).layers[0].W.tolist() == [[1, 0, 0], [0, 1, 0]]


def test_a_layer_of_ones_own_needs_its_class(path):
    net = fb.Sequential([fb.Dense(2, 3), Shift(3, by=2.5)], seed=0)
    net.save(path)
    loaded = fb.load(path, layer_types=[Shift])
    assert repr(loaded) == repr(net)
    assert loaded.parameters.tobytes() == net.parameters.tobytes()
    with pytest.raises(ValueError, match=r"'Shift' at 1.*layer_types=\[Shift\]"):
        fb.load(path)


def test_what_a_file_holds(path):
    """Other programs can read it: safetensors, with the architecture as JSON."""
    net = fb.mlp([4, 3, 2], seed=0)
    net.save(path)
    with safe_open(path, "numpy") as file:
        assert sorted(file.keys()) == ["layers.0.W", "layers.0.b", "layers.2.W", "layers.2.b"]
        assert file.get_tensor("layers.2.W").tolist() == net.layers[2].W.tolist()
        architecture = json.loads(file.metadata()["fastbp"])
    assert architecture["dtype"] == "float32"
    assert architecture["layers"][1] == {"type": "ReLU", "config": {}}
    assert architecture["layers"][2]["config"] == {
        "n_in": 3, "n_out": 2, "init": "glorot_uniform"}


def test_saving_changes_nothing_and_replaces_the_file(path):
    net = fb.mlp([4, 3, 2], seed=0)
    before = net.parameters.tobytes()
    path.write_text("an old file")
    net.save(path)
    assert net.parameters.tobytes() == before
    assert fb.load(path).parameters.tobytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_the_same_network_makes_the_same_file(path):
    net, files = fb.mlp([4, 3, 2], seed=0), set()
    for _ in range(8):
        net.save(path)
        files.add(path.read_bytes())
    assert len(files) == 1


# What cannot be saved


class Unwritable(Shift):
    def config(self):
        return {"n": self.n, "by": object()}


class Infinite(Shift):
    def config(self):
        return {"n": self.n, "by": np.inf}


class Forgetful(fb.Layer):
    def __init__(self, width):
        super().__init__(width)  # and does not keep `width`


@pytest.mark.parametrize("layer", [Unwritable, Infinite, Forgetful])
def test_a_layer_that_cannot_be_written(path, layer):
    path.write_text("an old file")
    with pytest.raises(TypeError, match=rf"layer 1 \({layer.__name__}\): .*config"):
        fb.Sequential([fb.Dense(2, 3), layer(3)]).save(path)
    assert path.read_text() == "an old file"


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()],
                         ids=["OSError", "KeyboardInterrupt"])
@pytest.mark.parametrize("existing", [True, False])
def test_a_write_that_fails_leaves_the_old_file(path, monkeypatch, function, error, existing):
    if existing:
        fb.mlp([4, 3, 2], seed=0).save(path)
        before = path.read_bytes()

    def fail(*arguments):
        raise error

    with monkeypatch.context() as patch, pytest.raises(type(error)):
        patch.setattr(os, function, fail)
        fb.mlp([4, 3, 2], seed=1).save(path)
    assert os.listdir(path.parent) == [path.name] * existing
    if existing:
        assert path.read_bytes() == before


def test_places_that_cannot_be_written(tmp_path):
    net = fb.mlp([2, 1])
    with pytest.raises(FileNotFoundError):
        net.save(tmp_path / "missing" / "model")
    with pytest.raises(OSError, match="irectory"):
        net.save(tmp_path)
    assert os.listdir(tmp_path) == []
    with pytest.raises(TypeError):
        net.save(None)


# What is at the path already


needs_links = pytest.mark.skipif(os.name != "posix", reason="links and modes as POSIX has them")


@needs_links
@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize("absolute", [True, False])
def test_links_are_followed(path, existing, absolute):
    target = path.parent / "folder" / "target"
    target.parent.mkdir()
    if existing:
        target.write_text("an old file")
    (path.parent / "second").symlink_to(target if absolute else "folder/target")
    path.symlink_to(path.parent / "second" if absolute else "second")
    net = fb.mlp([4, 3, 2], seed=0)
    net.save(path)
    assert path.is_symlink()
    assert (path.parent / "second").is_symlink()
    assert not target.is_symlink()
    assert fb.load(target).parameters.tobytes() == net.parameters.tobytes()
    assert sorted(os.listdir(path.parent)) == ["folder", path.name, "second"]
    assert os.listdir(target.parent) == ["target"]


@needs_links
def test_links_that_lead_nowhere(path):
    path.symlink_to(path.parent / "missing" / "target")
    loop = path.parent / "loop"
    loop.symlink_to(loop)
    for wrong in (path, loop):
        with pytest.raises(OSError):
            fb.mlp([2, 1]).save(wrong)
        assert wrong.is_symlink()
    assert sorted(os.listdir(path.parent)) == ["loop", path.name]


def a_pipe(path):
    os.mkfifo(path)


def a_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(path))


def a_device(path):
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))  # another /dev/null
    except PermissionError:
        pytest.skip("only root may make a device")


@needs_links
@pytest.mark.parametrize("make", [a_pipe, a_socket, a_device])
@pytest.mark.parametrize("linked", [False, True])
def test_what_is_no_file_is_not_replaced(tmp_path, monkeypatch, make, linked):
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    make("thing")
    if linked:
        os.symlink("thing", "link")
    before, names = os.lstat("thing"), sorted(os.listdir())
    with pytest.raises(ValueError, match=r"^path: expected a file.*pipe or device '(thing|link)'"):
        fb.mlp([2, 1]).save("link" if linked else "thing")
    assert os.lstat("thing")[:6] == before[:6]
    assert sorted(os.listdir()) == names


def test_a_folder_is_not_replaced(tmp_path):
    for wrong in (tmp_path, f"{tmp_path}/", f"{tmp_path}/new/", "."):
        with pytest.raises(IsADirectoryError, match=r"^path: expected a file, got the directory"):
            fb.mlp([2, 1]).save(wrong)
    assert os.listdir(tmp_path) == []


@needs_links
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o666, 0o400, 0o604])
def test_the_mode_is_kept(path, monkeypatch, mode):
    modes, opened = [], os.open

    def watched(path, flags, **options):
        file = opened(path, flags, **options)
        if flags & os.O_CREAT:
            modes.append(os.fstat(file).st_mode & 0o777)
        return file

    path.write_text("an old file")
    path.chmod(mode)
    monkeypatch.setattr(os, "open", watched)
    fb.mlp([2, 1]).save(path)
    assert path.stat().st_mode & 0o777 == mode
    assert modes == [0o600], "nobody else can open it before"


@needs_links
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_the_mode_of_a_new_file_is_as_usual(path, umask):
    before = os.umask(umask)
    try:
        fb.mlp([2, 1]).save(path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


@needs_links
def test_what_a_group_may_read_is_not_for_another(path, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(1, "Operation not permitted")

    class Old:
        st_mode, st_uid, st_gid = stat.S_IFREG | 0o664, os.getuid(), os.getgid() + 1

    path.write_text("an old file")
    path.chmod(0o600)
    monkeypatch.setattr(os, "chown", refuse)
    files.keep_mode(path, Old)
    assert path.stat().st_mode & 0o777 == 0o604


@pytest.mark.parametrize("name", [
    *("a" * n for n in (1, 59, 60, 61, 241, 242, 250, 255)), "é" * 127, "😀" * 63, "日" * 85,
    "a" + "😀" * 63, *([os.fsdecode(b"\xff" * 255)] if sys.platform == "linux" else []),
], ids=lambda name: f"{len(name)} {name[:2]!a}")
def test_names_as_long_as_they_may_be(tmp_path, name):
    net = fb.mlp([2, 1], seed=0)
    for _ in range(2):
        net.save(tmp_path / name)
        assert os.listdir(tmp_path) == [name]
        assert fb.load(tmp_path / name).parameters.tobytes() == net.parameters.tobytes()


def test_names_that_are_too_long(tmp_path):
    with pytest.raises(OSError, match="too long"):
        fb.mlp([2, 1]).save(tmp_path / ("a" * 256))
    assert os.listdir(tmp_path) == []


class Bytes:
    def __fspath__(self):
        return b"model"


NO_PATHS = [None, 0, 3, 1.5, True, b"model", b"", "", [], ["model"], {}, bytearray(b"x"), Bytes(),
            Path]
IMPOSSIBLE = ["a\0b", "\0", Path("a\0"), "a\ud800"]


@pytest.mark.parametrize("use", ["save", "load", "fit"])
def test_what_is_no_path(tmp_path, monkeypatch, use):
    monkeypatch.chdir(tmp_path)
    net, name = fb.mlp([2, 1], seed=0), "checkpoint" if use == "fit" else "path"

    def try_it(path):
        if use == "fit":
            net.fit(np.ones((3, 2)), np.ones(3), loss=fb.MeanSquaredError(), checkpoint=path)
        else:
            (net.save if use == "save" else fb.load)(path)

    for path in NO_PATHS:
        if path is None and use == "fit":
            continue
        with pytest.raises(TypeError, match=rf"^{name}: expected the path of a f"):
            try_it(path)
    for path in IMPOSSIBLE:
        with pytest.raises(ValueError, match=rf"^{name}: expected the path of a f"):
            try_it(path)
    with pytest.raises(TypeError, match=r"os\.fsdecode"):
        try_it(b"model")
    assert os.listdir() == []


# What cannot be loaded


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^path: there is no file .*nothing"):
        fb.load(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError, match=r"^path: expected a file"):
        fb.load(tmp_path)


def test_layer_types_is_a_sequence_of_classes(path):
    fb.mlp([2, 1]).save(path)
    for wrong in (Shift, None, [Shift(3)], ["Shift"]):
        with pytest.raises(TypeError, match=r"^layer_types: "):
            fb.load(path, layer_types=wrong)


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("exploded"),)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"hello\n" * 50, b"\xff" * 100, struct.pack("<Q", 2) + b"{}",
     struct.pack("<Q", 2**62) + b"{}", struct.pack("<Q", 5) + b"[1,2]", pickle.dumps(Bomb()),
     b"PK\x03\x04" + bytes(200)],
    ids=["empty", "one byte", "text", "noise", "empty safetensors", "huge header", "no header",
         "pickle", "zip"],
)
def test_files_of_other_kinds(path, content, monkeypatch):
    monkeypatch.chdir(path.parent)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^path: .* is not a fastbp model"):
        fb.load(path)
    assert os.listdir() == [path.name], "nothing in a file is executed"


def test_a_safetensors_file_of_another_program(path):
    for metadata in (None, {"format": "pt"}, {"format": "np", "architecture": "{}"}):
        save_file({"layers.0.W": np.ones((2, 2), "f4")}, path, metadata)
        with pytest.raises(ValueError, match=r"not a fastbp model: .*another program"):
            fb.load(path)


def test_every_truncated_file_is_refused(path):
    fb.mlp([3, 2], seed=0).save(path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"^path: "):
            fb.load(path)


@settings(max_examples=300)
@given(data=st.data())
def test_a_damaged_file_is_a_network_or_a_value_error(tmp_path_factory, data):
    """Whatever byte of the header is another."""
    path = tmp_path_factory.mktemp("model") / "m"
    fb.mlp([3, 2], seed=0).save(path)
    content = bytearray(path.read_bytes())
    length = 8 + struct.unpack("<Q", content[:8])[0]
    at = data.draw(st.integers(0, length - 1))
    content[at] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        net = fb.load(path)
    except ValueError:
        pass
    else:
        assert net.parameters.size == 8


GOOD = {
    "version": 1, "dtype": "float32",
    "layers": [{"type": "Dense", "config": {"n_in": 3, "n_out": 2}}],
}
TENSORS = {"layers.0.W": np.ones((3, 2), "f4"), "layers.0.b": np.ones(2, "f4")}


def write(path, architecture=GOOD, tensors=TENSORS):
    if not isinstance(architecture, str):
        architecture = json.dumps(architecture)
    save_file(tensors, path, {"fastbp": architecture})


def test_the_file_below_is_good_as_it_is(path):
    write(path)
    assert fb.load(path).parameters.tolist() == [1] * 8


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "missing: layers.0.W, layers.0.b"),
        ({"layers.0.W": TENSORS["layers.0.W"]}, "missing: layers.0.b"),
        (TENSORS | {"layers.1.W": np.ones(1, "f4")}, "not expected: layers.1.W"),
        (TENSORS | {"layers.0.W": np.ones((2, 3), "f4")},
         r"layers.0.W is F32 of shape \[2, 3\], expected F32 of shape \[3, 2\]"),
        (TENSORS | {"layers.0.b": np.ones((2, 1), "f4")}, r"layers.0.b .*shape \[2, 1\]"),
        (TENSORS | {"layers.0.b": np.ones(2)}, "layers.0.b is F64 .*expected F32"),
        (TENSORS | {"layers.0.b": np.ones(2, "i4")}, "layers.0.b is I32"),
    ],
)
def test_tensors_that_do_not_fit(path, tensors, message):
    write(path, tensors=tensors)
    with pytest.raises(ValueError, match=f"not a complete fastbp model: {message}"):
        fb.load(path)


def test_tensors_of_a_dtype_that_numpy_lacks(path):
    header = {
        "__metadata__": {"fastbp": json.dumps(GOOD)},
        "layers.0.W": {"dtype": "BF16", "shape": [3, 2], "data_offsets": [0, 12]},
        "layers.0.b": {"dtype": "F32", "shape": [2], "data_offsets": [12, 20]},
    }
    content = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(content)) + content + bytes(20))
    with pytest.raises(ValueError, match=r"^path: .*layers\.0\.W"):
        fb.load(path)


def layer(kind="Dense", **config):
    return GOOD | {"layers": [{"type": kind, "config": config}]}


@pytest.mark.parametrize(
    "architecture",
    [
        "", "{", "[]", "3", "null", "{}", "[" * 100_000, '{"layers": []}',
        GOOD | {"dtype": "float16"}, GOOD | {"dtype": "float64"}, GOOD | {"dtype": None},
        GOOD | {"dtype": 7}, GOOD | {"layers": None}, GOOD | {"layers": [None]},
        GOOD | {"layers": ["Dense"]}, GOOD | {"layers": [{"type": "Dense"}]},
        GOOD | {"layers": [{"type": "Dense", "config": 3}]}, GOOD | {"layers": GOOD["layers"] * 2},
        layer(None), layer(["Dense"]), layer({}), layer("Layer"), layer("Activation"),
        layer("os.system"), layer("eval"), layer("Sequential"), layer("dense", n_in=3, n_out=2),
        layer(n_in=3), layer(n_in=3, n_out=2, more=1), layer(n_in="3", n_out=2),
        layer(n_in=3, n_out=2.5), layer(n_in=-3, n_out=2), layer(n_in=2, n_out=3),
        layer(n_in=10**30, n_out=2), layer(n_in=3, n_out=2, init="os.system"),
        layer(n_in=3, n_out=2, init=["he_uniform"]), layer("Dropout", rate=2),
        layer("Dropout", rate=10**400), layer("ELU", alpha=None),
    ],
    ids=lambda value: str(value)[:60],
)
def test_descriptions_that_cannot_be_built(path, architecture):
    write(path, architecture)
    with pytest.raises(ValueError, match=r"^path: .*model"):
        fb.load(path)


@pytest.mark.parametrize("dtype", [None, "float16", "nonsense", ["float32"], {"a": 1}, 3, True])
def test_a_dtype_that_no_tensor_gives_away(path, dtype):
    write(path, {"version": 1, "dtype": dtype, "layers": [{"type": "ReLU", "config": {}}]}, {})
    with pytest.raises(ValueError, match=r"^path: .*dtype"):
        fb.load(path)


def test_sizes_that_do_not_chain_and_no_layers_at_all(path):
    write(path, GOOD | {"layers": []}, {})
    with pytest.raises(ValueError, match="layers: expected at least one layer"):
        fb.load(path)
    write(path, GOOD | {"layers": GOOD["layers"] * 2},
          TENSORS | {key.replace("0", "1", 1): value for key, value in TENSORS.items()})
    with pytest.raises(ValueError, match=r"layer 1 .*takes 3 columns.*returns 2"):
        fb.load(path)


def test_files_of_another_version(path):
    write(path, GOOD | {"version": 2})
    with pytest.raises(ValueError, match=r"^path: .*version 2; this fastbp reads version 1"):
        fb.load(path)
