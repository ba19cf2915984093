"""How `make docs` builds the site from the pages of this folder (Sphinx)."""

import re

import latticediff

project, author, copyright = "latticediff", "the authors of latticediff", "the authors of latticediff"
release = version = latticediff.__version__

extensions = [
    "myst_nb",  # pages in the Markdown of GitHub, and notebooks with the output that they were committed with
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # MathJax lies beside the pages: formulas appear without a network
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]

# pages: formulas between dollars, anchors as GitHub makes them
myst_enable_extensions = ["dollarmath"]
myst_dmath_allow_labels = False  # numbers are \tag's, on GitHub too
myst_heading_anchors = 4
myst_fence_as_directive = ["math"]
nb_execution_mode = "off"  # `make tutorials` executes them

# reference: one page a room, of what its __all__ names; a name in single backticks is a link if there is such an object
default_role = "py:obj"
autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings say shapes and types
napoleon_google_docstring = False
napoleon_use_param = napoleon_use_rtype = False  # a shape (n, *lattice) is no list of types to be linked

html_theme = "furo"
html_title = "latticediff"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False


def escape_stars(app, what, name, obj, options, lines):
    """(n, *lattice) is a shape, and no emphasis that is never closed; code between double backticks stays as it is."""
    for number, line in enumerate(lines):
        parts = re.split(r"(``.*?``)", line)
        parts[::2] = [re.sub(r"(?<=[ (,])\*(?=\w+(?![\w*]))", r"\\*", part) for part in parts[::2]]
        lines[number] = "".join(parts)


def setup(app):
    app.connect("autodoc-process-docstring", escape_stars, priority=400)  # before napoleon puts stars around types
