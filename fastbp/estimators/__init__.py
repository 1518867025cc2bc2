"""MLPClassifier and MLPRegressor: drop-in replacements for scikit-learn's, trained by fastbp.

The same parameters and `random_state` give the same model as scikit-learn's classes of these
names.  `TableEncoder` makes a network's input of tables with text, dates and missing values.

================== ==================================================================
`classifier`       MLPClassifier
`regressor`        MLPRegressor
`tabm`             TabMClassifier, TabMRegressor
`tables`           what estimators for tables have in common
`base`             what the two have in common: fitting, from top to bottom
`records`          the attributes that a fit sets and the lines that it prints
`weights`          weights as scikit-learn draws them, and the network they belong to
`parameters`       what the parameters may be
`arguments`        the arguments of fit, and their names in messages
`table_encoder`    TableEncoder
`column_encoders`  how each kind of column becomes columns of a network's input
`table_reading`    arrays, lists and data frames as columns
`table_columns`    a column: its kind, numbers, dates and categories
`tables`           what the estimators for tables have in common
`tabpack`          TabPackClassifier and TabPackRegressor
`selection`        the choice of an ensemble while its members are trained
`scores`           what it is chosen by
`targets`          classes as whole numbers, and standardized targets
`sklearn_private`  the parts of scikit-learn that are used although they are private there
================== ==================================================================

Examples
--------
>>> from sklearn.datasets import load_iris
>>> from sklearn.pipeline import make_pipeline
>>> from sklearn.preprocessing import StandardScaler
>>> model = make_pipeline(StandardScaler(), MLPClassifier((16,), solver="lbfgs", random_state=0))
>>> X, y = load_iris(return_X_y=True)
>>> model.fit(X, y).score(X, y) > 0.97
True
"""

try:
    from .classifier import MLPClassifier
    from .regressor import MLPRegressor
    from .table_encoder import TableEncoder
    from .tabm import TabMClassifier, TabMRegressor
    from .tabpack import TabPackClassifier, TabPackRegressor
except ImportError as error:
    if (error.name or "").partition(".")[0] != "sklearn":
        raise
    raise ImportError(
        "the estimators need scikit-learn 1.7 or newer: "
        'pip install "fastbp[sklearn]"'
    ) from error

__all__ = ["MLPClassifier", "MLPRegressor", "TabMClassifier", "TabMRegressor", "TabPackClassifier",
           "TabPackRegressor", "TableEncoder"]
