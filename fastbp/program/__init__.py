"""A network as data: what layers lower to, and what is made of it.

`lower` asks the layers for their instructions and adds those of the way back; `plan` rewrites them
and gives their values places; kernels/executor.pyx carries them out, and so, much more slowly and
with the same bits, does `reference`.
"""

from .builder import Builder, lower, lower_layer, runs_in_python
from .cache import Programs
from .codes import check_codes, code_columns
from .compiler import encode
from .ir import Instruction, Program, Value
from .planner import plan
from .reference import Interpreter
from .text import step_text

__all__ = [
    "Builder", "Instruction", "Interpreter", "Program", "Programs", "Value",
    "check_codes", "code_columns", "encode", "lower", "lower_layer", "plan",
    "runs_in_python", "step_text",
]
