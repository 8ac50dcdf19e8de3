"""Templates become pages: every name from outside is escaped, and nothing in a page is a script."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from inverse_design.app.sessions import Visitor
from inverse_design.report.page import PageTable, in_text
from surrogates.errors import amount, printable

_SCRIPT = "text/javascript; charset=utf-8"
STATIC: Mapping[str, tuple[str, str, str]] = {  # package, path in it, media type
    "page.css": ("inverse_design.app", "static/page.css", "text/css; charset=utf-8"),
    "page.js": ("inverse_design.app", "static/page.js", _SCRIPT),
    "htmx.js": ("django_htmx", "static/django_htmx/htmx-2.min.js", _SCRIPT),
}
_TITLES = {
    400: "That is not understood",
    401: "Enter with your token",
    403: "That is not allowed",
    404: "There is no such page",
    405: "That cannot be done here",
    413: "That file is too large",
    429: "Too much is waiting",
    503: "The store cannot be used",
}


@cache
def _templates() -> Environment:
    found = Environment(
        loader=PackageLoader("inverse_design.app", "templates"), autoescape=True, undefined=StrictUndefined
    )
    found.filters |= {"shown": printable, "cell": in_text, "amount": amount}
    found.globals["table_of"] = PageTable.of
    return found


def page(template: str, visitor: Visitor | None, *, status: int = 200, **facts: Any) -> HTMLResponse:  # noqa: ANN401
    """Write a page."""
    notes: list[str] = []
    if visitor is not None:
        notes, visitor.notes = visitor.notes, []
    text = _templates().get_template(template).render(visitor=visitor, notes=notes, **facts)
    return HTMLResponse(text.encode("utf-8", "replace"), status_code=status)


def error_page(status: int, said: str, visitor: Visitor | None = None) -> HTMLResponse:
    """Write a page that says what is wrong."""
    return page("error.html", visitor, status=status, title=_TITLES.get(status, "That did not work"), said=said)


@cache
def static_file(name: str) -> tuple[bytes, str] | None:
    """Read a file that pages load, from the package that has it."""
    if name not in STATIC:
        return None
    package, path, kind = STATIC[name]
    return (files(package) / path).read_bytes(), kind
