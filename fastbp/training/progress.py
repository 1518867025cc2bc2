"""What training prints: a progress bar over the steps of an epoch, and a line per epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .run import Training

__all__ = ["Progress", "StepProgress", "epoch_line"]


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
