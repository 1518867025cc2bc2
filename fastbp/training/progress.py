"""What training prints: progress bars, and a line per epoch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .run import Training

__all__ = ["EpochProgress", "Progress", "StepProgress", "epoch_line"]


class StepProgress(Protocol):
    """What is told of the steps while they run."""

    def update(self, steps: int, run: Training) -> None:
        """Take note that a training has made some more steps."""


def epoch_line(run: Training) -> str:
    """The last epoch in one line."""
    history = run.history
    width = len(str(run.epochs))
    parts = [f"epoch {run.epoch + 1:{width}d}/{run.epochs}"]
    for key, values in history.items():
        if key not in ("learning_rate", "seconds", "gradient_norms"):
            parts.append(f"{key} {values[-1]:.4f}")
    seconds = history["seconds"][-1]
    parts.append(f"{seconds:.2f} s" if seconds >= 0.1 else f"{1000 * seconds:.1f} ms")
    return "  ".join(parts)


class Progress:
    """A context manager: a progress bar over the steps of an epoch, if `verbose` is 1 or 3."""

    def __init__(self, run: Training, verbose: int) -> None:
        self.bar: Any = None
        if verbose in (1, 3):
            try:
                from tqdm.auto import tqdm
            except ImportError:
                return
            # disable=None: no bar where the output is not a terminal.
            self.bar = tqdm(total=run.steps_per_epoch, desc=f"epoch {run.epoch + 1}/{run.epochs}",
                            unit="step", leave=False, disable=None, mininterval=0.05)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def update(self, steps: int, run: Training) -> None:
        """Advance the bar by some steps, and show the mean loss so far."""
        if self.bar is not None and not self.bar.disable and run.sums is not None:
            self.bar.set_postfix_str(f"loss {run.sums.loss:.4f}", refresh=False)
            self.bar.update(steps)


class EpochProgress:
    """A context manager: a progress bar over the epochs of many networks, if `verbose` is 1 or 3,
    and a line after each epoch, if it is 1 or 2."""

    def __init__(self, trainings: list[Training], verbose: int) -> None:
        self.trainings, self.lines = trainings, verbose in (1, 2)
        self.bar: Any = None
        if verbose in (1, 3):
            try:
                from tqdm.auto import tqdm
            except ImportError:
                return
            self.bar = tqdm(unit="epoch", leave=False, disable=None, mininterval=0.05)

    def __enter__(self) -> EpochProgress:
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def update(self) -> None:
        """Show what has been done so far."""
        done = [len(run.history["loss"]) for run in self.trainings]
        left = [0 if run.stopping else run.epochs - n
                for run, n in zip(self.trainings, done, strict=True)]
        if self.lines:
            self._write(max(done), sum(n > 0 for n in left))
        if self.bar is not None and not self.bar.disable:
            self.bar.total, self.bar.n = sum(done) + sum(left), sum(done)
            self.bar.set_postfix_str(f"{sum(n > 0 for n in left)} networks")

    def _write(self, epoch: int, n_left: int) -> None:
        parts = [f"epoch {epoch}/{max(run.epochs for run in self.trainings)}",
                 f"{n_left} of {len(self.trainings)} networks still training"]
        for key in ("loss", "val_loss"):
            last = {i: run.history[key][-1] for i, run in enumerate(self.trainings)
                    if run.history.get(key)}
            if last:
                best = min(last, key=lambda i: (math.isnan(last[i]), last[i]))
                parts.append(f"lowest {key} {last[best]:.4f} (networks[{best}])")
        line = "  ".join(parts)
        print(line, flush=True) if self.bar is None else self.bar.write(line)
