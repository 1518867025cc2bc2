"""
Handwritten digits
==================

A network with one hidden layer learns to read digits of 8 × 8 pixels. Training stops when the loss
on rows that it does not learn from has not fallen for five epochs, and the best weights are kept.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

import fastbp as fb

X, y = load_digits(return_X_y=True)
X = X / 16
X_train, y_train, X_test, y_test = X[:1400], y[:1400], X[1400:], y[1400:]

net = fb.mlp([64, 128, 10], activation="relu", dropout=0.2, seed=0)
history = net.fit(X_train, y_train, loss=fb.SoftmaxCrossEntropy(), optimizer=fb.Adam(0.003),
                  epochs=40, validation_fraction=0.15, seed=0,
                  callbacks=[fb.EarlyStopping(patience=5)])
print(history.stopped)
print(net.evaluate(X_test, y_test, loss=fb.SoftmaxCrossEntropy()))

# %%
# The loss and the accuracy of each epoch. Dashed lines are for the rows that were learned, while
# dropout switched a fifth of the units off; solid lines are for those set aside.

figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
fb.plot.learning_curves(history, axes)
plt.show()

# %%
# What it gets wrong. Under each picture is what the network says, and how sure it is.

probabilities = net.predict(X_test, activation="softmax")
said = probabilities.argmax(axis=1)
wrong = (said != y_test).nonzero()[0][:10]
figure, panels = plt.subplots(2, 5, figsize=(8, 4), layout="constrained")
for axes in panels.flat:
    axes.axis("off")
for axes, i in zip(panels.flat, wrong, strict=False):
    axes.imshow(X_test[i].reshape(8, 8), cmap="gray_r")
    axes.set_title(f"{y_test[i]}, read as {said[i]}\n({probabilities[i, said[i]]:.0%})", fontsize=9)
plt.show()
