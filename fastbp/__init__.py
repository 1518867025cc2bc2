"""fastbp: multilayer perceptrons on a CPU, fast, and with the same bits on every machine.

Examples
--------
>>> import numpy as np, fastbp as fb
>>> net = fb.mlp([2, 16, 2], seed=0)
>>> X = np.random.default_rng(0).normal(size=(200, 2))
>>> y = (X[:, 0] * X[:, 1] > 0).astype(int)
>>> history = net.fit(X, y, loss=fb.SoftmaxCrossEntropy(), optimizer=fb.Adam(0.01),
...                   epochs=30, seed=0)
>>> history["accuracy"][-1] > 0.9
True
"""

import typing as _typing

try:
    from . import kernels
except ImportError as error:
    from importlib.machinery import EXTENSION_SUFFIXES as _SUFFIXES
    from pathlib import Path as _Path

    _kernels = _Path(__file__).parent / "kernels"
    if any((_kernels / f"dispatch{suffix}").exists() for suffix in _SUFFIXES):
        raise
    raise ImportError(
        f"fastbp: {_kernels.parent} holds the sources, which are not built.  To build them there: "
        f"pip install --editable .  To use a fastbp that is installed: the command fastbp, or "
        f"Python started in another folder."
    ) from error

from . import (
    callbacks,
    datasets,
    initializers,
    layers,
    losses,
    metrics,
    optimizers,
    plot,
    schedules,
)
from .builders import load, mlp
from .callbacks import Callback, EarlyStopping
from .config import show_config
from .ensemble import Ensemble, greedy_ensemble
from .explain import Explanation, explain
from .export.onnx_reading import from_onnx
from .export.sklearn_models import from_sklearn
from .export.torch_reading import from_torch
from .gradcheck import gradcheck
from .kernels.threads import get_num_threads, set_num_threads
from .layers import *
from .losses import *
from .lr_finder import LearningRateTest, lr_finder
from .network import Sequential
from .optimizers import *
from .training import History, fit_many
from .version import __version__

if _typing.TYPE_CHECKING:
    from .estimators import MLPClassifier as MLPClassifier
    from .estimators import MLPRegressor as MLPRegressor
    from .estimators import TableEncoder as TableEncoder
    from .estimators import TabMClassifier as TabMClassifier
    from .estimators import TabMRegressor as TabMRegressor
    from .estimators import TabPackClassifier as TabPackClassifier
    from .estimators import TabPackRegressor as TabPackRegressor

# Which need scikit-learn.
_ESTIMATORS = ("MLPClassifier", "MLPRegressor", "TabMClassifier", "TabMRegressor",
               "TabPackClassifier", "TabPackRegressor", "TableEncoder")

__all__ = [
    "Callback",
    "EarlyStopping",
    "Ensemble",
    "Explanation",
    "History",
    "LearningRateTest",
    "Sequential",
    "__version__",
    "callbacks",
    "datasets",
    "explain",
    "fit_many",
    "from_onnx",
    "from_sklearn",
    "from_torch",
    "get_num_threads",
    "gradcheck",
    "greedy_ensemble",
    "initializers",
    "kernels",
    "layers",
    "load",
    "losses",
    "lr_finder",
    "metrics",
    "mlp",
    "optimizers",
    "plot",
    "schedules",
    "set_num_threads",
    "show_config",
]

if not _typing.TYPE_CHECKING:  # type checkers take what is imported with a star as exported
    __all__ += layers.__all__ + losses.__all__ + optimizers.__all__


def __getattr__(name: str) -> object:
    """Import the estimators when they are first used, since they need scikit-learn."""
    if name in _ESTIMATORS:
        from . import estimators

        return getattr(estimators, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_ESTIMATORS])
