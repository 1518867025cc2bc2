"""A network as data: a program of instructions, in the order of these modules.

- ir: values, instructions, programs
- builder: layers are lowered to instructions
- gradients: the backward pass, one rule for each operation
- planner: fusion, memory, barriers
- compiler: a planned program is encoded for the executor (kernels/executor.pyx), which runs it
- cache: the programs of a network
- reference: an interpreter in Python that gives the same bits, much more slowly
- text: what ``print(net.program())`` shows
- codes: checks of the codes that embeddings read
"""

from .builder import Builder, lower, lower_layer, runs_in_python
from .cache import Programs
from .codes import Codes, check_codes, code_columns
from .compiler import encode
from .ir import Instruction, Program, Value
from .planner import plan
from .reference import Interpreter
from .text import step_text

__all__ = [
    "Builder", "Codes", "Instruction", "Interpreter", "Program", "Programs", "Value",
    "check_codes", "code_columns", "encode", "lower", "lower_layer", "plan",
    "runs_in_python", "step_text",
]
