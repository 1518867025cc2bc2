"""The docstrings of the public modules: every public name has an example, and examples run."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import fastbp as fb

# Compiled modules have tests of their own: tests/kernels/test_docstrings.py.
MODULES = ["fastbp", *(
    module.name for module in pkgutil.walk_packages(fb.__path__, "fastbp.")
    if not module.name.startswith("fastbp.kernels.") and module.name != "fastbp.__main__")]
PUBLIC = [name for name in fb.__all__ if callable(getattr(fb, name))]


@pytest.mark.parametrize("module", MODULES)
def test_examples_run(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert doctest.testmod(importlib.import_module(module)).failed == 0


@pytest.mark.parametrize("name", [*PUBLIC, *fb._ESTIMATORS])
def test_public_names_have_examples(name):
    assert ">>> " in inspect.getdoc(getattr(fb, name))
