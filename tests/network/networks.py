"""Networks that the tests of Sequential share."""

import fastbp as fb


def a_net(dtype="float32", seed=0):
    """One of each layer."""
    return fb.Sequential(
        [fb.Dense(4, 6), fb.GELU(), fb.Dropout(0.3), fb.Dense(6, 5, "glorot_normal"), fb.Tanh(),
         fb.Dense(5, 5, "he_normal"), fb.ELU(0.5), fb.LeakyReLU(0.1), fb.Dense(5, 5), fb.SiLU(),
         fb.ReLU(), fb.Dense(5, 3, "glorot_uniform"), fb.Sigmoid()],
        dtype=dtype, seed=seed,
    )


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


class Same(fb.Layer):
    """A layer of one's own: no compiled form."""

    def forward(self, X, training=True):
        return X


class Odd(fb.Layer):
    """One that passes its input on but for what it is told to return."""

    def __init__(self, of_forward=None, of_backward=None):
        super().__init__()
        self.of_forward, self.of_backward = of_forward, of_backward

    def forward(self, X, training=True):
        return self.of_forward(X) if self.of_forward else X.copy()

    def backward(self, dZ):
        return self.of_backward(dZ) if self.of_backward else dZ.copy()
