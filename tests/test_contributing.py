"""What CONTRIBUTING.md points to is there, and its diffs fit the files that they change."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PATH = TEXT[TEXT.index("## The path of one batch") : TEXT.index("## Adding an operation")]
DIFFS = dict(re.findall(r"^### ([^\n]+)\n.*?^```diff\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE))


def defines(path, name):
    """Whether a file has a function or class of this name."""
    code = (ROOT / path).read_text(encoding="utf-8")
    kinds = r"def|class|cdef (?:inline )?[\w ]+?|INLINE void|static (?:inline )?\w+"
    return re.search(rf"^ *(?:{kinds}) \*?{name}\b *[(:]", code, re.MULTILINE) is not None


def test_the_path_of_one_batch():
    """At most ten hops, each a function in the file that it links to."""
    hops = re.findall(r"^\d+\. \[`([^`]+)`\]\(([^)]+)\), `(\w+)`: ", PATH, re.MULTILINE)
    assert 5 <= len(hops) <= 10
    assert len(hops) == len(re.findall(r"^\d+\. ", PATH, re.MULTILINE))
    for shown, path, function in hops:
        assert shown == path
        assert defines(path, function), (path, function)


def test_which_hop_answers_which_question():
    rows = re.findall(r"^\| [^|]+\? \| ([\d, ]+) \| (.*) \|$", PATH, re.MULTILINE)
    assert len(rows) >= 3
    found = [pair for _, answer in rows
             for pair in re.findall(r"((?:`\w+`(?:, )?)+) in \[`[^`]+`\]\(([^)]+)\)", answer)]
    assert len(found) >= len(rows)
    for names, path in found:
        for name in re.findall(r"`(\w+)`", names):
            assert name == "lower" or defines(path, name), (path, name)
    assert all(1 <= int(hop) <= 10 for hops, _ in rows for hop in hops.split(", "))


def test_every_file_it_links_to_is_there():
    prose = re.sub(r"^```.*?^```", "", TEXT, flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\(([^)#:]+)\)", prose)
    assert len(links) > 10
    for link in links:
        assert (ROOT / link).exists(), link


def files_of(diff):
    """The files of a diff, each with its hunks: lists of lines."""
    return {part.partition("\n")[0]: [hunk.splitlines() for hunk in
                                      part.partition("\n")[2].split("@@\n")]
            for part in re.split(r"^--- ", diff, flags=re.MULTILINE)[1:]}


def applied(lines, hunk):
    """Lines of a file with a hunk applied; without a line of the file in it, at the end."""
    def find(line, start):
        wanted = line[1:].split()
        return next(i for i in range(start, len(lines)) if lines[i].split() == wanted)

    lines = list(lines)
    at = None
    for i, line in enumerate(hunk):
        if line[0] == "+":
            if at is None:
                known = [each for each in hunk[i:] if each[0] != "+"]
                at = find(known[0], 0) if known else len(lines)
            lines.insert(at, line[1:])
            at += 1
        else:
            at = find(line, at or 0)
            if line[0] == "-":
                del lines[at]
            else:
                at += 1
    return lines


def apply(diff, root):
    """Apply a diff of CONTRIBUTING.md to a checkout; rows of formulas are left out."""
    for path, hunks in files_of(diff).items():
        if path.endswith(".md"):
            continue
        lines = (root / path).read_text(encoding="utf-8").splitlines()
        for hunk in hunks:
            lines = applied(lines, hunk)
        (root / path).write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("title", DIFFS)
def test_diffs_fit(title, tmp_path):
    """Each finds the lines that it says are there, and what it makes of Python is Python."""
    paths = [path for path in files_of(DIFFS[title]) if path != "docs/formulas.md"]
    for path in paths:
        copy = tmp_path / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((ROOT / path).read_bytes())
    apply(DIFFS[title], tmp_path)
    for path in paths:
        assert (tmp_path / path).read_bytes() != (ROOT / path).read_bytes()
        if path.endswith((".py", ".pyi", ".def")):
            code = (tmp_path / path).read_text(encoding="utf-8")
            ast.parse(re.sub(r"/\*.*?\*/|^#.*?$", "", code, flags=re.DOTALL | re.MULTILINE)
                      if path.endswith(".def") else code)


def test_how_many_files_each_takes():
    counts = {title: len(files_of(diff)) for title, diff in DIFFS.items()}
    assert counts == {
        "An activation": 3, "A layer of existing operations": 2,
        "A layer of a new operation": 11, "An optimizer": 4, "A loss": 4,
    }


def test_the_layer_that_it_shows_is_the_one_there_is():
    """But for docstrings."""
    shown = [line[1:] for line in DIFFS["A layer of existing operations"].splitlines()
             if line.startswith("+") and "| `" not in line]
    code = (ROOT / "fastbp/layers/normalization.py").read_text(encoding="utf-8")
    source = code[code.index("class RMSNorm(") : code.index("class BatchNorm(")]
    source = re.sub(r'^ *""".*?"""\n\n?', "", source, flags=re.DOTALL | re.MULTILINE)
    assert source.strip() in "\n".join(shown)
