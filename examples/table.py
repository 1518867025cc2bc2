"""
A table with text, dates and missing values
===========================================

:class:`fastbp.TabPackRegressor` takes a table as it is: it trains many small networks with random
hyperparameters at the same time, and chooses an ensemble of them on rows that it sets aside.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import fastbp as fb

rng = np.random.default_rng(0)
n = 1000
size = rng.uniform(30, 200, n)
district = rng.choice(["harbour", "old town", "hills", "station"], n)
built = rng.integers(1900, 2021, n).astype(float)
sold = pd.Timestamp("2015-01-01") + pd.to_timedelta(rng.integers(0, 3650, n), unit="D")
per_square_metre = pd.Series(district).map(
    {"harbour": 5.0, "old town": 4.0, "hills": 6.5, "station": 3.0}).to_numpy()
price = (size * per_square_metre * (1 + 0.03 * (sold.year - 2015)) + 0.6 * np.abs(built - 1960)
         + rng.normal(0, 15, n))
houses = pd.DataFrame({"size": size.round(), "district": district, "built": built, "sold": sold})
houses.loc[rng.random(n) < 0.1, "built"] = np.nan
houses.loc[rng.random(n) < 0.05, "district"] = None
print(houses.head())

# %%
# Nothing is to be encoded, scaled or filled in.

train, test = slice(0, 800), slice(800, None)
model = fb.TabPackRegressor(8, max_epochs=30, random_state=0)
model.fit(houses[train], price[train])
print(f"R² on other rows: {model.score(houses[test], price[test]):.3f}")

# %%
# Which members were chosen, and what each added to the ensemble.

model.history_.plot().set_size_inches(7, 4)
plt.show()

# %%
# Predictions beside the prices, for rows that it has not seen. Where the district is missing, the
# price can only be guessed.

predicted = model.predict(houses[test])
unknown = houses[test]["district"].isna().to_numpy()
figure, axes = plt.subplots(figsize=(6, 5), layout="constrained")
axes.scatter(price[test][~unknown], predicted[~unknown], s=14, alpha=0.6, label="district known")
axes.scatter(price[test][unknown], predicted[unknown], s=30, color="tab:red",
             label="district missing")
ends = [price[test].min(), price[test].max()]
axes.plot(ends, ends, color="gray", linewidth=1)
axes.set(xlabel="price", ylabel="predicted")
axes.legend(frameon=False)
axes.spines[["top", "right"]].set_visible(False)
plt.show()
