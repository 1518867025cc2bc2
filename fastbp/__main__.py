"""The command ``fastbp``, also ``python -m fastbp``; `fastbp.cli` is what it does."""

import sys

from .cli.command import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
