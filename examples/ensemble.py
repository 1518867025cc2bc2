"""
What an ensemble does not know
==============================

Networks that start from other weights agree where there are data, and differ where there are none.
Their spread says how far a prediction can be trusted.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastbp as fb

rng = np.random.default_rng(1)
x = np.concatenate([rng.uniform(-3, -0.8, 60), rng.uniform(0.6, 2.2, 60)])[:, None]
y = np.sin(2 * x) + 0.3 * x + rng.normal(0, 0.12, x.shape)

networks = [fb.mlp([1, 64, 64, 1], activation="tanh", seed=seed) for seed in range(24)]
fb.fit_many(networks, x, y, loss=fb.MeanSquaredError(), epochs=300, seeds=list(range(24)),
            optimizers=[fb.Adam(0.005) for _ in networks])

# %%
# :class:`fastbp.Ensemble` predicts the mean of its networks.

line = np.linspace(-4, 3.6, 400)[:, None]
ensemble = fb.Ensemble(networks)
each = np.stack([net.predict(line)[:, 0] for net in networks])
mean, spread = ensemble.predict(line)[:, 0], each.std(axis=0)

figure, axes = plt.subplots(figsize=(8, 4.4), layout="constrained")
axes.plot(line, each.T, color="tab:blue", linewidth=0.5, alpha=0.35)
axes.fill_between(line[:, 0], mean - 2 * spread, mean + 2 * spread, color="tab:blue", alpha=0.15,
                  label="mean ± 2 standard deviations")
axes.plot(line, mean, color="tab:blue", linewidth=2, label="the ensemble's mean")
axes.plot(line, np.sin(2 * line) + 0.3 * line, ":", color="black", label="without noise")
axes.scatter(x, y, s=12, color="tab:red", zorder=3, label="data")
axes.set(xlabel="x", ylim=(-3.6, 3.6))
axes.legend(frameon=False, loc="upper left", fontsize=8)
axes.spines[["top", "right"]].set_visible(False)
plt.show()
