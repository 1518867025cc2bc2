"""
Backpropagation at work
=======================

Two spirals cannot be told apart by a straight line, nor by a few. The pictures show what a network
with two hidden layers of 32 units says about every point of the plane, from before its first
step to after its last.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastbp as fb

rng = np.random.default_rng(0)
turn = np.sqrt(rng.random(600)) * 3 * np.pi
y = np.arange(600) % 2
spiral = np.column_stack([np.cos(turn + np.pi * y), np.sin(turn + np.pi * y)]) * turn[:, None]
X = (spiral + rng.normal(0, 0.25, spiral.shape)) / 4

# %%
# :meth:`fastbp.Sequential.fit` continues where it ended: it is called several times here, to look
# in between. One optimizer goes along, with its state.

line = np.linspace(-2.7, 2.7, 220)
plane = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
net = fb.mlp([2, 32, 32, 2], activation="tanh", seed=0)
loss, optimizer = fb.SoftmaxCrossEntropy(), fb.Adam(0.01)

figure, panels = plt.subplots(2, 3, figsize=(9, 6.4), layout="constrained")
epochs = 0
for axes, more in zip(panels.flat, [0, 10, 20, 30, 60, 120], strict=True):
    if more:
        net.fit(X, y, loss=loss, optimizer=optimizer, epochs=more, seed=epochs)
        epochs += more
    surface = net.predict(plane, activation="softmax")[:, 1].reshape(len(line), -1)
    axes.imshow(surface, extent=[line[0], line[-1]] * 2, origin="lower", cmap="RdBu_r",
                vmin=0, vmax=1, alpha=0.75)
    axes.contour(line, line, surface, levels=[0.5], colors="black", linewidths=0.8)
    axes.scatter(*X.T, c=np.where(y, "#8f1d21", "#1d3f8f"), s=4)
    accuracy = net.evaluate(X, y, loss=loss)["accuracy"]
    axes.set_title(f"after {epochs} epochs: {accuracy:.0%} right", fontsize=10)
    axes.set(xticks=[], yticks=[])
plt.show()
