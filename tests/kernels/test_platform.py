"""What differs between systems is in platform.h alone."""

import re
from pathlib import Path

import pytest

import fastbp

pytestmark = pytest.mark.once

KERNELS = Path(__file__).parents[2] / "fastbp" / "kernels"
OF_A_SYSTEM = re.compile(r"""
    pthread | posix | _WIN32 | __linux__ | __APPLE__ | __unix__ | sysconf | syscall | sysctl
    | windows\.h | unistd\.h | sys/ | __atomic_ | __sync_ | __builtin_cpu | cpuid | clock_gettime
    | __builtin_ia32_pause
    """, re.VERBOSE)


def sources():
    found = [path for pattern in ("*.h", "*.pyx", "*.pxd", "simd/*.[ch]")
             for path in KERNELS.glob(pattern)]
    if len(found) < 50:
        pytest.skip("no sources beside the tests")
    return found


def test_nothing_of_a_system_is_elsewhere():
    with_some = {path.name for path in sources() if OF_A_SYSTEM.search(path.read_text("utf-8"))}
    assert with_some == {"platform.h"}


def test_the_clock_goes_on():
    from fastbp.kernels.stages import seconds
    times = [seconds() for _ in range(1000)]
    assert times == sorted(times)
    assert times[-1] > times[0]


def test_the_header_of_exported_c_needs_none_of_it():
    header = Path(fastbp.__file__).parent / "export" / "network.h"
    assert not OF_A_SYSTEM.search(header.read_text("utf-8"))
