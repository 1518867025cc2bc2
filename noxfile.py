"""What is checked before a change goes in, one session for each: `nox --list`.

    pip install nox
    nox                      # linters, types and the tests, as `.ci/run` has them
    nox -s tests-3.12 -- tests/network

Sessions that build fastbp install it as a user would, in an environment of their own.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import nox

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
OLDEST = PYTHONS[0]
NEWEST = max((version for version in PYTHONS if shutil.which(f"python{version}")),
             key=PYTHONS.index, default=PYTHONS[-1])
# One that is neither: its fastbp is compiled by clang, where there is one.
BY_CLANG = "3.12"
# Wheels that `packaging` leaves in this folder are what `tests` and `docs` install.
WHEELS = os.environ.get("FASTBP_WHEELS")
# The versions of .pre-commit-config.yaml.
LINTERS = ["ruff==0.17.6", "cython-lint==0.22.0", "clang-format==23.1.5"]
# What fastbp.estimators has to work with: the oldest, in the tests on the oldest Python, and the
# newest, on the others.
OLDEST_SKLEARN = "scikit-learn==1.7.*"
C_SOURCES = [str(path) for path in sorted(Path("fastbp").glob("**/*.[ch]"))
             if path.suffix == ".h" or path.parent.name == "simd"]

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["lint", "types", "tests"]


@nox.session
def lint(session):
    """Linters of Python, Cython and C."""
    session.install(*LINTERS)
    session.run("ruff", "check", ".")
    session.run("cython-lint", "fastbp")
    session.run("clang-format", "--dry-run", "--Werror", *C_SOURCES)


@nox.session
def types(session):
    """`mypy --strict` over the package, which need not be built for it."""
    session.install("mypy", "numpy", "safetensors", "matplotlib")
    session.run("python", "-P", "fastbp/kernels/ops.py")  # which writes the stubs
    session.run("mypy")


def package(python):
    """What to install: the wheel that `packaging` has left for this Python, or the checkout."""
    tag = f"cp{python.replace('.', '')}"
    wheels = sorted(Path(WHEELS).glob(f"fastbp-*-{tag}-{tag}-*.whl")) if WHEELS else []
    return wheels[-1] if wheels else "."


@nox.session(python=PYTHONS)
def tests(session):
    """The README's test command on what is installed."""
    by_clang = session.python == BY_CLANG and shutil.which("clang")
    session.install(f"{package(session.python)}[test]",
                    *([OLDEST_SKLEARN] if session.python == OLDEST else []),
                    env={"CC": "clang"} if by_clang else {})
    session.run("python", "-P", "-c",
                "import fastbp; print(fastbp.__file__); fastbp.show_config()")
    # What does not depend on the version of Python runs on the newest, and what depends on
    # scikit-learn's on the oldest and the newest.
    some = [] if session.python == NEWEST else ["-m", "not once"]
    if session.python not in (OLDEST, NEWEST):
        some += ["--ignore", "tests/estimators"]
    session.run("pytest", *(session.posargs or ["-n", "auto", *some]))


@nox.session
def packaging(session):
    """The other ways of building and installing."""
    session.install("build")
    with tempfile.TemporaryDirectory() as folder:
        session.run("bash", ".ci/packaging", str(Path(session.bin, "python")), folder,
                    external=True)
        if WHEELS:
            for wheel in Path(folder, "dist").glob("*.whl"):
                shutil.copy(wheel, WHEELS)


@nox.session
def coverage(session):
    """Which lines of Python and Cython the tests run; compiled with tracing, so it takes long."""
    session.install("setuptools>=77", "Cython>=3.1,<4", "numpy>=2")
    session.install("--no-build-isolation", "--editable", ".[test]", "pytest-cov",
                    env={"FASTBP_TRACE": "1"})
    # Tracing makes memory and time of its own, which these tests count.
    session.run("pytest", "-n", "auto", "-m", "not once", "--cov", "fastbp",
                "--cov-report", "term-missing", "--cov-report", "xml",
                "--ignore", "tests/kernels/test_allocation.py", "--deselect",
                "tests/kernels/test_dense.py::TestAgainstNumPy::"
                "test_an_interrupt_stops_a_long_product", *session.posargs)


@nox.session
def sanitize(session):
    """The compiled code under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer."""
    session.install("setuptools>=77", "Cython>=3.1,<4", "numpy>=2")
    session.install("--no-build-isolation", "--editable", ".[test]")
    session.run("bash", ".ci/sanitize", *session.posargs, external=True)


@nox.session(venv_backend="none")
def portable(session):
    """The C kernels by every compiler that is here, for Windows and Arm too: the same bits."""
    session.run("bash", ".ci/portable", *session.posargs, external=True)


@nox.session
def docs(session):
    """The documentation as a site, in build/docs; each example of the gallery runs."""
    session.install(f"{package('{}.{}'.format(*sys.version_info))}[docs]")
    session.run("python", "-P", "-m", "sphinx", "-W", "--keep-going", "-n", "-q", *session.posargs,
                "docs", "build/docs")


@nox.session
def bench(session):
    """Every benchmark, briefly."""
    session.install(".[bench]")
    for name in ("training", "inference", "kernels", "scaling", "memory", "estimators", "many",
                 "tables", "distributed"):
        session.run("python", f"bench/{name}.py", "--quick", *session.posargs)
