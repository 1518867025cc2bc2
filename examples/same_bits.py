"""
The same bits, and fewer of them
================================

Floating-point sums depend on their order, so that most libraries give other bits with other threads
or another batch size. fastbp's order is fixed. The precision, however, can be chosen, and it too
means the same everywhere.
"""

import hashlib

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import fastbp as fb
from fastbp.kernels import dispatch

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)


def train(precision="highest", **settings):
    net = fb.mlp([64, 64, 10], seed=0, precision=precision)
    net.fit(X, y, loss=fb.SoftmaxCrossEntropy(), optimizer=fb.Adam(0.003), epochs=5, seed=0,
            **settings)
    return net


def fingerprint(array):
    return hashlib.sha256(array.tobytes()).hexdigest()[:16]


# %%
# Trained with each instruction set of this processor, and with one thread and two: one fingerprint.

before = dispatch.isa()
for isa in dispatch.available():
    dispatch.use(isa)
    for n_threads in (1, 2):
        net = train(n_threads=n_threads)
        print(f"{isa:>8}, {n_threads} threads: {fingerprint(net.parameters)}")
dispatch.use(before)

# %%
# So does a row, in whatever batch it is predicted. NumPy's product depends on it:

net = train()
W, b = net.layers[0].W, net.layers[0].b
together, alone = X @ W + b, np.concatenate([row[None] @ W + b for row in X])
print("NumPy:  rows that differ:", (together != alone).any(axis=1).sum(), "of", len(X))
together, alone = net.predict(X), np.concatenate([net.predict(row[None]) for row in X])
print("fastbp: rows that differ:", (together != alone).any(axis=1).sum(), "of", len(X))

# %%
# In reduced precision the operands of products are rounded to bfloat16, or taken as the sum of two
# such numbers. How far a hidden layer's outputs are from those in float64:

exact = np.float64(X) @ np.float64(W) + np.float64(b)
figure, axes = plt.subplots(figsize=(7, 3.8), layout="constrained")
for precision, color in (("highest", "tab:blue"), ("high", "tab:green"), ("medium", "tab:red")):
    layer = fb.Sequential([fb.Dense(64, 64)], seed=0, precision=precision)
    layer.layers[0].W, layer.layers[0].b = W, b
    error = np.abs(layer.predict(X) - exact).ravel()
    axes.hist(np.log10(error[error > 0]), bins=np.linspace(-10, -1, 91), histtype="stepfilled",
              alpha=0.45, color=color, label=precision)
axes.set(xlabel="absolute error, power of ten", ylabel="outputs")
axes.legend(frameon=False, title="precision")
axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
# What that does to learning: the losses of five epochs.

for precision in ("highest", "high", "medium"):
    print(f"{precision:>8}:", " ".join(f"{loss:.4f}" for loss in train(precision).history["loss"]))
