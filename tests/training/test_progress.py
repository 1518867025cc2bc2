"""The lines and bars that a training prints."""

import re
import sys
from functools import partial

import pytest
import tqdm.auto

import fastbp as fb

from .fits import a_fit, a_net


def test_silence_by_default(capsys):
    a_fit(a_net())
    assert capsys.readouterr() == ("", "")


LINE = r"epoch %d/2  loss \d\.\d{4}  accuracy \d\.\d{4}  val_loss \d\.\d{4}  " \
       r"val_accuracy \d\.\d{4}  (\d+\.\d\d s|\d+\.\d ms)"


@pytest.mark.parametrize("verbose", [1, 2, True])
@pytest.mark.parametrize("bar", ["there", "missing"])
def test_a_line_for_each_epoch(capsys, monkeypatch, verbose, bar):
    if bar == "missing":
        monkeypatch.setitem(sys.modules, "tqdm", None)
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    a_fit(a_net(), verbose=verbose, validation_fraction=0.2)
    out, err = capsys.readouterr()
    assert re.fullmatch(LINE % 1 + "\n" + LINE % 2 + "\n", out), out
    assert err == ""


class FakeBar:
    def __init__(self, made, **options):
        self.disable, self.options, self.updates, self.closed = False, options, 0, False
        made.append(self)

    def set_postfix_str(self, text, refresh):
        self.text = text

    def update(self, n=1):
        self.updates += n

    def close(self):
        self.closed = True


@pytest.fixture
def bars(monkeypatch):
    """The progress bars that were made."""
    made = []
    monkeypatch.setattr(tqdm.auto, "tqdm", partial(FakeBar, made))
    return made


@pytest.mark.parametrize("verbose", [0, 1, 2, 3])
def test_a_bar_over_the_steps_while_verbose_is_1_or_3(bars, verbose, capsys):
    history = a_fit(a_net(), verbose=verbose)
    assert len(capsys.readouterr().out.splitlines()) == (2 if verbose in (1, 2) else 0)
    assert len(bars) == (2 if verbose in (1, 3) else 0)
    for i, bar in enumerate(bars):
        assert (bar.options["total"], bar.updates, bar.closed) == (5, 5, True)
        assert bar.options["desc"] == f"epoch {i + 1}/2"
        assert bar.text == f"loss {history['loss'][i]:.4f}"


@pytest.mark.parametrize("verbose", [4, -1, 1.0, "1", None])
def test_verbose_is_one_of_four(verbose):
    with pytest.raises(ValueError, match=rf"^verbose: expected 0, 1, 2 or 3, got {verbose!r}"):
        a_fit(a_net(), verbose=verbose)


def test_the_bar_alone_without_tqdm(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    a_fit(a_net(), verbose=3)
    assert capsys.readouterr() == ("", "")


def test_the_bar_is_closed_when_training_fails(bars):
    with pytest.raises(FloatingPointError):
        a_fit(a_net(), verbose=1, optimizer=fb.SGD(1e300))
    assert [bar.closed for bar in bars] == [True]


def test_the_bar_does_not_change_the_bits(bars):
    nets = a_net(), a_net()
    a_fit(nets[0], seed=0)
    a_fit(nets[1], seed=0, verbose=1)
    assert nets[0].parameters.tobytes() == nets[1].parameters.tobytes()
