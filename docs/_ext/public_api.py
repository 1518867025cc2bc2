"""The pages of the reference, written from the public names, so that none can be missing.

A page lists a module's ``__all__``, and autosummary makes a page for each of the names.  A name
that `fastbp` has too is documented as what users type, ``fastbp.Dense``.
"""

import importlib
import inspect
import re
from pathlib import Path

from sphinx.util import logging

import fastbp
from fastbp import estimators

# Modules, in the order in which somebody meets them.
MODULES = {
    "fastbp": "Networks and training",
    "fastbp.layers": "Layers",
    "fastbp.losses": "Losses",
    "fastbp.optimizers": "Optimizers",
    "fastbp.schedules": "Learning rates",
    "fastbp.callbacks": "Callbacks",
    "fastbp.metrics": "Metrics",
    "fastbp.initializers": "Initializers",
    "fastbp.estimators": "Estimators for scikit-learn and tables",
    "fastbp.datasets": "Data sets",
    "fastbp.plot": "Plots",
    "fastbp.explain.explanation": "Backpropagation explained",
    "fastbp.kernels": "Kernels: operations on arrays",
}
# Of which the names of `fastbp` are documented on their own page.
PARTS = ("layers", "losses", "optimizers", "estimators", "explain.explanation")
TOP = {*fastbp.__all__, *estimators.__all__} & {*dir(fastbp)}


def public_names(module):
    """The names that a module's page documents, as users type them."""
    names = importlib.import_module(module).__all__
    if module != "fastbp":
        return [f"fastbp.{name}" if name in TOP else f"{module}.{name}" for name in names]
    elsewhere = {name for part in PARTS
                 for name in importlib.import_module(f"fastbp.{part}").__all__}
    return [f"fastbp.{name}" for name in sorted(names, key=str.lower)
            if name not in elsewhere and not name.startswith("__")
            and not inspect.ismodule(getattr(fastbp, name))
            and name not in importlib.import_module("fastbp.callbacks").__all__]


def write(app):
    """``api/index.rst`` and a page for each module."""
    folder = Path(app.srcdir, "api")
    folder.mkdir(exist_ok=True)
    for module, title in MODULES.items():
        text = f"{title}\n{'=' * len(title)}\n\n"
        summary = inspect.getdoc(importlib.import_module(module))
        if module == "fastbp":
            summary = "``import fastbp as fb``"
        # Sections of a docstring would be sections of the page, in front of its list.
        summary = re.sub(r"^(\w+)\n-+$", r".. rubric:: \1\n", summary or "", flags=re.MULTILINE)
        text += f"{summary}\n\n"
        text += ".. autosummary::\n   :toctree: .\n   :nosignatures:\n\n"
        text += "".join(f"   ~{name}\n" for name in public_names(module))
        text += f"\n.. module:: {module}\n"  # after the list, whose names are whole
        write_if_new(folder / f"{module.rpartition('.')[2]}_module.rst", text)
    text = "Reference\n=========\n\n" + INDEX + "\n.. toctree::\n   :maxdepth: 2\n\n"
    text += "".join(f"   {module.rpartition('.')[2]}_module\n" for module in MODULES)
    write_if_new(folder / "index.rst", text)


INDEX = """\
Every public name, with its parameters, shapes, errors and an example that the tests run.  Names of
layers, losses, optimizers and estimators are in ``fastbp`` itself; those of the other modules are
reached through them: ``fb.schedules.Cosine``.
"""


def write_if_new(path, text):
    """Sphinx reads again what is newer than its copy."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def check(app, env):
    """Warn, which ends a build with ``-W``, of each public name that has no page."""
    objects = env.domains["py"].objects
    for module in MODULES:
        for name in public_names(module):
            if name not in objects:
                logging.getLogger(__name__).warning("no page of the reference has %s", name)
    known = {name.rpartition(".")[2] for module in MODULES for name in public_names(module)}
    for name in fastbp.__all__:
        thing = getattr(fastbp, name)
        if name not in known and not inspect.ismodule(thing) and not name.startswith("__"):
            logging.getLogger(__name__).warning("no page of the reference has fastbp.%s", name)


def setup(app):
    app.connect("config-inited", lambda app, config: write(app))  # before pages are looked for
    app.connect("env-check-consistency", check)
    return {"version": "1", "parallel_read_safe": True}
