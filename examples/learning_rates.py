"""
Many networks at once
=====================

:func:`fastbp.fit_many` trains any number of networks on the same data at the same time, each with
the bits that it has when trained alone. Here it tries eleven learning rates, each from four seeds.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import fastbp as fb

X, y = load_digits(return_X_y=True)
X = X / 16
rates = 10.0 ** np.linspace(-4, 0, 11)
settings = [(rate, seed) for rate in rates for seed in range(4)]
networks = [fb.mlp([64, 32, 10], seed=seed) for _, seed in settings]

histories = fb.fit_many(
    networks, X[:1400], y[:1400], loss=fb.SoftmaxCrossEntropy(),
    optimizers=[fb.Adam(rate) for rate, _ in settings], epochs=10, seeds=0)

# %%
# What each network reached, and the mean of each learning rate.

loss = fb.SoftmaxCrossEntropy()
reached = np.array([net.evaluate(X[1400:], y[1400:], loss=loss)["accuracy"] for net in networks])
by_rate = reached.reshape(len(rates), 4)
best = rates[by_rate.mean(axis=1).argmax()]

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
left.semilogx(np.repeat(rates, 4), reached, "o", color="0.6", markersize=4)
left.semilogx(rates, by_rate.mean(axis=1), color="tab:red")
left.axvline(best, color="tab:red", linewidth=0.8, linestyle=":")
left.set(xlabel="learning rate of Adam", ylabel="accuracy on other rows")
colors = plt.colormaps["viridis"](np.linspace(0, 0.95, len(rates)))
for (rate, seed), history in zip(settings, histories, strict=True):
    if seed == 0:
        right.semilogy(range(1, 11), history["loss"], label=f"{rate:.2g}",
                       color=colors[np.flatnonzero(rates == rate)[0]])
right.set(xlabel="epoch", ylabel="training loss")
right.legend(title="learning rate", frameon=False, fontsize=7, ncols=2)
for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
# One of them alone has the same bits.

alone = fb.mlp([64, 32, 10], seed=3)
alone.fit(X[:1400], y[:1400], loss=loss, optimizer=fb.Adam(rates[0]), epochs=10, seed=3)
print((alone.parameters == networks[3].parameters).all())
