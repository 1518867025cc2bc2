"""What the tests of training share."""

import signal

import pytest

pytest.register_assert_rewrite(f"{__package__}.checkpoint_jobs")


@pytest.fixture
def ctrl_c():
    """Python's own handler, even where the tests run in the background of a shell."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, previous)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"
