"""
Going on after a crash
======================

With ``checkpoint=`` a training writes its state to a folder after each epoch, and ``resume=True``
continues from there: with the same bits as if nothing had happened.
"""

import tempfile

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

import fastbp as fb

X, y = load_digits(return_X_y=True)
X = X / 16
settings = {"loss": fb.SoftmaxCrossEntropy(), "epochs": 20, "seed": 0,
            "validation_data": (X[1400:], y[1400:])}


def network():
    return fb.mlp([64, 64, 10], dropout=0.3, seed=0)


def power_cut(training):
    """A callback, called after each epoch; the cut comes once."""
    if training.epoch == 8 and not cuts:
        cuts.append(training.epoch)
        raise RuntimeError("the lights went out")


cuts = []
settings["callbacks"] = [power_cut]


# %%
# A training that ends in its ninth epoch.

folder = tempfile.TemporaryDirectory()
try:
    network().fit(X[:1400], y[:1400], optimizer=fb.Adam(0.003), checkpoint=folder.name,
                  **settings)
except RuntimeError as error:
    print("Training failed:", error)

# %%
# The same call in a new process, with a new network and a new optimizer, goes on. What it needs is
# in the folder: weights, the optimizer's state, the generators of dropout and of the rows' order,
# and the history.

resumed = network()
history = resumed.fit(X[:1400], y[:1400], optimizer=fb.Adam(0.003), checkpoint=folder.name,
                      resume=True, **settings)
undisturbed = network()
undisturbed.fit(X[:1400], y[:1400], optimizer=fb.Adam(0.003), **settings)
print("the same bits:", (resumed.parameters == undisturbed.parameters).all())
folder.cleanup()

# %%

figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
epochs = range(1, 21)
axes.plot(epochs, undisturbed.history["val_loss"], color="0.75", linewidth=6,
          label="never interrupted")
axes.plot(epochs[:8], history["val_loss"][:8], color="tab:blue", label="before the crash")
axes.plot(epochs[7:], history["val_loss"][7:], color="tab:red", label="resumed")
axes.set(xlabel="epoch", ylabel="validation loss")
axes.legend(frameon=False)
axes.spines[["top", "right"]].set_visible(False)
plt.show()
