"""Plain SVG: lines, texts and dots, and a page around them."""

from collections.abc import Sequence
from html import escape

from inverse_design.cli.console import printable

BLUE, ORANGE, INK, PALE = "#0072B2", "#D55E00", "#222222", "#DDDDDD"  # Okabe and Ito


def page(body: Sequence[str], width: float, height: float, title: str) -> str:
    """Put drawn things on a white page."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}"'
        f' height="{height:g}" font-family="sans-serif" role="img"><title>{escape(printable(title))}</title>'
        f'<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


def text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 12) -> str:
    """Write words."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{INK}">'
        f"{escape(printable(words))}</text>"
    )


def line(x1: float, y1: float, x2: float, y2: float, colour: str, *, width: int = 1) -> str:
    """Draw a straight line."""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'
    )


def dot(x: float, y: float, colour: str) -> str:
    """Draw a filled circle."""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"/>'


def square(x: float, y: float, colour: str) -> str:
    """Draw a filled square."""
    return f'<rect x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10" fill="{colour}"/>'


def box(x: float, y: float, width: float, height: float, colour: str) -> str:
    """Fill a rectangle."""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'
