"""The compiled extensions: sources, flags and the probe for OpenMP.  See pyproject.toml."""

import importlib.util
import os
import sys
import tempfile
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

KERNELS = Path("fastbp", "kernels")
# Cython's code for memoryviews, generated once and used by every module.
UTILITIES = "fastbp.kernels._cyutility"
TIERS = [f"{isa}_f{bits}.c" for isa in ("scalar", "avx2", "avx512", "neon") for bits in (32, 64)]
HEADERS = [str(KERNELS / "ops.def"), *sorted(str(path) for path in KERNELS.glob("**/*.h"))]

# Results are part of the interface: every fused multiply-add is written out, and nothing
# that lets the compiler change a value is allowed.  errno and floating-point traps are
# not used.  No -march: an instruction set is a tier, chosen at import.
FLAGS = ["-O3", "-g0", "-std=c11", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
if sys.platform == "win32":
    # gcc takes Windows' stack to be aligned for vectors, which it is not.
    FLAGS.append("-Wa,-muse-unaligned-vector-move")

# For `nox -s coverage`: lines of Cython are reported as they run, which makes them very slow.
TRACE = bool(os.environ.get("FASTBP_TRACE"))

OPENMP_PROBE = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"


class BuildKernels(build_ext):
    """Adds OpenMP where the compiler has it; without it the kernels run on one thread."""

    def finalize_options(self):
        if sys.platform == "win32" and self.compiler is None:
            self.compiler = "mingw32"  # Microsoft's has no vectors: see platform.h
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self):
        if self.has_openmp():
            for extension in self.extensions:
                extension.extra_compile_args.append("-fopenmp")
                extension.extra_link_args.append("-fopenmp")
        super().build_extensions()

    def has_openmp(self):
        with tempfile.TemporaryDirectory() as folder:
            source = os.path.join(folder, "probe.c")
            Path(source).write_text(OPENMP_PROBE)
            try:
                objects = self.compiler.compile(
                    [source], output_dir=folder, extra_postargs=["-fopenmp"]
                )
                self.compiler.link_executable(
                    objects, "probe", output_dir=folder, extra_postargs=["-fopenmp"]
                )
            except (CompileError, LinkError):
                print("fastbp: this compiler has no OpenMP; building for one thread")
                return False
        return True


def read_ops():
    """The table of operations, which is no part of an installed package yet."""
    spec = importlib.util.spec_from_file_location("ops", KERNELS / "ops.py")
    ops = sys.modules["ops"] = importlib.util.module_from_spec(spec)  # where dataclasses look
    spec.loader.exec_module(ops)
    return ops


OPS = read_ops()


def kernel(name, *sources):
    return Extension(
        f"fastbp.kernels.{name}",
        [str(KERNELS / f"{name}.pyx"), *(str(KERNELS / "simd" / source) for source in sources)],
        include_dirs=[str(KERNELS), numpy.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"),
                       ("FBP_OPS_CHECKSUM", f"{OPS.CHECKSUM}u"),
                       *([("CYTHON_TRACE_NOGIL", "1")] if TRACE else [])],
        depends=HEADERS,
        extra_compile_args=list(FLAGS),
    )


def main():
    OPS.write_stubs()  # what type checkers read of what follows from the table
    extensions = cythonize(
        [
            Extension(UTILITIES, [str(KERNELS / "_cyutility.c")], extra_compile_args=list(FLAGS)),
            kernel("dispatch", "dispatch.c", "amx_bf16.c", *TIERS),
            kernel("threads"),
            kernel("guards"),
            kernel("bfloat16"),
            kernel("dense"),
            kernel("activations"),
            kernel("losses"),
            kernel("normalization"),
            kernel("columns"),
            kernel("elementwise"),
            kernel("embeddings"),
            kernel("periodic_embeddings"),
            kernel("piecewise_embeddings"),
            kernel("members"),
            kernel("optimizers"),
            kernel("muon"),
            kernel("metrics"),
            kernel("gather"),
            kernel("encoded"),
            kernel("instructions"),
            kernel("executor"),
            kernel("shares"),
            kernel("stages"),
            kernel("updates"),
            kernel("steps"),
        ],
        nthreads=os.cpu_count(),
        shared_utility_qualified_name=UTILITIES,
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "initializedcheck": False,
            "cdivision": True,
            "linetrace": TRACE,
        },
    )
    setup(ext_modules=extensions, cmdclass={"build_ext": BuildKernels})


if __name__ == "__main__":  # Cython's processes may import this file
    main()
