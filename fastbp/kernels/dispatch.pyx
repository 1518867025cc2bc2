"""Which instruction-set tier of the kernels runs, chosen at import.

The best tier that the machine can run is taken, unless the environment variable
``FASTBP_ISA`` names another.  All of them give the same bits.
"""

import os

import numpy as np

from fastbp.kernels.threads cimport FBP_OPENMP

from . import ops

cdef extern from *:
    const unsigned int FBP_OPS_CHECKSUM  # given by setup.py

cdef extern from *:
    """
    #ifdef __clang__
    #define FBP_COMPILER __VERSION__
    #else
    #define FBP_COMPILER "GCC " __VERSION__
    #endif
    """
    const char *FBP_COMPILER


# The place of each operation of ops.def in the compiled tables.
UNARY_INDEX = {fbp_unary_names[i].decode(): i for i in range(FBP_UNARIES)}
LOSS_INDEX = {fbp_loss_names[i].decode(): i for i in range(FBP_LOSSES)}
UPDATE_INDEX = {fbp_update_names[i].decode(): i for i in range(FBP_UPDATES)}
# Numbered as in simd/dispatch.h.
OP_INDEX = {
    **{fbp_op_names[i].decode(): i for i in range(FBP_OPS)},
    **{name: FBP_OPS + i for name, i in UNARY_INDEX.items()},
    **{f"{name}_backward": FBP_OPS + FBP_UNARIES + UNARY_INDEX[name] for name in ops.ACTIVATIONS},
}
if ops.CHECKSUM != FBP_OPS_CHECKSUM:
    raise ImportError("fastbp: ops.def was changed since the compiled modules were built; build "
                      "them again: pip install --editable .")


def available():
    """Names of the instruction-set tiers this machine can run.

    Returns
    -------
    list of str
        The slowest first: ``["scalar", ...]``.
    """
    names = []
    cdef int i = 0
    while fbp_tier_at(i) != NULL:
        if fbp_tier_at(i).runs():
            names.append(fbp_tier_at(i).name.decode())
        i += 1
    return names


def compiled():
    """Names of the instruction-set tiers that were built, whether or not they run here.

    Returns
    -------
    list of str
    """
    names = []
    cdef int i = 0
    while fbp_tier_at(i) != NULL:
        names.append(fbp_tier_at(i).name.decode())
        i += 1
    return names


def use(name):
    """Make every kernel run on one tier from now on.

    Meant for tests and benchmarks: only speed depends on it, results do not.
    Do not call it while another thread is inside a kernel.

    Parameters
    ----------
    name : str
        One of `available()`.

    Raises
    ------
    ValueError
        If the tier was not built or this machine lacks its instructions.
    """
    global tier
    if name not in available():
        why = ("this machine lacks its instructions" if name in compiled()
               else f"built are {', '.join(compiled())}")
        raise ValueError(f"instruction set {name!r} cannot be used: {why}; "
                         f"choose one of {', '.join(available())}")
    cdef int i = 0
    while fbp_tier_at(i).name.decode() != name:
        i += 1
    tier = fbp_tier_at(i)


def isa():
    """Name of the instruction-set tier in use.

    Returns
    -------
    str
    """
    return tier.name.decode()


def fma_chains(Py_ssize_t length, dtype):
    """Run chains of fused multiply-adds in the tier in use, to measure peak speed.

    Parameters
    ----------
    length : int
        Length of the chains, several of which run side by side.
    dtype : {"float32", "float64"}

    Returns
    -------
    float
        Number of floating-point operations: two for each multiply-add.
    """
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise ValueError(f'dtype: expected "float32" or "float64", got {dtype!r}')
    cdef bint single = np.dtype(dtype) == np.float32
    cdef double made
    with nogil:
        made = tier.f32.fma_chains(length) if single else tier.f64.fma_chains(length)
    return made


def bf16_products(Py_ssize_t length):
    """Run the instructions of products of reduced precision in the tier in use, to measure peak
    speed.

    Parameters
    ----------
    length : int
        How many steps of independent sums.

    Returns
    -------
    float
        Number of floating-point operations: two for each multiply-add.
    """
    cdef double made
    with nogil:
        made = tier.bf16.peak(length)
    return made


def amx():
    """Whether products of reduced precision run on the processor's matrix instructions.

    Returns
    -------
    str or None
        None if they do, or can; otherwise why they are computed with fused multiply-adds, which
        gives the same bits.
    """
    cdef int status = fbp_amx_status()
    if status == FBP_AMX_RUNS:
        return None
    if status == FBP_AMX_NOT_BUILT:
        return "AMX is for Linux on x86-64, and compilers that know it"
    return ("the system refuses AMX" if status == FBP_AMX_REFUSED
            else "this processor has no AMX for bfloat16")


def build_info():
    """How the compiled modules were built.

    Returns
    -------
    dict
        ``compiler`` (str) and ``openmp`` (int: the date of OpenMP's version, or 0 for a build
        without it).
    """
    return {"compiler": FBP_COMPILER.decode(), "openmp": FBP_OPENMP}


def _choose():
    wanted = os.environ.get("FASTBP_ISA")
    try:
        use(wanted or available().pop())
    except ValueError as error:
        raise ValueError(f"environment variable FASTBP_ISA: {error}") from None


fbp_find_caches()
_choose()
