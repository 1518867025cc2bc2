"""Backpropagation: a rule for each operation, applied from the last instruction to the first.

A rule is given an instruction of the forward pass and the loss's gradient with respect to what it
wrote.  It adds the instructions that make the gradients with respect to what it read.
"""

from dataclasses import replace

from ..kernels import ops
from .ir import Value

__all__ = ["add_backward", "for_parameters"]


class Backward:
    """The gradients that are known so far, by value.

    Parameters
    ----------
    builder : Builder
        Which collects the instructions.
    """

    def __init__(self, builder):
        self.op = builder.op
        self._builder = builder
        self._gradients = {}
        self._written = set()

    def of(self, value):
        """The gradient with respect to a value; None if nothing that counts depends on it."""
        return self._gradients.get(value)

    def add(self, value, gradient):
        """One consumer's gradient; those of several add up, the last consumer's first."""
        before = self._gradients.get(value)
        self._gradients[value] = (gradient if before is None
                                  else self.op("add", before, gradient, gradient=1.0))

    def write(self, parameter, name, *reads, **options):
        """Add an instruction that writes the gradient with respect to a parameter."""
        if parameter.owner in self._written:
            raise NotImplementedError(f"{parameter.name}: a parameter that two instructions read")
        self._written.add(parameter.owner)
        self.op(name, *reads, out=self._builder.gradient(parameter), **options)


def add_backward(builder, program):
    """Add the way back to a program that has the way forward.

    Parameters
    ----------
    builder : Builder
    program : Program
        Its `dz` and `dx` are set.
    """
    back = Backward(builder)
    program.dz = Value("dZ", "temporary", None, program.z.columns)
    back.add(program.z, program.dz)
    for each in reversed(program.forward):
        builder.where = each.where
        dZ = back.of(each.writes[0])
        if dZ is not None and any(value.needs_gradient for value in (*each.reads, *each.writes)):
            RULES[each.op](back, each, dZ)
    program.dx = back.of(program.x)


def for_parameters(program):
    """The way back, without what the gradient with respect to the input alone needs.

    Parameters
    ----------
    program : Program

    Returns
    -------
    list of Instruction
    """
    needed, kept = set(), []
    for each in reversed(program.backward):
        if needed.isdisjoint(each.writes):
            if each.op == "python_backward":  # its layer may have something of its own to do
                each = replace(each, writes=())
            elif not any(value.kind == "gradient" for value in each.writes):
                continue
        needed.update(each.reads)
        kept.append(each)
    return kept[::-1]


def _dense(back, each, dZ):
    X, W, b = each.reads
    back.write(W, "dense_backward_weights", X, dZ)
    back.write(b, "dense_backward_bias", dZ)
    if X.needs_gradient:
        back.add(X, back.op("dense_backward_input", dZ, W))


def _activation(back, each, dA):
    Z, = each.reads
    A, = each.writes
    saved = Z if ops.ACTIVATIONS[each.op].saved == "Z" else A
    if Z.needs_gradient:
        back.add(Z, back.op(f"{each.op}_backward", dA, saved, **each.attributes))


def _dropout(back, each, dY):
    X, = each.reads
    if X.needs_gradient:
        back.add(X, back.op("dropout_backward", dY, layer=each.layer, **each.attributes))


def _python(back, each, dZ):
    X, = each.reads
    dX = back.op("python_backward", dZ, layer=each.layer, sizes={"k": X.columns})
    back.add(X, dX)


RULES = {
    "dense": _dense, "dropout": _dropout, "python": _python,
    **dict.fromkeys(ops.ACTIVATIONS, _activation),
}
