"""Estimators as C code: with their preprocessing, and what becomes of the outputs."""

import ctypes

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtri

import fastbp as fb
from fastbp.export.c_export import write_c
from fastbp.export.c_sources import declarations

from .c_programs import call, compiled, compiler, same_bits

pytestmark = pytest.mark.once

COLORS = ["red", 'gre"en*/', "bl?ue", "ünï"]


def a_table(rng, n, unknown=False):
    """Numbers, booleans, two kinds of categories, missing values, and a constant."""
    colors = rng.choice([*COLORS, *(["never seen"] if unknown else [])], n).astype(object)
    colors[rng.random(n) < 0.1] = None
    x = rng.normal(size=n)
    x[:3] = [np.nan, 1e9, -1e9] if unknown else x[:3]
    return pd.DataFrame({
        "x": x, "yes": rng.random(n) < 0.5, "color": colors,
        "t": np.where(rng.random(n) < 0.2, np.nan, rng.exponential(size=n)),
        "city": rng.choice([f"city {i}" for i in range(44 if unknown else 40)], n), "k": 1})


def as_numbers(frame, category):
    """A table as the C functions take it."""
    numbers = np.empty(frame.shape)
    for i, name in enumerate(frame.columns):
        if name in ("color", "city"):
            numbers[:, i] = [np.nan if pd.isna(each) else category(i, each.encode())
                             for each in frame[name]]
        else:
            numbers[:, i] = frame[name].astype(float)
    return numbers


def predicted(model, X):
    P = model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)
    return P.reshape(len(P), -1)


def test_tables(tmp_path):
    rng = np.random.default_rng(0)
    X, X_new = a_table(rng, 300), a_table(rng, 2000, unknown=True)
    two = np.where(X.x + X.t.fillna(0) > 0.7, "yes", "no")
    three, amount = rng.integers(0, 3, 300), 100 + 30 * X.x.to_numpy()
    few = {"n_members": 3, "max_epochs": 2, "random_state": 0}
    models = {
        "pack_two": fb.TabPackClassifier(**few).fit(X, two),
        "pack_three": fb.TabPackClassifier(**few).fit(X, three),
        "pack_amount": fb.TabPackRegressor(**few).fit(X, amount),
        "pack_several": fb.TabPackRegressor(**few).fit(X, np.column_stack([amount, three])),
        "pack_quantiles": fb.TabPackRegressor(quantiles=(0.1, 0.5, 0.9), **few).fit(X, amount),
        "tabm_two": fb.TabMClassifier(**few).fit(X, two),
        "tabm_three": fb.TabMClassifier(variant="tabm", embedding="periodic", **few).fit(X, three),
        "tabm_amount": fb.TabMRegressor(embedding=None, **few).fit(X, amount),
    }
    write_c(tmp_path / "tables.c", models, weights="bits")
    library = compiled(tmp_path / "tables.c", compiler("gcc"), "-O1")
    for name, model in models.items():
        category = library[f"{name}_category"]
        category.restype = ctypes.c_double
        P = predicted(model, X_new)
        Y = call(library[f"{name}_predict_rows"], as_numbers(X_new, category), P.shape, P.dtype)
        assert same_bits(P, Y), name
    header = (tmp_path / "tables.h").read_text()
    assert "5: 'k', not used" in header and "classes 'no', 'yes'" in header
    assert header.count("*/") == header.count("/*")


def test_dates(tmp_path):
    dates = pd.DataFrame({"x": np.arange(30.0), "sold": pd.date_range("2024-01-01", periods=30)})
    model = fb.TabMRegressor(2, max_epochs=1, random_state=0).fit(dates, np.arange(30.0))
    with pytest.raises(ValueError, match=r"column 'sold': expected numbers or categories.*dates"):
        model.to_c(tmp_path / "net.h")
    assert list(tmp_path.iterdir()) == []


def test_multilayer_perceptrons(tmp_path, rng):
    X = rng.normal(size=(60, 4))
    two, three = (X[:, 0] > 0).astype(int), rng.integers(0, 3, 60)
    few = {"hidden_layer_sizes": (6,), "solver": "lbfgs", "max_iter": 5, "random_state": 0}
    models = {
        "two": fb.MLPClassifier(**few), "three": fb.MLPClassifier(dtype="float32", **few),
        "labels": fb.MLPClassifier(activation="tanh", **few), "amount": fb.MLPRegressor(**few),
        "counts": fb.MLPRegressor("poisson", **few),
    }
    targets = {"two": two, "three": three, "labels": np.column_stack([two, three == 1]),
               "amount": X[:, :2], "counts": three}
    with pytest.warns(match="lbfgs failed to converge"):
        for name, model in models.items():
            model.fit(X, targets[name])
    write_c(tmp_path / "models.c", models)
    library = compiled(tmp_path / "models.c", compiler("gcc"), "-O2")
    for name, model in models.items():
        P = predicted(model, X)
        Y = call(library[f"{name}_predict_rows"], X.astype(P.dtype), P.shape, P.dtype)
        assert same_bits(P, Y), name


def test_what_is_not_fitted(tmp_path):
    with pytest.raises(ValueError, match="not fitted"):
        fb.MLPClassifier().to_c(tmp_path / "net.h")


def test_quantiles_of_the_normal_distribution(tmp_path, rng):
    """SciPy's function, to a few units in the last place: rounded to float32 they are the same."""
    text, _ = declarations(["normal_quantile"], 64, "f_")
    (tmp_path / "f.c").write_text(f'''
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
{text}
void f(size_t n, const double *p, double *z)
{{
    for (size_t i = 0; i < n; i++) z[i] = f_normal_quantile(p[i], -9, 9);
}}
''')
    library = compiled(tmp_path / "f.c", compiler("gcc"), "-O2", "-mfma")
    p = np.concatenate([rng.random(200_000), 10.0 ** -rng.uniform(0, 12, 50_000), [0, 1, 0.5]])
    z, expected = call(library.f, p, p.shape, p.dtype), np.clip(ndtri(p), -9, 9)
    assert abs(z - expected).max() < 1e-14
    assert (z.astype("f4") != expected.astype("f4")).mean() < 1e-5  # a rounding may fall otherwise
