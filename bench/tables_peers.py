"""The contenders of tables.py: each is fitted as it is made, and predicts values or probabilities.

They choose by the validation rows alone: when to stop, and for `Tuned` the settings.  All other
settings are the libraries' defaults unless a comment says why not.
"""

import copy
import importlib
import inspect
import logging
import math
import warnings
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import pandas as pd
import tables_data
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer

ROUNDS, PATIENCE = 4000, 100  # of boosting
# LightGBM's default of 0.1 and XGBoost's of 0.3 are for their default of 100 rounds.
LEARNING_RATE = {"learning_rate": 0.05}
EPOCHS = 200  # at most, of scikit-learn's MLP


@dataclass
class Settings:
    """What is the same for all contenders."""

    threads: int
    quick: bool = False

    @property
    def rounds(self):
        return 30 if self.quick else ROUNDS


class OutOfTime(Exception):
    """The time for a search is over."""


class Peer:
    """Base class: the tables in the form that the method wants, and the clock around the fit.

    A subclass defines `make`, which imports the library and returns a model, and `fit`.

    Attributes
    ----------
    model : object
        All that is needed to predict.
    fit_seconds : float
    """

    name = module = pip = None

    def __init__(self, table, seed, settings):
        self.table, self.seed, self.settings = table, seed, settings
        self.train, self.validation, self.test = (
            (self.prepare(X), y) for X, y in zip(table.X, table.y, strict=True))
        self.model = self.make()
        start = perf_counter()
        self.fit()
        self.fit_seconds = perf_counter() - start

    def prepare(self, X):
        """The form of a table that the method takes."""
        return X

    def pick(self, module, name, *suffixes):
        """The class of this name and task."""
        suffix = (suffixes or ("Regressor", "Classifier"))[self.table.n_classes > 0]
        return getattr(importlib.import_module(module), name + suffix)

    def predict(self, X):
        """Values, or probabilities of shape (rows, classes)."""
        return self.model.predict_proba(X) if self.table.n_classes else self.model.predict(X)


class TabPack(Peer):
    """fastbp's ensemble, chosen while it trains."""

    name, module, pip = "fastbp TabPack", "fastbp", "fastbp[sklearn]"
    estimator, options = "TabPack", {}

    def make(self):
        kind = self.pick("fastbp.estimators", self.estimator)
        known = inspect.signature(kind).parameters
        threads = {"n_threads": self.settings.threads} if "n_threads" in known else {}
        return kind(random_state=self.seed, **threads, **self.options)

    def fit(self):
        X_val, y_val = self.validation
        self.model.fit(*self.train, X_val=X_val, y_val=y_val)


class TabPackOnce(TabPack):
    """As the other methods, which do not train on the validation rows."""

    name, options = "fastbp TabPack, refit=False", {"refit": False}


class TabM(TabPack):
    """fastbp's members that share weights."""

    name, estimator = "fastbp TabM", "TabM"


class Boosted(Peer):
    """Trees, added until the validation rows have not improved for a while.

    A subclass has ``space(trial)``, the settings that `Tuned` tries, and ``settled``, those of a
    model that is to have the best number of rounds.
    """

    def __init__(self, table, seed, settings, parameters=None, deadline=math.inf):
        self.parameters, self.deadline = parameters or {}, deadline
        super().__init__(table, seed, settings)

    @property
    def is_late(self):
        return perf_counter() > self.deadline


def refitted(peer):
    """Trees that are made again, as many as were best, from the training and validation rows."""

    class Refitted(peer):
        name = f"{peer.name}, refit"

        def fit(self):
            super().fit()
            X, y = zip(self.train, self.validation, strict=True)
            join = np.concatenate if isinstance(X[0], np.ndarray) else pd.concat
            self.model = self.make().set_params(**self.settled)
            self.model.fit(join(X), np.concatenate(y))

    return Refitted


class LightGBM(Boosted):
    name, module, pip = "LightGBM", "lightgbm", "lightgbm"

    @property
    def settled(self):
        return {"n_estimators": self.model.best_iteration_}

    def make(self):
        return self.pick("lightgbm", "LGBM")(
            n_estimators=self.settings.rounds, n_jobs=self.settings.threads,
            random_state=self.seed, verbosity=-1, **LEARNING_RATE | self.parameters)

    def fit(self):
        import lightgbm

        def watch(_):
            if self.is_late:
                raise OutOfTime

        self.model.fit(*self.train, eval_set=[self.validation],
                       callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False), watch])

    @staticmethod
    def space(trial):
        return {
            "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.3, log=True),
            "num_leaves": trial.suggest_int("num_leaves", 7, 255, log=True),
            "min_child_samples": trial.suggest_int("min_child_samples", 2, 100, log=True),
            "subsample": trial.suggest_float("subsample", 0.5, 1),
            "subsample_freq": 1,  # 0, the default, ignores `subsample`
            "colsample_bytree": trial.suggest_float("colsample_bytree", 0.4, 1),
            "reg_lambda": trial.suggest_float("reg_lambda", 1e-3, 10, log=True),
        }


