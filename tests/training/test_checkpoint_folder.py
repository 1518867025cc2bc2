"""The folder of the checkpoints: one training at a time, and what is in the way."""

import contextlib
import os
import re
import signal
import threading
import warnings
from pathlib import Path

import pytest

from fastbp import files

from .checkpoint_jobs import NAME, Cut, cut_off, disk_full, epochs_in, job, run_script, script


@pytest.mark.parametrize("bad", ["", b"", True, 5, ["run"]])
def test_no_folder(bad):
    with pytest.raises(TypeError, match=r"^checkpoint: expected the path of a folder"):
        job(bad)


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(NotADirectoryError, match=r"^checkpoint: expected a folder, got the file"):
        job(tmp_path / "run")


# One at a time


def test_a_folder_in_use_is_refused(folder):
    """In the same process, from another thread, and by a link; and free again afterwards."""
    errors = []

    def intrude():
        link = folder.parent / "link"
        link.symlink_to(folder)
        for place in (folder, link):
            with pytest.raises(RuntimeError, match=r"^checkpoint: another training is using"):
                job(place, resume=True)
            errors.append(place)

    def from_a_thread():
        thread = threading.Thread(target=intrude)
        thread.start()
        thread.join()

    assert job(folder, cut=Cut(2, from_a_thread)) == job()
    assert len(errors) == 2
    cut_off(folder.parent / "other", 1)
    for _ in range(2):
        assert job(folder, resume=True) == job()


def test_a_folder_that_another_process_uses(folder):
    with script("hold", folder) as holder:
        assert holder.stdout.readline() == "holding\n"
        for resume in (True, False):
            with pytest.raises(RuntimeError, match=r"^checkpoint: another training is using"):
                job(folder, resume=resume)
        holder.kill()
        holder.wait()
    assert job(folder, resume=True) == job()


def test_of_many_that_start_at_once_one_gets_it(folder):
    assert run_script("rush", folder) == {"won": 1, "refused": 5, "whole": True}


@pytest.mark.parametrize("killed", [0, 1])
def test_children_that_live_on_do_not_hold_the_folder(folder, killed):
    """A worker that was forked in a callback, of a training that ended or was killed."""
    assert run_script("fork", folder, killed) == {"again": True}


# What is in the way


@contextlib.contextmanager
def within(seconds):
    """An error from whatever waits for longer than this."""
    def late(*arguments):
        raise AssertionError("it took too long")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")


@needs_pipes
@pytest.mark.parametrize("with_ends", [False, True], ids=["alone", "with a reader and a writer"])
def test_a_pipe_in_the_place_of_the_lock(folder, with_ends):
    folder.mkdir()
    os.mkfifo(folder / ".fastbp-lock")
    ends = os.open(folder / ".fastbp-lock", os.O_RDWR) if with_ends else None
    with within(5), pytest.raises(ValueError, match=r"^checkpoint: .*lock file.*remove it"):
        job(folder)
    assert os.listdir(folder) == [".fastbp-lock"]
    if with_ends:
        os.close(ends)


def test_a_folder_in_the_place_of_the_lock(folder):
    (folder / ".fastbp-lock").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"^checkpoint: .*lock file.*remove it"):
        job(folder)


@needs_pipes
@pytest.mark.parametrize("with_ends", [False, True], ids=["alone", "with a reader and a writer"])
def test_a_pipe_in_the_place_of_a_file(folder, with_ends):
    cut_off(folder, 3)
    os.mkfifo(folder / (NAME % 9))
    ends = os.open(folder / (NAME % 9), os.O_RDWR) if with_ends else None
    with within(20), pytest.warns(RuntimeWarning, match=r"0009\.fastbp was skipped: .*pipe"):
        assert job(folder, resume=True, epochs=8) == job(epochs=8)
    assert epochs_in(folder) == [7, 8, 9], "and the last two are there besides"
    if with_ends:
        os.close(ends)


@needs_pipes
def test_a_pipe_where_a_file_has_to_be_written(folder):
    """As on a full disk: a warning, and the training goes on; nobody's pipe is removed."""
    folder.mkdir()
    cut_off(folder, 2)
    for name in (NAME % 4, NAME % 5 + ".0123abcd.part"):
        os.mkfifo(folder / name)
    with within(20), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert job(folder, resume=True) == job()
    assert [re.search("skipped|not written", str(warning.message))[0] for warning in caught] \
        == ["skipped", "not written"]
    assert sorted(os.listdir(folder)) == [
        ".fastbp-lock", NAME % 4, NAME % 5 + ".0123abcd.part", NAME % 6, NAME % 7]


def test_damaged_files_of_later_epochs_do_not_count_as_the_last_two(folder):
    cut_off(folder, 3)
    for epoch in (50, 60):
        (folder / (NAME % epoch)).write_bytes(b"")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert job(folder, resume=True) == job()
    assert epochs_in(folder) == [6, 7, 50, 60]


def test_only_what_was_left_unfinished_is_removed(folder, monkeypatch):
    cut_off(folder, 2)
    before = set(os.listdir(folder))
    with monkeypatch.context() as patch:  # as a process that is killed leaves it
        patch.setattr(os, "unlink", lambda path: None)
        patch.setattr(os, "replace", lambda *paths: disk_full())
        for name in (NAME % 3, "checkpoint-123456789.fastbp"):
            with pytest.raises(OSError, match="No space"):
                files.replace_file(folder / name, b"half")
    left = set(os.listdir(folder)) - before
    assert len(left) == 2
    others = [
        "model.0123abcd.part", NAME % 3 + ".0123ABCD.part", NAME % 3 + ".0123abc.part",
        NAME % 3 + ".0123abcd.part.bak", "my " + NAME % 3 + ".0123abcd.part",
        "checkpoint-0000003.fastbp.0123abcd.part", "checkpoint-000000003.fastbp.0123abcd.part",
        "checkpoint-0000000٣.fastbp.0123abcd.part",
        NAME % 3 + ".0123abcd.part\n",
    ]
    for name in others:
        (folder / name).write_bytes(b"mine")
    (folder / (NAME % 4 + ".0123abcd.part")).mkdir()
    (folder / (NAME % 5 + ".0123abcd.part")).symlink_to(folder / others[0])
    (folder / (NAME % 6 + ".0123abcd.part")).write_bytes(b"of an older version")
    assert job(folder, resume=True) == job()
    assert set(os.listdir(folder)) == {
        ".fastbp-lock", NAME % 6, NAME % 7, *others, NAME % 4 + ".0123abcd.part",
        NAME % 5 + ".0123abcd.part"}


def test_a_link_to_nothing_in_the_place_of_the_folder(folder):
    folder.symlink_to(folder.parent / "nothing")
    with pytest.raises(NotADirectoryError, match=r"^checkpoint: .*the broken link .*run"):
        job(folder)
    assert os.listdir(folder.parent) == ["run"]


@pytest.mark.parametrize("bad", ["a\0b", Path("run\0"), "\0"])
def test_a_folder_whose_name_no_system_takes(tmp_path, monkeypatch, bad):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^checkpoint: .*NUL"):
        job(bad)
    assert os.listdir() == []
