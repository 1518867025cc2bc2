"""The docstrings of the compiled functions: their examples run, and no section is missing.

``pytest --doctest-modules`` does not look into compiled modules.
"""

import doctest
import inspect

import pytest

from fastbp import kernels
from fastbp.kernels import memory, ops, optimizers, threads

FUNCTIONS = {name: getattr(kernels, name) for name in kernels.__all__}
FUNCTIONS["optimizers.update_step"] = optimizers.update_step
EXAMPLES = FUNCTIONS | {name: getattr(threads, name)
                        for name in ("get_num_threads", "set_num_threads")}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(name):
    found = doctest.DocTestFinder().find(EXAMPLES[name], name, module=False, globs={})
    assert len(found) == 1 and found[0].examples
    result = doctest.DocTestRunner().run(found[0])
    assert result.attempted > 0 and result.failed == 0


@pytest.mark.parametrize("name", FUNCTIONS)
def test_sections(name):
    """Every parameter is described, and what is returned and raised is said."""
    doc = inspect.getdoc(FUNCTIONS[name])
    sections = ["Parameters", "Returns", "Raises", "Notes", "References", "Examples"]
    places = [doc.find(f"\n{section}\n{'-' * len(section)}\n") for section in sections]
    there = [place for place in places if place >= 0]
    assert there == sorted(there)
    missing = {section for section, place in zip(sections, places, strict=True) if place < 0}
    assert not missing & {"Parameters", "Raises", "Examples"}
    described = doc[places[0]:there[1]]
    for parameter in inspect.signature(FUNCTIONS[name]).parameters:
        assert any(parameter in line.split(" : ")[0].split(", ")
                   for line in described.splitlines() if " : " in line), parameter


@pytest.mark.parametrize("module", [memory, ops])
def test_examples_of_python_modules(module):
    result = doctest.testmod(module)
    assert result.attempted > 0 and result.failed == 0
