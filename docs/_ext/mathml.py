"""Formulas as MathML, which browsers draw by themselves: no script, and no other site."""

from docutils.nodes import SkipNode
from latex2mathml.converter import convert


def display(translator, node):
    translator.body.append(f'<div class="formula">{convert(node.astext(), display="block")}</div>')
    raise SkipNode


def inline(translator, node):
    translator.body.append(convert(node.astext()))
    raise SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (inline, None), (display, None))
    return {"version": "1", "parallel_read_safe": True}
