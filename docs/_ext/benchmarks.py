"""The directive ``benchmark``: the tables and the chart of a JSON file that a benchmark wrote.

The chart is drawn by the benchmark's own function, from the file.
"""

import importlib
import json
import sys
from pathlib import Path

import matplotlib as mpl
from docutils import nodes
from docutils.parsers.rst import Directive

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "bench" / "results"
sys.path.insert(0, str(ROOT / "bench"))  # scripts import modules beside them


class Benchmark(Directive):
    """``.. benchmark:: training``: what ``bench/results/training.json`` holds."""

    required_arguments = 1

    def run(self):
        name = self.arguments[0]
        path = RESULTS / f"{name}.json"
        env = self.state.document.settings.env
        env.note_dependency(str(path))
        if not path.exists():
            return [self.state.document.reporter.warning(f"there is no {path}", line=self.lineno)]
        results = json.loads(path.read_text(encoding="utf-8"))
        parts = [self.paragraph(f"``{results['command']}``"), self.paragraph(machine(results))]
        picture = draw(name, results, Path(env.app.srcdir, "_static", "benchmarks"))
        if picture is not None:
            image = nodes.image(uri=f"/_static/benchmarks/{picture}", alt=f"Chart of {name}",
                                width="100%")
            parts.append(image)
        return [*parts, *(each for report in results["report"] for each in table(report))]

    def paragraph(self, text):
        kind, text = (nodes.literal, text.strip("`")) if text.startswith("``") else (
            nodes.emphasis, text)
        return nodes.paragraph("", "", kind("", text))


def machine(results):
    """Where and with what it was measured, in the words of the benchmark itself."""
    return importlib.import_module("common").machine_line(results["machine"])


def draw(name, results, folder):
    """The chart, as a file of this name; None where the file lacks what it shows."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    chart = importlib.import_module(name).chart(results)
    if chart is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    figure = chart(plt)
    figure.savefig(folder / f"{name}.png", dpi=150, bbox_inches="tight", facecolor="white")
    plt.close(figure)
    return f"{name}.png"


def table(report):
    """A table with its title."""
    columns = len(report["header"])
    group = nodes.tgroup(cols=columns)
    group += [nodes.colspec(colwidth=1) for _ in range(columns)]
    group += nodes.thead("", row(report["header"]))
    group += nodes.tbody("", *map(row, report["rows"]))
    whole = nodes.table("", group, classes=["benchmark"])
    return [nodes.paragraph("", "", nodes.strong("", report["title"])),
            nodes.container("", whole, classes=["pst-scrollable-table-container"])]


def row(cells):
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", cell)) for cell in cells))


def setup(app):
    app.add_directive("benchmark", Benchmark)
    return {"version": "1", "parallel_read_safe": True}
