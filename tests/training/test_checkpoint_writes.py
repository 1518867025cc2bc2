"""Writes of checkpoints that fail, and signals that come during them."""

import functools
import json
import os
import re
import shutil
import signal
import subprocess

import pytest

from .checkpoint_jobs import (
    CALLS,
    NAME,
    Wire,
    calls_of,
    command,
    cut_off,
    disk_full,
    environment,
    epochs_in,
    job,
    run_script,
    wired,
)

# Writes that fail


@pytest.mark.parametrize("name", [
    name for name in CALLS if name != "makedirs"])
def test_a_call_that_fails_once(tmp_path, name):
    """Each of them in turn, with the rest of the training as it would have been."""
    whole = job(epochs=4)
    calls, begun = calls_of(tmp_path / "whole", epochs=4)
    assert calls.pop() == "close", "the lock's, after all else"
    places = [n for n, other in enumerate(calls) if other == name and n >= begun]
    assert len(places) >= 3
    for n in places:
        folder = tmp_path / str(n)
        found, messages, _ = wired(folder, Wire(n, disk_full), epochs=4)
        assert found == whole
        if name not in ("unlink", "listdir"):  # of an old one, which does no harm
            assert len(messages) == 1
            assert re.search(r"checkpoint after epoch \d was not written: .*No space.*continues",
                             messages[0])
        assert not list(folder.glob("*.part"))
        assert job(folder, resume=True) == job()


def test_a_call_that_fails_before_it_begins(tmp_path):
    """Nothing to warn of yet: the error is raised, and nothing is lost."""
    calls, begun = calls_of(tmp_path / "whole", resume=True)
    for n in range(begun):
        folder = tmp_path / str(n)
        cut_off(folder, 3)
        (folder / (NAME % 3 + ".0123abcd.part")).touch()
        found, messages, _ = wired(folder, Wire(n, disk_full), resume=True)
        assert isinstance(found, OSError) or (found == job() and messages)
        assert job(folder, resume=True) == job()
    assert {"listdir", "makedirs", "open"} <= set(calls[:begun])


@pytest.mark.parametrize("name", ["open", "write", "flush", "fsync", "replace", "unlink"])
def test_calls_that_fail_from_some_moment_on(tmp_path, name):
    whole = job(kind="all")
    calls, begun = calls_of(tmp_path / "whole", kind="all")
    for n in (begun, (begun + len(calls)) // 2):
        folder = tmp_path / str(n)
        wire = Wire(n, disk_full, where=lambda i, n, other: i >= n and other == name)
        found, messages, _ = wired(folder, wire, kind="all")
        assert found == whole
        assert len(messages) >= 2 or name == "unlink"
        assert job(folder, "all", resume=True) == whole


def test_a_warning_made_an_error_ends_it_and_nothing_is_lost(folder):
    calls, begun = calls_of(folder.parent / "whole")
    n = [n for n, name in enumerate(calls) if name == "fsync" and n >= begun][4]
    wire = Wire(n, disk_full)
    with wire.laid(), pytest.raises(RuntimeWarning, match="was not written"):
        job(folder)
    assert epochs_in(folder) == [2, 3]
    assert job(folder, resume=True) == job()


NAMESPACE = ["unshare", "--mount", *(["--user", "--map-root-user"] if os.geteuid() else [])]
MOUNT = 'mount -t tmpfs -o size=160k none "$0" && exec "$@"'


@functools.cache
def may_mount():
    command = [*NAMESPACE, "sh", "-c", MOUNT, "/mnt", "true"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def test_a_full_disk(tmp_path):
    if not may_mount():
        pytest.skip("a small tmpfs cannot be mounted here: " + " ".join(NAMESPACE))
    result = subprocess.run([*NAMESPACE, "sh", "-c", MOUNT, tmp_path, *command("full", tmp_path)],
                            capture_output=True, text=True, check=False, timeout=60,
                            env=environment())
    assert result.returncode == 0, result.stderr
    check_full(json.loads(result.stdout), "No space left")


def test_a_file_that_may_not_grow(tmp_path):
    """As a full disk, where nobody may mount one: the kernel writes a part of it and refuses."""
    check_full(run_script("limit", tmp_path), "File too large")


def check_full(found, message):
    """Full for some epochs; left while full; gone on with while full, and when it no longer is."""
    assert found["same"] == [True] * 3
    assert all(message in warning for warning in found["warnings"])
    epochs = [int(warning.split("epoch ")[1].split()[0]) for warning in found["warnings"]]
    assert epochs == [3, 4, 5, 3, 4, 3, 4, 5, 6, 7]
    assert found["files"] == [[6, 7], [1, 2], [1, 2], [6, 7]]


# Signals that raise


def too_late():
    raise TimeoutError


def test_an_error_from_a_signal_handler_is_not_ignored(tmp_path):
    """Wherever it strikes; a TimeoutError is an OSError, but not one of the disk's."""
    calls, _ = calls_of(tmp_path / "whole", epochs=3)
    assert calls.pop() == "close", "the lock's, after all else"
    for n in range(len(calls)):
        folder = tmp_path / str(n)
        found, messages, _ = wired(folder, Wire(n, too_late), epochs=3)
        assert (type(found), messages) == (TimeoutError, []), calls[n]
        assert not list(folder.glob("*.part")) or calls[n] in ("unlink", "close")
        assert job(folder, resume=True, epochs=3) == job(epochs=3)


def test_nor_where_checkpoints_are_read(tmp_path):
    cut_off(tmp_path / "whole", 3)
    reading, begun = calls_of(shutil.copytree(tmp_path / "whole", tmp_path / "copy"), resume=True)
    for n in range(begun):
        folder = shutil.copytree(tmp_path / "whole", tmp_path / str(n))
        found, messages, _ = wired(folder, Wire(n, too_late), resume=True)
        assert (type(found), messages) == (TimeoutError, []), reading[n]
        assert job(folder, resume=True) == job()
    assert reading[:begun].count("open") == 2, "the lock and a checkpoint"


def test_nor_while_a_failed_write_is_cleaned_up(folder):
    def late(i, n, name):
        return i == n or (i > n and name == "unlink")

    calls, begun = calls_of(folder.parent / "whole")
    n = [n for n, name in enumerate(calls) if name == "fsync" and n >= begun][1]
    wire = Wire(n, lambda: (too_late if wire.calls[-1] == "unlink" else disk_full)(), where=late)
    found, messages, _ = wired(folder, wire)
    assert (type(found), messages) == (TimeoutError, [])


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="no alarms here")
def test_an_alarm(folder):
    """A real signal, in the middle of writing."""
    def ring(*arguments):
        raise TimeoutError("that is enough")

    before = signal.signal(signal.SIGALRM, ring)
    try:
        calls, begun = calls_of(folder.parent / "whole")
        n = [n for n, name in enumerate(calls) if name == "write" and n >= begun][2]
        with Wire(n, lambda: signal.raise_signal(signal.SIGALRM)).laid(), \
                pytest.raises(TimeoutError, match="enough"):
            job(folder)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert job(folder, resume=True) == job()
