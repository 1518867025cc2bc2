"""Sphinx builds the documentation: `nox -s docs`, or

    pip install --no-build-isolation --editable ".[docs]"
    sphinx-build -W --keep-going -n docs build/docs
"""

import sys
from pathlib import Path

from numpydoc import xref

import fastbp

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import repository

project = "fastbp"
author = "The fastbp developers"
copyright = "The fastbp developers, BSD 3-Clause license"
version = release = fastbp.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.linkcode",
    "numpydoc",
    "myst_parser",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "repository",  # these are in _ext
    "mathml",
    "public_api",
    "benchmarks",
]
exclude_patterns = ["_build", "_ext", "_templates", "api/examples"]
templates_path = ["_templates"]
nitpicky = True
nitpick_ignore_regex = [
    # Of other projects, whose sites a build does not ask.
    (r"py:.*", r"(python:|(numpy|scipy|sklearn|matplotlib|pandas|polars|dask)\.).*"),
    (r"std:(term|ref)", r"(python|numpy):.*"),
    # Attributes and methods that a docstring names in the course of a sentence, and classes that
    # are not public.
    (r"py:obj", r"[a-z_]+|None|True|False"),
    (r"py:(obj|class)", r"fastbp\.(program|training|export|layers|losses|kernels)\..*"),
]
default_role = "autolink"  # a link where there is something to link to

# Pages in Markdown
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
myst_url_schemes = {"http": None, "https": None, "source": None}  # the last is of `repository`
# The files of the repository that are pages of the documentation.
repository_pages = {
    "README.md": "index",
    "CHANGELOG.md": "changelog",
    "CONTRIBUTING.md": "contributing",
    "SECURITY.md": "security",
    "bench/README.md": "measurements",
}

# The reference
autosummary_generate = True
linkcode_resolve = repository.source_of
autodoc_typehints = "none"  # numpydoc's sections have the types
autodoc_member_order = "bysource"
numpydoc_show_class_members = False  # the members themselves are on the page
numpydoc_xref_param_type = True
numpydoc_xref_ignore = "all"
numpydoc_xref_aliases = {
    **{name: name.rpartition(".")[2] for name in xref.DEFAULT_LINKS},  # sites that are not asked
    **{name: f"fastbp.{name}" for name in fastbp.__all__ if name[0].isupper()},
}

# The gallery
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",  # all of them run
    "within_subsection_order": "gallery_order.Order",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "min_reported_time": 0,
    "remove_config_comments": True,
    "image_srcset": ["2x"],
    "doc_module": ("fastbp",),
    "backreferences_dir": "api/examples",
    "plot_gallery": True,
}
suppress_warnings = ["config.cache"]

# The pages
html_theme = "pydata_sphinx_theme"
html_title = "fastbp"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "fastbp"},
    "navigation_with_keys": False,
    "show_nav_level": 1,
    "navigation_depth": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "tango",
    "pygments_dark_style": "github-dark",
}
html_sidebars = {page: [] for page in ("changelog", "benchmarks", "getting-started", "index")}

html_math_renderer = "mathml"

# Other sites cannot be reached from everywhere: only links within this one are checked.
linkcheck_ignore = [r"https?://"]
