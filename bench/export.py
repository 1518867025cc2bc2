"""Exported C code for one row, beside a hand-written loop; from_sklearn beside scikit-learn.

    python bench/export.py

The first two are timed by a C program, on one row after the other, in turn; the smallest time of
all rounds counts.  The hand-written loop is what one would write: a sum for each output, inputs
outside and outputs inside, with fma.  `predict` is the call from Python, overhead included.
"""

import argparse
import shutil
import subprocess
import tempfile
import timeit
import warnings
from pathlib import Path

import common
import numpy as np
from sklearn import neural_network
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastbp as fb

SIZES = [64, 64, 64, 8]
COMMANDS = ["gcc -O2 -mfma", "gcc -O3 -mfma", "gcc -O3 -march=native", "clang -O3 -mfma",
            "clang -O3 -march=native"]
PROGRAM = r"""
#define _POSIX_C_SOURCE 199309L
#include <stdio.h>
#include <time.h>
#include "net.h"
#include "weights.h"

static void layer(int k, int n, const float *restrict x, const float *restrict W,
                  const float *restrict b, float *restrict y, int relu)
{
    for (int j = 0; j < n; j++) y[j] = b[j];
    for (int p = 0; p < k; p++) {
        const float a = x[p];
        for (int j = 0; j < n; j++) y[j] = fmaf(a, W[p * n + j], y[j]);
    }
    if (relu)
        for (int j = 0; j < n; j++) y[j] = y[j] > 0 ? y[j] : 0;
}

static void by_hand(const float *x, float *y)
{
    float a[64], b[64];
    layer(64, 64, x, W0, b0, a, 1);
    layer(64, 64, a, W1, b1, b, 1);
    layer(64, 8, b, W2, b2, y, 0);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static double of(void (*predict)(const float *, float *), float *sum)
{
    static float x[64], y[8];
    const double start = now();
    for (int i = 0; i < 20000; i++) {
        x[i % 64] = (float)(i % 7);
        predict(x, y);
        *sum += y[i % 8];
    }
    return (now() - start) / 20000;
}

int main(void)
{
    double exported = 1e9, hand = 1e9, t;
    float sum = 0;
    for (int round = 0; round < ROUNDS; round++) {
        t = of(net_predict, &sum);
        exported = t < exported ? t : exported;
        t = of(by_hand, &sum);
        hand = t < hand ? t : hand;
    }
    printf("%.1f %.1f %g\n", exported, hand, (double)sum);
    return 0;
}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    rounds = 5 if parser.parse_args().quick else 100
    print(common.cpu_name())
    of_c(rounds)
    of_sklearn(rounds)


def of_c(rounds):
    net = fb.mlp(SIZES, seed=0)
    for layer in net.layers[::2]:
        layer.b = np.random.default_rng(0).normal(size=layer.n_out)
    X = np.zeros((1, 64), np.float32)
    calls = timeit.Timer(lambda: net.predict(X)).repeat(rounds, 1000)
    print(f"one row of {SIZES}, predict from Python: {min(calls) * 1e6:.0f} ns")
    with tempfile.TemporaryDirectory() as folder:
        net.to_c(Path(folder, "net.h"))
        Path(folder, "weights.h").write_text("".join(
            f"static const float {name}{i}[] = {{{', '.join(map(float.hex, numbers))}}};\n"
            for i, layer in enumerate(net.layers[::2]) for name in ("W", "b")
            for numbers in [getattr(layer, name).ravel().tolist()]))
        Path(folder, "program.c").write_text(PROGRAM)
        for command in COMMANDS:
            if shutil.which(command.split()[0]) is None:
                print(f"{command}: not here")
                continue
            subprocess.run([*command.split(), "-std=c99", "-ffp-contract=off",
                            f"-DROUNDS={rounds}", "-o", "program", "program.c", "-lm"],
                           cwd=folder, check=True)
            result = subprocess.run(["./program"], cwd=folder, check=True, capture_output=True,
                                    text=True).stdout
            exported, by_hand, _ = map(float, result.split())
            print(f"{command}: exported {exported:.0f} ns, by hand {by_hand:.0f} ns, "
                  f"{exported / by_hand:.2f} ×")


def of_sklearn(rounds):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 20))
    y = (X[:, 0] > 0).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = neural_network.MLPClassifier((50,), max_iter=5, random_state=0).fit(X, y)
        scaled = make_pipeline(StandardScaler(), neural_network.MLPClassifier(
            (50,), max_iter=5, random_state=0)).fit(X, y)
    for name, theirs in (("MLPClassifier", alone), ("StandardScaler, MLPClassifier", scaled)):
        ours = fb.from_sklearn(theirs)
        for method in ("predict_proba", "predict"):
            times = [min(timeit.Timer(lambda each=each: each(X[:1])).repeat(rounds, 50)) / 50
                     for each in (getattr(theirs, method), getattr(ours, method))]
            print(f"{name}, {method} of one row: {times[0] * 1e6:.1f} µs, "
                  f"from_sklearn {times[1] * 1e6:.2f} µs, {times[0] / times[1]:.0f} ×")


if __name__ == "__main__":
    main()
