"""Plain SVG: lines, texts and dots, and a page around them."""

from collections.abc import Sequence
from html import escape

from inverse_design.cli.console import printable

BLUE, ORANGE, INK, PALE = "#0072B2", "#D55E00", "#222222", "#DDDDDD"  # Okabe and Ito


def page(body: Sequence[str], width: float, height: float, title: str) -> str:
    """Put drawn things on a white page.

    Args:
        body: Elements, the lowest first.
        width: In pixels.
        height: In pixels.
        title: What the page shows, for those who do not see it.

    Returns:
        The picture.
    """
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}"'
        f' height="{height:g}" font-family="sans-serif" role="img"><title>{escape(printable(title))}</title>'
        f'<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


def text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 12) -> str:
    """Write words.

    Args:
        x: Where they begin, end, or have their middle.
        y: Their base line.
        words: One line.
        anchor: ``start``, ``middle`` or ``end``.
        size: In pixels.

    Returns:
        The element.
    """
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{INK}">'
        f"{escape(printable(words))}</text>"
    )


def line(x1: float, y1: float, x2: float, y2: float, colour: str, *, width: int = 1) -> str:
    """Draw a straight line.

    Args:
        x1: Its first end.
        y1: Its first end.
        x2: Its other end.
        y2: Its other end.
        colour: Of the line.
        width: In pixels.

    Returns:
        The element.
    """
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'
    )


def dot(x: float, y: float, colour: str) -> str:
    """Draw a filled circle.

    Args:
        x: Its middle.
        y: Its middle.
        colour: Of its inside.

    Returns:
        The element.
    """
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"/>'


def square(x: float, y: float, colour: str) -> str:
    """Draw a filled square.

    Args:
        x: Its middle.
        y: Its middle.
        colour: Of its inside.

    Returns:
        The element.
    """
    return f'<rect x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10" fill="{colour}"/>'


def box(x: float, y: float, width: float, height: float, colour: str) -> str:
    """Fill a rectangle.

    Args:
        x: Left edge.
        y: Upper edge.
        width: In pixels.
        height: In pixels.
        colour: Of its inside.

    Returns:
        The element.
    """
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'
