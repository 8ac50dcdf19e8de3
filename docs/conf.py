"""How the documentation is built: ``make docs``, which fails on warnings."""

import re
import sys
from importlib.metadata import version as installed
from pathlib import Path

from sphinx.application import Sphinx

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from executed import executed  # noqa: E402 - beside this file

project = "inverse-design"
author = "the authors of inverse-design"
release = installed("inverse-design")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
html_theme = "furo"
html_title = "inverse-design"
html_static_path = ["_static"]
html_css_files = ["executed.css"]

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 3

# Names are exported lazily; autodoc imports each through ``__all__`` and shows where it is documented.
autodoc_member_order = "alphabetical"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 100
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # fields of a dataclass are described once, where its class is


def _dollars(app: Sphinx, page: str, source: list[str]) -> None:  # noqa: ARG001 - what the event hands over
    """Turn mathematics as code hosts write it, dollar and backtick, into plain dollars."""
    source[0] = re.sub(r"\$`(.+?)`\$", r"$\1$", source[0], flags=re.DOTALL)


_EXECUTED = ("tutorials/", "concepts/", "coming_from/", "guides/ranking")  # pages whose blocks are run


def _run(app: Sphinx, page: str, source: list[str]) -> None:  # noqa: ARG001 - what the event hands over
    """Show what the blocks of a page print and draw."""
    if page.startswith(_EXECUTED):
        source[0] = executed(source[0])


def setup(app: Sphinx) -> None:
    """Connect what reads the pages."""
    app.connect("source-read", _dollars)
    app.connect("source-read", _run)
