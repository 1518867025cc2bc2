"""What a layer's `lower` may not say, and which gradients are refused."""

import numpy as np
import pytest

import fastbp as fb
from fastbp.kernels import optimizers


class Lowered(fb.Layer):
    """A layer of one instruction, or of what a function adds."""

    def __init__(self, add, **shapes):
        super().__init__(3, 3, **shapes)
        self.add = add

    def initialize(self, rng):
        for name in self.parameter_shapes:
            setattr(self, name, 1.0)

    def lower(self, builder, x):
        return self.add(self, builder, x)


@pytest.mark.parametrize(("add", "error", "message"), [
    (lambda layer, b, x: b.op("nonsense", x), ValueError, "an operation of ops.def, got"),
    (lambda layer, b, x: b.op("dropout", x, rate=0.5), ValueError, "pass layer=self"),
    (lambda layer, b, x: b.op("relu", x, alpha=1.0), ValueError, "attributes"),
    (lambda layer, b, x: b.op("leaky_relu", x), ValueError, "attributes alpha"),
    (lambda layer, b, x: b.op("relu", x, out=x), ValueError, "no `out`"),
    (lambda layer, b, x: b.op("add", x, gradient=0.0), ValueError, "expected 2 values, got 1"),
    (lambda layer, b, x: None, TypeError, "lower returned None; expected the value"),
    (lambda layer, b, x: b.parameter(fb.PReLU(3), "slope"), ValueError, "a layer of the network"),
])
def test_what_lower_may_not_say(add, error, message):
    net = fb.Sequential([Lowered(add)])
    with pytest.raises(error, match=message):
        net.predict(np.ones((2, 3)))


def twice(layer, builder, x):
    gamma = builder.parameter(layer, "gamma")
    return builder.op("scale", builder.op("scale", x, gamma, gradient=0.0), gamma, gradient=0.0)



def of_other_moments(layer, builder, x):
    mean, variance = builder.op("column_moments", builder.op("relu", x))
    rstd = builder.op("inverse_sqrt", variance, epsilon=1e-5)
    return builder.op("normalize_columns", x, mean, rstd)


@pytest.mark.parametrize(("add", "message"), [
    (twice, "a parameter that two instructions read"),
    (lambda layer, b, x: b.op("softmax", x), "softmax has no gradient; it is for prediction alone"),
    (of_other_moments, "normalize_columns has a gradient where the mean and the variance are"),
])
def test_gradients_that_no_rule_gives_are_refused(add, message):
    net = fb.Sequential([fb.Dense(3, 3), Lowered(add, gamma=(3,))])
    net.predict(np.ones((2, 3)))
    with pytest.raises(NotImplementedError, match=message):
        net.fit(np.ones((2, 3)), np.ones((2, 3)), loss=fb.MeanSquaredError(), epochs=1)


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({"name": "nonsense"}, ValueError, "name: expected one of sgd"),
    ({"state": []}, TypeError, "state: expected a dict, got a list"),
    ({"state": {"m": np.zeros(2)}}, ValueError, "state: expected nothing for sgd, got m"),
    ({"attributes": {}}, ValueError, "attributes: expected weight_decay for sgd, got nothing"),
])
def test_updates_that_do_not_fit(arguments, error, message):
    given = {"name": "sgd", "parameters": np.ones(2), "gradients": np.ones(2), "state": {},
             "learning_rate": 0.1, "step": 1, "attributes": {"weight_decay": 0.0}} | arguments
    with pytest.raises(error, match=message):
        optimizers.update_step(**given)
