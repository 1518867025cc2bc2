"""What to report about an installation: versions, instruction set, threads, compiler."""

from __future__ import annotations

import platform

import numpy as np

from .kernels import dispatch, threads
from .version import __version__

__all__ = ["show_config"]


def show_config() -> None:
    """Print the versions, the instruction set, the threads, OpenMP and the compiler.

    The line ``bfloat16`` says what computes the products of networks whose precision is ``"high"``
    or ``"medium"``; the results do not depend on it.

    Examples
    --------
    >>> show_config()  # doctest: +ELLIPSIS
    fastbp           ...
    instruction set  ...
    bfloat16         ...
    threads          ...
    OpenMP           ...
    compiler         ...
    machine          ...
    Python           ...
    NumPy            ...
    """
    build = dispatch.build_info()
    without_amx = dispatch.amx()
    if without_amx is None and dispatch.isa() != "amx":
        without_amx = f"instruction set {dispatch.isa()} was asked for"
    openmp = f"yes ({build['openmp']})" if build["openmp"] else "no: the compiler had none"
    rows = {
        "fastbp": __version__,
        "instruction set": f"{dispatch.isa()} (built: {', '.join(dispatch.compiled())})",
        "bfloat16": ("by AMX" if without_amx is None
                     else f"by fused multiply-adds ({without_amx})"),
        "threads": str(threads.get_num_threads()),
        "OpenMP": openmp,
        "compiler": build["compiler"],
        "machine": f"{platform.machine()}, {platform.system()}",
        "Python": platform.python_version(),
        "NumPy": np.__version__,
    }
    width = max(len(name) for name in rows)
    print("\n".join(f"{name:<{width}}  {value}" for name, value in rows.items()))
