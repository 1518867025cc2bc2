"""Backpropagation shown on a network's own numbers: `fastbp.explain`.

=============== =================================================================================
`explanation`   `explain`, and what it returns
`graph`         the derivatives between units
`paths`         the largest paths from the loss to each unit
`flow`          how the gradient shrinks or grows
`text`          as text
`page`          as an HTML page, of page.html, page.css and page.js
`example`       the network that ``fastbp explain`` explains without a model
=============== =================================================================================
"""

from .example import example
from .explanation import MOST_ROWS, Explanation, Parameter, Path, WeightGradient, explain

__all__ = ["MOST_ROWS", "Explanation", "Parameter", "Path", "WeightGradient", "example", "explain"]
