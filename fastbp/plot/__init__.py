"""Plots, with matplotlib, which is optional and imported only where it is used.

Figures are made without pyplot, so that they need no display and need not be closed::

    plot.learning_curves(history).savefig("curves.png")

To show one in a window, draw into your own axes: ``fig, ax = plt.subplots()``,
``plot.learning_curves(history, ax)``, ``plt.show()``.

==================  ==========================================================================
`histories`         what training records: `learning_curves`, `gradient_flow`,
                    `ensemble_selection`, `learning_rates`
`models`            what a model predicts, through scikit-learn's displays: `confusion`,
                    `calibration`, `partial_dependence`
`figures`           the axes that all draw into
==================  ==========================================================================
"""

from .histories import ensemble_selection, gradient_flow, learning_curves, learning_rates
from .models import calibration, confusion, partial_dependence

__all__ = ["calibration", "confusion", "ensemble_selection", "gradient_flow", "learning_curves",
           "learning_rates", "partial_dependence"]
