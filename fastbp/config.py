"""What to report about an installation: versions, instruction set, threads, compiler."""

from __future__ import annotations

import platform

import numpy as np

from .kernels import dispatch, threads
from .version import __version__

__all__ = ["show_config"]


def show_config() -> None:
    """Print the versions, the instruction set, the threads, OpenMP and the compiler.

    Examples
    --------
    >>> show_config()  # doctest: +ELLIPSIS
    fastbp           ...
    instruction set  ...
    threads          ...
    OpenMP           ...
    compiler         ...
    machine          ...
    Python           ...
    NumPy            ...
    """
    build = dispatch.build_info()
    openmp = f"yes ({build['openmp']})" if build["openmp"] else "no: the compiler had none"
    rows = {
        "fastbp": __version__,
        "instruction set": f"{dispatch.isa()} (built: {', '.join(dispatch.compiled())})",
        "threads": str(threads.get_num_threads()),
        "OpenMP": openmp,
        "compiler": build["compiler"],
        "machine": f"{platform.machine()}, {platform.system()}",
        "Python": platform.python_version(),
        "NumPy": np.__version__,
    }
    width = max(len(name) for name in rows)
    print("\n".join(f"{name:<{width}}  {value}" for name, value in rows.items()))
