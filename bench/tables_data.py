"""The tables: where they come from, their split, and how predictions are scored.

Three are files of the folder that `--data` or FASTBP_DATA names, or of ../shared/data beside the
checkout; the others come with scikit-learn.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn import datasets
from sklearn.metrics import log_loss, roc_auc_score

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"


class NotHere(Exception):
    """A table that cannot be read, and why."""


@dataclass
class Table:
    """Training, validation and test rows.

    Attributes
    ----------
    name : str
    X : list of DataFrame or of ndarray
        The three parts.  Columns of text are categorical; a missing value, and one that no
        training row has, is NaN there.
    y : list of ndarray
        Classes as 0, 1, 2, …, or values.
    n_classes : int
        0 for regression.
    target : str
        What is predicted, in words.
    """

    name: str
    X: list
    y: list
    n_classes: int
    target: str

    @property
    def metrics(self):
        """The first is the one to choose by."""
        return ["accuracy", "log loss", "AUC"] if self.n_classes else ["RMSE"]

    def scores(self, y, predicted):
        """Of values, or of probabilities of shape (rows, classes)."""
        if not self.n_classes:
            return {"RMSE": float(np.sqrt(np.mean((np.ravel(predicted) - y) ** 2)))}
        predicted = np.asarray(predicted, float)
        # What was rounded to float32 does not add up to 1 as closely as is expected of float64.
        predicted = predicted / predicted.sum(axis=1, keepdims=True)
        auc = (roc_auc_score(y, predicted[:, 1]) if self.n_classes == 2 else
               roc_auc_score(y, predicted, multi_class="ovr", labels=range(self.n_classes)))
        return {"accuracy": float(np.mean(predicted.argmax(axis=1) == y)),
                "log loss": float(log_loss(y, predicted, labels=range(self.n_classes))),
                "AUC": float(auc)}

    def loss(self, y, predicted):
        """What a search over settings minimizes."""
        if not self.n_classes:
            return self.scores(y, predicted)["RMSE"]
        return float(np.mean(np.argmax(predicted, axis=1) != y))


def categorical(X):
    """Names of the categorical columns."""
    return [] if isinstance(X, np.ndarray) else list(X.select_dtypes("category"))


def california(frame):
    """The eight columns of scikit-learn's California housing, and values in 100,000."""
    households = frame["households"]
    X = frame[["median_income", "housing_median_age"]].assign(
        rooms=frame["total_rooms"] / households, bedrooms=frame["total_bedrooms"] / households,
        population=frame["population"], occupants=frame["population"] / households,
        latitude=frame["latitude"], longitude=frame["longitude"])
    return X, frame["median_house_value"].to_numpy() / 100_000, 0


def adult(frame):
    return (frame.drop(columns="income").replace("?", None),
            (frame["income"] == ">50K").to_numpy().astype(np.int64), 2)


def diamonds(frame):
    return frame.drop(columns="price"), np.log(frame["price"].to_numpy()), 0


FILES = {
    "california": ("california_housing.csv", california, "value in 100,000"),
    "adult": ("adult.csv", adult, "income"),
    "diamonds": ("diamonds.csv", diamonds, "log price"),
}
BUNDLED = {
    "digits": (datasets.load_digits, "digit"),
    "breast-cancer": (datasets.load_breast_cancer, "diagnosis"),
    "wine": (datasets.load_wine, "cultivar"),
    "diabetes": (datasets.load_diabetes, "progression"),
}
TABLES = (*FILES, *BUNDLED)


def load(name, folder=None, rows=None):
    """Read a table and split it.

    Parameters
    ----------
    name : str
        Of `TABLES`.
    folder : Path, optional
        Where the files are.
    rows : int, optional
        At most so many, of all three parts together.

    Raises
    ------
    NotHere
    """
    if name in BUNDLED:
        function, target = BUNDLED[name]
        X, y = function(return_X_y=True)
        n_classes = 0 if name == "diabetes" else len(np.unique(y))
    else:
        file, function, target = FILES[name]
        X, y, n_classes = function(read(file, folder))
    order = np.random.default_rng(0).permutation(len(y))[:rows]
    parts = np.split(order, [int(0.64 * len(order)), int(0.8 * len(order))])
    return Table(name, split(X, parts), [y[part] for part in parts], n_classes, target)


def read(file, folder):
    """A file as a data frame."""
    folders = [folder] if folder else [os.environ.get("FASTBP_DATA"), BESIDE]
    path = next((path for each in folders if each and (path := Path(each) / file).exists()), None)
    if path is None:
        raise NotHere(f"there is no {file} in {' or '.join(str(each) for each in folders if each)}"
                      "; --data or FASTBP_DATA can name another folder")
    try:
        import pandas as pd
    except ImportError:
        raise NotHere("its file is read with pandas: pip install pandas") from None
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def split(X, parts):
    """The parts' rows; categories are those of the first part."""
    if isinstance(X, np.ndarray):
        return [X[part] for part in parts]
    import pandas as pd

    train, *others = (X.iloc[part].reset_index(drop=True) for part in parts)
    kinds = {name: pd.CategoricalDtype(sorted(train[name].dropna().unique()))
             for name in train if not pd.api.types.is_numeric_dtype(train[name])}
    return [frame.assign(**{name: known(frame[name], kind) for name, kind in kinds.items()})
            for frame in (train, *others)]


def known(column, kind):
    """As a categorical column, without what is not among the categories."""
    return column.where(column.isin(kind.categories)).astype(kind)
