"""
A layer and a loss of your own
==============================

A layer is a class with ``forward`` and ``backward``, a loss one that returns its value and dZ. A
network with both is trained like any other, and :func:`fastbp.gradcheck` compares their formulas
with difference quotients.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastbp as fb


class Waves(fb.Layer):
    """A = sin(s ⊙ Z), with a learned frequency s for each column."""

    def __init__(self, n):
        super().__init__(n_in=n, n_out=n, s=(n,))     # makes self.s and its gradient self.ds
        self.n = n

    def initialize(self, rng):
        self.s[:] = rng.uniform(1, 6, self.n)

    def forward(self, X, training=True):
        self.cache = X
        return np.sin(X * self.s)

    def backward(self, dA):
        slope = dA * np.cos(self.cache * self.s)      # ∂L/∂(s ⊙ Z)
        self.ds[:] = (slope * self.cache).sum(axis=0)
        return slope * self.s                         # dZ, for the layer before


class LogCosh(fb.Loss):
    """L = mean of log cosh(Z − Y): squared near zero, absolute far from it."""

    def __call__(self, Z, y, sample_weight=None):
        if sample_weight is not None:
            raise NotImplementedError("LogCosh takes no sample weights")
        difference = np.float64(Z) - y
        value = np.logaddexp(difference, -difference) - np.log(2)
        return value.mean(), (np.tanh(difference) / difference.size).astype(Z.dtype)


# %%
# Waves with outliers, which a loss that squares would chase.

rng = np.random.default_rng(0)
x = np.sort(rng.uniform(-2, 2, (300, 1)), axis=0)
clean = np.sin(5 * x) + 0.4 * np.sin(13 * x)
y = clean + rng.normal(0, 0.1, x.shape) + 4 * (rng.random(x.shape) < 0.06)

net = fb.Sequential([fb.Dense(1, 32), Waves(32), fb.Dense(32, 32), fb.Tanh(), fb.Dense(32, 1)],
                    seed=0)
print(fb.gradcheck(net, x[:20], y[:20], loss=LogCosh()))

# %%
# Both are Python, and only they: ``print(net.program(loss=LogCosh()))`` marks the instructions that
# leave the compiled code.

fits = {}
for loss in (LogCosh(), fb.MeanSquaredError()):
    net = fb.Sequential([fb.Dense(1, 32), Waves(32), fb.Dense(32, 32), fb.Tanh(), fb.Dense(32, 1)],
                        seed=0)
    net.fit(x, y, loss=loss, optimizer=fb.Adam(0.01), epochs=150, seed=0)
    fits[type(loss).__name__] = net.predict(x)

figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
axes.scatter(x, y, s=8, color="0.6", label="data")
axes.plot(x, clean, color="black", linewidth=1, linestyle=":", label="without noise")
for (name, predicted), color in zip(fits.items(), ("tab:blue", "tab:orange"), strict=True):
    error = np.sqrt(np.mean((predicted - clean) ** 2))
    axes.plot(x, predicted, color=color, label=f"{name}: {error:.2f} from it")
axes.legend(frameon=False, loc="upper left", ncols=2)
axes.set(xlabel="x", ylim=(-2, 7))
axes.spines[["top", "right"]].set_visible(False)
plt.show()
