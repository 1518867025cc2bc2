"""Paths by going through all of them, with NumPy alone."""

import numpy as np

import fastbp as fb

# f and f′ of what each activation reads.
FORMULAS = {
    "Tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "ReLU": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float)),
    "Sigmoid": (lambda z: 1 / (1 + np.exp(-z)),
                lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2),
    "LeakyReLU": (lambda z: np.where(z > 0, z, 0.01 * z), lambda z: np.where(z > 0, 1, 0.01)),
}


def random_layers(draw, width, depth=1):
    """Dense, element-wise and residual layers, and how many columns the last returns."""
    layers = []
    for _ in range(draw.randint(1, 3)):
        kind = draw.choice(["dense", "dense", "activation", "activation", "residual"])
        if kind == "dense":
            n = draw.randint(1, 4)
            layers.append(fb.Dense(width, n))
            width = n
        elif kind == "activation":
            layers.append(getattr(fb, draw.choice(sorted(FORMULAS)))())
        elif depth:
            body, n = random_layers(draw, width, depth - 1)
            layers.append(fb.Residual(body if n == width else [*body, fb.Dense(n, width)]))
    if not layers:
        layers = [fb.Dense(width, 2)]
        width = 2
    return layers, width


def forward(layers, x):
    """What the layers return for one row, and a tree of what is needed to go back."""
    trace = []
    for layer in layers:
        if isinstance(layer, fb.Dense):
            trace.append((layer, x))
            x = x @ layer.W + layer.b
        elif isinstance(layer, fb.Residual):
            y, inner = forward(layer.layers, x)
            trace.append((layer, inner))
            x = x + y
        else:
            trace.append((layer, x))
            x = FORMULAS[type(layer).__name__][0](x)
    return x, trace


def walk(trace, unit, product, found):
    """Go from one unit that the layers return to all weights, by all paths.

    `found` gets the products for each element of each W, by the layer and the element.  Returns
    the units of the input that paths arrive at, with their products so far.
    """
    arriving = [(unit, product)]
    for layer, saved in reversed(trace):
        after = []
        for j, so_far in arriving:
            if isinstance(layer, fb.Dense):
                for i in range(len(saved)):
                    found.setdefault((id(layer), i, j), []).append(so_far * saved[i])
                    after.append((i, so_far * layer.W[i, j]))
            elif isinstance(layer, fb.Residual):
                after.append((j, so_far))
                after += walk(saved, j, so_far, found)
            else:
                after.append((j, so_far * FORMULAS[type(layer).__name__][1](saved)[j]))
        arriving = after
    return arriving


def all_products(net, X, dZ):
    """For each weight, by the layer's id and its index: the products of all paths."""
    found = {}
    for x, dz in zip(np.asarray(X, float), dZ, strict=True):
        _, trace = forward(net.layers, x)
        for j, d in enumerate(dz):
            walk(trace, j, d, found)
    return found