class XGBoost(Boosted):
    name, module, pip = "XGBoost", "xgboost", "xgboost"

    @property
    def settled(self):
        return {"n_estimators": self.model.best_iteration + 1, "early_stopping_rounds": None}

    def make(self):
        return self.pick("xgboost", "XGB")(
            n_estimators=self.settings.rounds, early_stopping_rounds=PATIENCE,
            n_jobs=self.settings.threads, random_state=self.seed, enable_categorical=True,
            **LEARNING_RATE | self.parameters)

    def fit(self):
        import xgboost

        peer = self

        class Watch(xgboost.callback.TrainingCallback):
            def after_iteration(self, model, epoch, evals_log):
                if peer.is_late:
                    raise OutOfTime

        self.model.set_params(callbacks=[Watch()])
        self.model.fit(*self.train, eval_set=[self.validation], verbose=False)
        self.model.set_params(callbacks=None)  # they cannot be pickled

    @staticmethod
    def space(trial):
        return {
            "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.3, log=True),
            "max_depth": trial.suggest_int("max_depth", 3, 10),
            "min_child_weight": trial.suggest_float("min_child_weight", 0.1, 100, log=True),
            "subsample": trial.suggest_float("subsample", 0.5, 1),
            "colsample_bytree": trial.suggest_float("colsample_bytree", 0.4, 1),
            "reg_lambda": trial.suggest_float("reg_lambda", 0.1, 10, log=True),
            "gamma": trial.suggest_float("gamma", 1e-6, 1, log=True),
        }


class CatBoost(Boosted):
    """Its default learning rate depends on the rows and on the rounds that it may make."""

    name, module, pip = "CatBoost", "catboost", "catboost"

    @property
    def settled(self):
        return {"iterations": self.model.get_best_iteration() + 1, "early_stopping_rounds": None,
                "learning_rate": self.model.learning_rate_}

    def prepare(self, X):
        """Categories as text, a missing one as a category of its own."""
        return X if isinstance(X, np.ndarray) else X.assign(**{
            name: X[name].astype(object).fillna("missing") for name in tables_data.categorical(X)})

    def make(self):
        return self.pick("catboost", "CatBoost")(
            iterations=self.settings.rounds, early_stopping_rounds=PATIENCE,
            thread_count=self.settings.threads, random_seed=self.seed, verbose=False,
            allow_writing_files=False, cat_features=tables_data.categorical(self.table.X[0]),
            **self.parameters)

    def fit(self):
        watch = [] if self.deadline == math.inf else [self]
        self.model.fit(*self.train, eval_set=self.validation, callbacks=watch or None)
        if self.is_late:
            raise OutOfTime

    def after_iteration(self, info):
        """Called by CatBoost; whether to go on."""
        return not self.is_late

    @staticmethod
    def space(trial):
        return {
            "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.3, log=True),
            "depth": trial.suggest_int("depth", 3, 10),
            "l2_leaf_reg": trial.suggest_float("l2_leaf_reg", 1, 10, log=True),
            "bagging_temperature": trial.suggest_float("bagging_temperature", 0, 1),
            "random_strength": trial.suggest_float("random_strength", 0.1, 10, log=True),
        }


