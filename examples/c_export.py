"""
A network as a C program
========================

:meth:`fastbp.Sequential.to_c` writes a network as C99 that needs libm alone, allocates nothing, and
has the bits of ``predict``. This example compiles it, which takes a C compiler.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import fastbp as fb

rng = np.random.default_rng(0)
X = rng.uniform(-1, 1, (800, 2)).astype(np.float32)
y = np.hypot(*X.T)[:, None] < 0.7
net = fb.mlp([2, 16, 16, 1], activation="tanh", seed=0)
net.fit(X, y, loss=fb.SigmoidCrossEntropy(), optimizer=fb.Adam(0.02), epochs=60, seed=0)

folder = Path(tempfile.mkdtemp())
net.to_c(folder / "disc.h", name="disc", activation="sigmoid")
print("\n".join((folder / "disc.h").read_text().splitlines()[:12]))

# %%
# A program that reads rows of floats from its input and writes what the network says.

(folder / "main.c").write_text("""
#include <stdio.h>
#include "disc.h"

int main(void)
{
    float row[DISC_N_IN], out[DISC_N_OUT];
    while (fread(row, sizeof row, 1, stdin) == 1) {
        disc_predict(row, out);
        fwrite(out, sizeof out, 1, stdout);
    }
    return 0;
}
""")
subprocess.run(["cc", "-std=c99", "-O2", "-ffp-contract=off", "-o", folder / "disc",
                folder / "main.c", "-lm"], check=True)

line = np.linspace(-1, 1, 256, dtype=np.float32)
plane = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
run = subprocess.run([folder / "disc"], input=plane.tobytes(), capture_output=True, check=True)
from_c = np.frombuffer(run.stdout, np.float32)
from_python = net.predict(plane, activation="sigmoid")[:, 0]
print(f"the program: {(folder / 'disc').stat().st_size / 1024:.0f} KB")
print(f"{len(plane)} rows, of which {np.sum(from_c != from_python)} differ")
shutil.rmtree(folder)

# %%
# What the C program answers, point by point.

figure, axes = plt.subplots(figsize=(5.2, 4.4), layout="constrained")
image = axes.imshow(from_c.reshape(256, 256), extent=[-1, 1, -1, 1], origin="lower", cmap="magma")
axes.contour(line, line, from_c.reshape(256, 256), levels=[0.5], colors="white", linewidths=1)
axes.set(xticks=[], yticks=[])
figure.colorbar(image, label="probability, as C says")
plt.show()
