"""Estimators with scikit-learn's interface: for tables, and drop-in replacements for its MLPs.

`TabPackClassifier`, `TabPackRegressor`, `TabMClassifier` and `TabMRegressor` take tables with text,
dates and missing values, which `TableEncoder` turns into a network's input.  `MLPClassifier` and
`MLPRegressor` give the same models as scikit-learn's classes of these names, for the same
parameters and `random_state`.

================== ==================================================================
`tabpack`          TabPackClassifier, TabPackRegressor
`members`          their members: hyperparameters, networks, optimizers
`selection`        the choice of an ensemble while its members are trained
`scores`           what it is chosen by
`tabm`             TabMClassifier, TabMRegressor
`tables`           what these have in common, from the arguments of fit to encoded rows
`table_encoder`    TableEncoder
`column_encoders`  how each kind of column becomes columns of a network's input
`table_reading`    arrays, lists and data frames as columns
`table_columns`    a column: its kind, numbers, dates and categories
`targets`          classes as whole numbers, and standardized targets
`model_files`      `save_model` and `load_model`, for TabPack and TabM
`classifier`       MLPClassifier
`regressor`        MLPRegressor
`base`             what the two have in common: fitting, from top to bottom
`conversion`       models from and for scikit-learn's classes
`records`          the attributes that a fit sets and the lines that it prints
`weights`          weights as scikit-learn draws them, and the network they belong to
`parameters`       what the parameters may be
`arguments`        the arguments of fit, and their names in messages
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
    from .model_files import load_model, save_model
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
           "TabPackRegressor", "TableEncoder", "load_model", "save_model"]
