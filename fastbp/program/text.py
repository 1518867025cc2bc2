"""A program as text."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from ..kernels import checks
from .ir import Instruction, Program

if TYPE_CHECKING:
    from ..losses import Loss
    from ..optimizers import Optimizer

__all__ = ["step_text"]

IN_PYTHON = "python", "python_backward"


def step_text(program: Program, batch_size: int | None = None, loss: Loss | None = None,
              optimizer: Optimizer | None = None, matrices: Collection[str] = ()) -> str:
    """A program section by section, one instruction per line.

    Parameters
    ----------
    program : Program
        Planned.
    batch_size : int, optional
    loss : Loss, optional
        None for a program for prediction.
    optimizer : Optimizer, optional
    matrices : collection of str, optional
        The names of parameters that the optimizer updates as a whole.

    Returns
    -------
    str
    """
    sections = {"FORWARD": _lines(program.forward)}
    fused = [] if matrices else _fused(program, loss, optimizer)
    if loss is not None:
        assert program.dz is not None
        compiled = checks.compiled_form(loss) is not None
        sections = {
            "GATHER": [f"{program.x.name} {program.x.shape}, y = rows of X, y"],
            **sections,
            "LOSS": [_mark(f"{program.dz.name} = gradient of {loss!r} at {program.z.name}",
                           not compiled)],
            "BACKWARD": _lines(program.backward[: len(program.backward) - len(fused)]),
        }
    if optimizer is not None:
        in_python = checks.compiled_form(optimizer) is None
        sections["REDUCE"] = ["norm of the gradients" if optimizer.clip_norm is not None
                              else "bound on the gradients" if fused
                              else "largest of the gradients"]
        sections["UPDATE"] = [
            *(f"{each}, a panel at a time" for each in fused),
            *(f"{each}: a step that is made orthogonal" for each in matrices),
            _mark(f"parameters, {', '.join(optimizer.state_names) or 'no state'} = {optimizer!r}",
                  in_python),
            *_lines(program.update)]
    if loss is not None and loss.metric is not None:
        metric = loss.metric
        in_python = not compiled or checks.compiled_form(metric) is None
        sections["RECORD"] = [_mark(f"loss, {metric.name} of {program.z.name}", in_python)]
    lines = []
    for name, section in sections.items():
        lines += [name, *(f"    {line}" for line in section)]
    rows = "each row" if batch_size is None else f"{batch_size} rows"
    numbers = program.arena_per_row * (1 if batch_size is None else batch_size)
    lines.append(f"arena: {program.arena:,} numbers, and {numbers:,} for {rows}")
    return "\n".join(lines)


def _fused(program: Program, loss: Loss | None, optimizer: Optimizer | None) -> list[Instruction]:
    """The gradients of weights that compiled steps compute in the update."""
    if loss is None or optimizer is None or optimizer.clip_norm is not None:
        return []
    pieces = [loss, optimizer] if loss.metric is None else [loss, optimizer, loss.metric]
    if None in map(checks.compiled_form, pieces):
        return []
    return program.backward[len(program.backward) - program.n_fused :]


def _lines(instructions: Iterable[Instruction]) -> list[str]:
    return [_mark(f"{each}{'' if each.barrier else '  (no barrier after it)'}",
                  each.op in IN_PYTHON) for each in instructions]


def _mark(line: str, in_python: bool) -> str:
    return f"{line}    # in Python" if in_python else line
