"""The plotting library of a page, packed into it: nothing is fetched, and no other script may run."""

import base64
import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from markupsafe import Markup


@dataclass(frozen=True)
class Library:
    """Scripts of a page, and the checksums by which its policy admits them."""

    packed: str  # plotly.js: gzip, base64
    start: Markup  # unpacks it and draws the figures
    policy: Markup  # of the scripts


@cache
def library() -> Library:
    """Pack plotly.js of the installed package."""
    plotly = files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()
    start = files("inverse_design.report").joinpath("templates", "live.js").read_text(encoding="utf-8")
    admitted = (base64.b64encode(hashlib.sha256(each).digest()).decode() for each in (plotly, start.encode()))
    return Library(
        packed=base64.b64encode(gzip.compress(plotly, 9, mtime=0)).decode(),
        start=Markup(start),  # noqa: S704 - a file of this package
        policy=Markup(" ".join(f"'sha256-{each}'" for each in admitted)),  # noqa: S704 - checksums
    )
