"""Pages that show parts of the repository's files, and links to files that are no pages.

A line ``<!-- include: FILE#SECTION -->`` of a page is replaced by that section of a Markdown file
of the repository, without its heading, or by the whole file but for its title.  Links are written
as the repository's own viewers need them, relative to the file that has them; those to files which
are not part of the documentation lead to a page with the file's text.
"""

import html
import importlib
import inspect
import os
import re
from pathlib import Path

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import CLexer, TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound

import fastbp

ROOT = Path(__file__).parents[2]
PACKAGE = Path(fastbp.__file__).resolve().parent  # installed, or that of the repository
INCLUDE = re.compile(r"^<!-- include: (\S+?)(?:#(\S+))? -->$", re.MULTILINE)
FENCE = re.compile(r"^(```+|:::+).*?^\1", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?![a-z]+:|#|<)([^)#\s]+)(#[^)\s]*)?\)")
SCHEME = "source:"


def anchor(heading):
    """What a heading is called in a link, by the rules of GitHub's and MyST's."""
    words = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return words.replace(" ", "-")


def section(text, name):
    """The lines under a heading, to the next that is not below it."""
    headings = [(found.start(), found.end(), len(found[1]), anchor(found[2]))
                for found in re.finditer(r"^(#+) (.*)$", blank_fences(text), re.MULTILINE)]
    for i, (_, end, level, words) in enumerate(headings):
        if words == name:
            after = [start for start, _, other, _ in headings[i + 1 :] if other <= level]
            return raise_headings(text[end : after[0] if after else None], level - 1)
    raise ValueError(f"there is no section {name!r}: {[words for *_, words in headings]}")


def blank_fences(text):
    """The text with blocks of code blanked out, for what looks at lines."""
    return FENCE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def raise_headings(text, by):
    """Headings of a section become those of a page."""
    there = blank_fences(text)
    pieces, last = [], 0
    for found in re.finditer(r"^#+(?= )", there, re.MULTILINE):
        pieces += [text[last : found.start()], found[0][by:]]
        last = found.end()
    return "".join([*pieces, text[last:]])


def relink(text, folder, page, pages):
    """The links of a file in `folder`, for the page `page` of the documentation."""
    def link(found):
        target = Path(os.path.normpath(folder / found[1]))
        if target.is_dir():
            target = next((target / name for name in ("README.md", "__init__.py")
                           if (target / name).exists()), target)
        name, rest = target.relative_to(ROOT).as_posix(), found[2] or ""
        if name in pages:
            return f"]({os.path.relpath(ROOT / 'docs' / pages[name], page.parent)}.md{rest})"
        if target.is_relative_to(ROOT / "docs"):
            return f"]({os.path.relpath(target, page.parent)}{rest})"
        if not target.exists():
            raise ValueError(f"{page}: there is no file {name}")
        return f"]({SCHEME}{name})"

    code = [(found.start(), found.end()) for found in FENCE.finditer(text)]
    return LINK.sub(lambda found: found[0] if any(a <= found.start() < b for a, b in code)
                    else link(found), text)


def read(app, name, content):
    """Include sections, and rewrite links."""
    page = Path(app.env.doc2path(name))
    if page.suffix != ".md":
        return
    pages = app.config.repository_pages

    def include(found):
        path = ROOT / "docs" / found[1]
        app.env.note_dependency(str(path))
        text = path.read_text(encoding="utf-8")
        text = section(text, found[2]) if found[2] else text.partition("\n")[2]
        return relink(text, path.parent, page, pages)

    parts = re.split(r"(?m)^(<!-- include: .* -->)$", relink(content[0], page.parent, page, pages))
    content[0] = "".join(INCLUDE.sub(include, part) for part in parts)


def resolve(app, tree, name):
    """Links to files, relative to the page."""
    for link in tree.findall(nodes.reference):
        target = link.get("refuri", "")
        if target.startswith(SCHEME):
            path, _, line = target[len(SCHEME):].partition("#")
            app.env.linked_files.add(path)
            page = app.builder.get_relative_uri(name, f"source/{path}")
            link["refuri"] = f"{page}#{line}" if line else page


def source_of(domain, found):
    """Where something that the reference documents is defined, for `sphinx.ext.linkcode`."""
    thing = importlib.import_module(found["module"])
    try:
        for name in found["fullname"].split("."):
            thing = inspect.getattr_static(thing, name) if inspect.isclass(thing) else getattr(
                thing, name)
        thing = inspect.unwrap(getattr(thing, "fget", thing))
        path = importlib.import_module(thing.__module__).__name__.replace(".", "/")
    except AttributeError:
        return None
    if (ROOT / f"{path}.pyx").exists():
        return f"{SCHEME}{path}.pyx"
    try:
        _, first = inspect.getsourcelines(thing)
    except (OSError, TypeError):  # made from the table of operations
        return None
    name = inspect.getsourcefile(thing)
    if not Path(name).resolve().is_relative_to(PACKAGE):
        return None
    return f"{SCHEME}fastbp/{Path(name).resolve().relative_to(PACKAGE).as_posix()}#line-{first}"


def pages_of_files(app):
    """A page for each file that is linked to."""
    for path in sorted(app.env.linked_files):
        body = listing(ROOT / path) if (ROOT / path).is_dir() else highlighted(ROOT / path)
        yield (f"source/{path}",
               {"title": path, "body": f"<h1>{html.escape(path)}</h1>\n{body}"}, "page.html")


def listing(folder):
    files = sorted(path.name for path in folder.iterdir() if path.is_file())
    return f"<ul>{''.join(f'<li><code>{html.escape(name)}</code></li>' for name in files)}</ul>"


def highlighted(path):
    try:
        lexer = get_lexer_for_filename(path.name)
    except ClassNotFound:
        lexer = CLexer() if path.suffix == ".def" else TextLexer()
    formatter = HtmlFormatter(linenos="inline", lineanchors="line")
    return highlight(path.read_text(encoding="utf-8"), lexer, formatter)


def start(app):
    if not hasattr(app.env, "linked_files"):
        app.env.linked_files = set()


def setup(app):
    app.add_config_value("repository_pages", {}, "env")
    app.connect("builder-inited", start)
    app.connect("source-read", read)
    app.connect("doctree-resolved", resolve)
    app.connect("html-collect-pages", pages_of_files)
    return {"version": "1", "parallel_read_safe": False}
