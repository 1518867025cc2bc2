"""The table of a network's layers, as text and for notebooks."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from .layers import Columns, Layer

if TYPE_CHECKING:
    from .stack import Stack

__all__ = ["summary_html", "summary_text"]

HEADER = ("", "layer", "output", "parameters")

# The colors are those of the page, light or dark.
STYLE = """\
.fastbp-summary {border-collapse: collapse; font-size: 0.9em}
.fastbp-summary caption {text-align: left; padding: 0.3em 0}
.fastbp-summary th, .fastbp-summary td {text-align: left; padding: 0.2em 0.7em;
  border-bottom: 1px solid color-mix(in srgb, currentColor 20%, transparent)}
.fastbp-summary .number {text-align: right; font-variant-numeric: tabular-nums}
"""


class _Row(NamedTuple):
    path: str
    layer: str
    output: str
    parameters: int

    @property
    def depth(self) -> int:
        """How many containers the layer is in."""
        return self.path.count(".")


def _rows(layers: Sequence[tuple[str, Layer]], width: int | None, prefix: str = "",
          ) -> Iterator[_Row]:
    for path, layer in layers:
        given, width = width, layer.n_out or width
        yield _Row(prefix + path, type(layer).__name__ if layer.children else repr(layer),
                   f"(batch, {'any' if width is None else width})", layer.n_parameters)
        if isinstance(layer, Columns):
            for part, columns in enumerate(layer.columns):
                own = [child for child in layer.children if child[0].startswith(f"{part}.")]
                yield from _rows(own, len(columns), f"{prefix}{path}.")
        else:
            yield from _rows(layer.children, given, f"{prefix}{path}.")


def _all_rows(net: Stack) -> list[_Row]:
    return list(_rows([(str(i), layer) for i, layer in enumerate(net.layers)], net.n_in))


def _total(net: Stack) -> str:
    """The number of all parameters, their dtype and size."""
    size: float = net.parameters.nbytes
    unit = "bytes" if size < 1024 else "KiB" if size < 1024**2 else "MiB"
    size /= {"bytes": 1, "KiB": 1024, "MiB": 1024**2}[unit]
    precision = "" if net.precision == "highest" else f', precision "{net.precision}"'
    return f"{net.parameters.size:,} parameters, {net.dtype}, {size:.4g} {unit}{precision}"


def summary_text(net: Stack) -> str:
    """The table of a network's layers as text.

    Parameters
    ----------
    net : Sequential

    Returns
    -------
    str

    Examples
    --------
    >>> import fastbp as fb
    >>> print(summary_text(fb.mlp([2, 3, 1])))
       layer                                          output      parameters
    ────────────────────────────────────────────────────────────────────────
    0  Dense(n_in=2, n_out=3, init='he_uniform')      (batch, 3)           9
    1  ReLU()                                         (batch, 3)           0
    2  Dense(n_in=3, n_out=1, init='glorot_uniform')  (batch, 1)           4
    13 parameters, float32, 52 bytes
    """
    rows = [HEADER, *((row.path, "  " * row.depth + row.layer, row.output, f"{row.parameters:,}")
                      for row in _all_rows(net))]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [f"{a:>{widths[0]}}  {b:<{widths[1]}}  {c:<{widths[2]}}  {d:>{widths[3]}}"
             for a, b, c, d in rows]
    lines.insert(1, "─" * len(lines[0]))
    return "\n".join([*lines, _total(net)])


def summary_html(net: Stack) -> str:
    """The table of a network's layers as HTML, for notebooks.

    Parameters
    ----------
    net : Sequential

    Returns
    -------
    str
        A table and its style, without anything that is loaded from elsewhere.

    Examples
    --------
    >>> import fastbp as fb
    >>> summary_html(fb.mlp([2, 3, 1])).count("<tr>")
    4
    """
    head = "".join(f'<th scope="col"{_number(name == "parameters")}>{name}</th>'
                   for name in HEADER)
    body = "\n".join(
        f"<tr><td>{html.escape(row.path)}</td>"
        f'<td style="padding-left: {0.7 + 1.5 * row.depth:g}em"><code>{html.escape(row.layer)}'
        f"</code></td><td>{row.output}</td><td{_number(True)}>{row.parameters:,}</td></tr>"
        for row in _all_rows(net))
    return (f'<style>{STYLE}</style>\n<table class="fastbp-summary">\n'
            f"<caption>{html.escape(f'{type(net).__name__}: {_total(net)}')}</caption>\n"
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>")


def _number(is_number: bool) -> str:
    return ' class="number"' if is_number else ""
