"""
Why gradients vanish
====================

Backpropagation multiplies: the gradient of an early layer is a product of one factor for each layer
after it. Where the factors are below one it shrinks exponentially with depth, and the early layers
hardly learn. Four networks of twelve layers show it, and what helps.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import fastbp as fb

X, y = load_digits(return_X_y=True)
X = X / 16
DEPTH, WIDTH = 12, 32


def chain(activation):
    """A plain multilayer perceptron."""
    return fb.mlp([64] + [WIDTH] * DEPTH + [10], activation=activation, seed=0)


def residual():
    """Each block adds to its input, so that the gradient has a way around it."""
    blocks = [fb.Residual([fb.LayerNorm(WIDTH), fb.Dense(WIDTH, WIDTH), fb.Sigmoid()])
              for _ in range(DEPTH)]
    return fb.Sequential([fb.Dense(64, WIDTH), *blocks, fb.Dense(WIDTH, 10)], seed=0)


networks = {"sigmoid": chain("sigmoid"), "tanh": chain("tanh"), "ReLU": chain("relu"),
            "sigmoid, residual blocks": residual()}

# %%
# The size of dW, layer by layer, before any training. The scale is logarithmic: the sigmoid's
# derivative is at most 1/4, and a straight line downwards to the left is an exponential decay.

loss = fb.SoftmaxCrossEntropy()
figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
for name, net in networks.items():
    value, dZ = loss(net.forward(X[:256]), y[:256])
    net.backward(dZ)
    norms = [np.linalg.norm(layer.dW) for _, layer in net.leaves if isinstance(layer, fb.Dense)]
    axes.semilogy(range(1, len(norms) + 1), norms, "o-", label=name)
axes.set(xlabel="dense layer, from the input to the output", ylabel="norm of dW")
axes.legend(frameon=False)
axes.grid(alpha=0.3)
axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
# What that means for learning: the network of sigmoids does not move from chance, while the same
# sigmoids in residual blocks learn.

figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
for name, net in networks.items():
    history = net.fit(X[:1400], y[:1400], loss=loss, optimizer=fb.SGD(0.01, momentum=0.9),
                      epochs=25, seed=0, gradient_norms=True)
    axes.plot(range(1, 26), history["accuracy"], label=name)
    print(f"{name}: {net.evaluate(X[1400:], y[1400:], loss=loss)['accuracy']:.1%} on other rows")
axes.set(xlabel="epoch", ylabel="accuracy while training", ylim=(0, 1.02))
axes.legend(frameon=False)
axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
# :func:`fastbp.plot.gradient_flow` shows how the gradients of each layer change during training,
# here those of the chain of tanh: ``fit`` recorded them, since ``gradient_norms=True``.

figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
fb.plot.gradient_flow(networks["tanh"].history, axes)
plt.show()