class HistGradientBoosting(Peer):
    """Its last rounds stay in the model, so that its patience is shorter than the others'."""

    name, module, pip = "HistGradientBoosting", "sklearn", "scikit-learn"

    def make(self):
        kind = HistGradientBoostingClassifier if self.table.n_classes else (
            HistGradientBoostingRegressor)
        return kind(max_iter=self.settings.rounds, early_stopping=True,
                    n_iter_no_change=PATIENCE // 2, random_state=self.seed, **LEARNING_RATE)

    def fit(self):
        X_val, y_val = self.validation
        self.model.fit(*self.train, X_val=X_val, y_val=y_val)


class ScikitLearnMLP(Peer):
    """Imputed, one-hot, quantiles of a normal distribution; the best of its epochs."""

    name, module, pip = "scikit-learn MLP", "sklearn", "scikit-learn"
    patience = 10

    def make(self):
        numbers = make_pipeline(
            SimpleImputer(strategy="median"),
            QuantileTransformer(n_quantiles=max(10, min(1000, len(self.train[1]) // 30)),
                                output_distribution="normal", subsample=None))
        texts = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        columns = numbers if isinstance(self.train[0], np.ndarray) else ColumnTransformer([
            ("numbers", numbers, make_column_selector(dtype_exclude="category")),
            ("texts", texts, make_column_selector(dtype_include="category"))])
        kind = MLPClassifier if self.table.n_classes else MLPRegressor
        return {"columns": columns, "center": 0.0, "scale": 1.0,
                "network": kind(hidden_layer_sizes=(256, 256), batch_size=256,
                                random_state=self.seed)}

    def fit(self):
        (X, y), (X_val, y_val) = self.train, self.validation
        columns, network = self.model["columns"], self.model["network"]
        X, classes = columns.fit_transform(X).astype("f4"), {}
        X_val = columns.transform(X_val).astype("f4")
        if self.table.n_classes:
            classes = {"classes": np.arange(self.table.n_classes)}
        else:
            self.model |= {"center": y.mean(), "scale": y.std()}
            y = (y - y.mean()) / y.std()
        network.set_params(batch_size=min(256, len(y)))
        best, since = math.inf, 0
        for _ in range(2 if self.settings.quick else EPOCHS):
            network.partial_fit(X, y, **classes)
            loss = self.table.loss(y_val, self.output(network, X_val))
            since += 1
            if loss < best:
                best, since, self.model["network"] = loss, 0, copy.deepcopy(network)
            elif since >= self.patience:
                break

    def output(self, network, X):
        if self.table.n_classes:
            return network.predict_proba(X)
        return network.predict(X) * self.model["scale"] + self.model["center"]

    def predict(self, X):
        return self.output(self.model["network"], self.model["columns"].transform(X).astype("f4"))


class Pytabkit(Peer):
    """Base class of networks in PyTorch, with the settings that their authors recommend."""

    module, pip = "pytabkit", "pytabkit"
    estimator = None

    def prepare(self, X):
        """Medians for missing numbers, which it does not take."""
        if isinstance(X, np.ndarray):
            return X
        return X.fillna(self.table.X[0].median(numeric_only=True))

    def make(self):
        import torch

        logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
        torch.set_num_threads(self.settings.threads)
        kind = self.pick("pytabkit", self.estimator, "_Regressor", "_Classifier")
        return kind(device="cpu", random_state=self.seed, n_threads=self.settings.threads,
                    n_epochs=2 if self.settings.quick else None)

    def fit(self):
        X_val, y_val = self.validation
        self.model.fit(*self.train, X_val=X_val, y_val=y_val,
                       cat_col_names=tables_data.categorical(self.train[0]))


class RealMLP(Pytabkit):
    name, estimator = "RealMLP", "RealMLP_TD"


class PytabkitTabM(Pytabkit):
    name, estimator = "TabM (pytabkit)", "TabM_D"


class Tuned:
    """A search over the settings of boosted trees, until so many seconds have passed.

    The first trial has the defaults.  The one that the end interrupts does not count.
    """

    module, pip = "optuna", "optuna"

    def __init__(self, peer, seconds):
        self.peer, self.seconds, self.name = peer, seconds, f"{peer.name}, tuned"

    def __call__(self, table, seed, settings):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        start = perf_counter()
        deadline, best, lowest = start + self.seconds, None, math.inf

        def objective(trial):
            nonlocal best, lowest
            parameters = self.peer.space(trial) if trial.number else {}
            try:
                peer = self.peer(table, seed, settings, parameters,
                                 deadline if trial.number else math.inf)
            except OutOfTime:
                raise optuna.TrialPruned from None
            loss = table.loss(table.y[1], peer.predict(peer.validation[0]))
            if loss < lowest:
                best, lowest = peer, loss
            return loss

        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study.optimize(objective, timeout=self.seconds)
        best.trials = len(study.trials)
        best.fit_seconds = perf_counter() - start
        return best


# By the names that `--methods` takes.
METHODS = {
    "tabpack": TabPack, "tabpack-once": TabPackOnce, "tabm": TabM, "lightgbm": LightGBM,
    "lightgbm-refit": refitted(LightGBM), "xgboost": XGBoost, "xgboost-refit": refitted(XGBoost),
    "catboost": CatBoost, "catboost-refit": refitted(CatBoost), "hist": HistGradientBoosting,
    "mlp": ScikitLearnMLP,
    "realmlp": RealMLP, "pytabkit-tabm": PytabkitTabM,
}
