"""The operations of a prediction on PyTorch's tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from ..program import Instruction

__all__ = ["operation"]


def operation(torch: Any, each: Instruction) -> Callable[..., Any]:
    """A function of tensors that computes what an instruction does.

    Parameters
    ----------
    torch : module
    each : Instruction
        Of a prediction.

    Returns
    -------
    callable
        Of the tensors that it reads.

    Raises
    ------
    ValueError
        If there is no such function.
    """
    F, get = torch.nn.functional, each.attributes.get
    n_out = each.writes[0].columns

    def members(x: Any, W: Any, b: Any = 0) -> Any:
        n_in = W.shape[-2]
        parts = x.reshape(len(x), -1, n_in)
        if W.ndim == 2:
            return (parts @ W + b).reshape(len(x), n_out)
        return torch.einsum("rki,kio->rko", parts, W).reshape(len(x), n_out) + b

    def periodic(x: Any, frequencies: Any, phases: Any, gamma: Any, beta: Any) -> Any:
        t = x[:, :, None] * frequencies + phases.reshape(frequencies.shape)
        waves = torch.cos(2 * math.pi * (t - torch.round(t)))
        z = gamma * torch.cat([x[:, :, None], waves], 2) + beta.reshape(gamma.shape)
        return z.reshape(len(x), n_out)

    def piecewise(x: Any, edges: Any, W: Any, b: Any, nodes: Any) -> Any:
        parts = []
        for f, (start, stop) in enumerate(pairwise(get("columns", ()))):
            own = edges[start + f : stop + f + 1]
            e = (x[:, f : f + 1] - own[:-1]) / (own[1:] - own[:-1])
            low, high = torch.zeros_like(own[1:]), torch.ones_like(own[1:])
            low[0], high[-1] = -math.inf, math.inf
            parts.append(torch.maximum(torch.minimum(e, high), low) @ W[start:stop])
        return torch.cat(parts, 1) + b

    def normalize_rows(x: Any) -> Any:
        centered = x - x.mean(1, keepdim=True) if get("center") else x
        return centered / torch.sqrt((centered * centered).mean(1, keepdim=True) + get("epsilon"))

    alpha = get("alpha", 1.0)
    functions: dict[str, Callable[..., Any]] = {
        "dense": lambda x, W, b: x @ W + b,
        "shared_dense": members, "shared_product": members, "separate_dense": members,
        "softmax": lambda z: F.softmax(z, 1),
        "add": lambda x, y: x + y,
        "scale": lambda x, gamma: x * gamma.reshape(-1),
        "scale_shift": lambda x, gamma, beta: x * gamma.reshape(-1) + beta,
        "normalize_rows": normalize_rows,
        "inverse_sqrt": lambda x: 1 / torch.sqrt(x + get("epsilon")),
        "normalize_columns": lambda x, mean, rstd: (x - mean) * rstd,
        "prelu": lambda x, slope: torch.where(x > 0, x, slope * x),
        "embedding": lambda codes, table: table[codes[:, 0].long()],
        "periodic": periodic,
        "piecewise_nodes": lambda W, b: W,  # which `piecewise` has no need of
        "piecewise": piecewise,
        "repeat": lambda x: x.repeat(1, n_out // x.shape[1]) * get("factor"),
        "sum_members": lambda x: x.reshape(len(x), -1, n_out).sum(1) * get("factor"),
        "take_columns": lambda x: x[:, list(get("columns", ()))],
        "join": lambda *parts: torch.cat(parts, 1),
        "relu": F.relu, "leaky_relu": lambda x: F.leaky_relu(x, alpha), "sigmoid": F.sigmoid,
        "tanh": torch.tanh, "elu": lambda x: F.elu(x, alpha), "gelu": F.gelu, "silu": F.silu,
        "mish": F.mish, "selu": F.selu, "exp": torch.exp, "expm1": torch.expm1, "log": torch.log,
        "log1p": torch.log1p, "erf": torch.erf,
    }
    if each.op not in functions:
        raise ValueError(f"layer {each.where}: expected operations that are known for PyTorch, got "
                         f"{each.op}; leave the layer out")
    return functions[each.op]
