"""Writes a picture as SVG. Pure: the same picture gives the same bytes."""

from typing import Final
from xml.sax.saxutils import escape, quoteattr

from api.reporting.charts.fonts import FAMILY
from api.reporting.charts.shapes import Line, Picture, Rectangle

MEDIA_TYPE: Final = "image/svg+xml"


def to_svg(picture: Picture) -> bytes:
    """The file, UTF-8."""
    size = f'width="{picture.width:g}" height="{picture.height:g}" viewBox="0 0 {picture.width:g} {picture.height:g}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family={quoteattr(FAMILY)}>',
        f"<title>{escape(picture.title)}</title>",
        f"<desc>{escape(picture.description)}</desc>",
        f'<rect width="{picture.width:g}" height="{picture.height:g}" fill="#ffffff"/>',
    ]
    for shape in picture.shapes:
        if isinstance(shape, Rectangle):
            place = f'x="{_n(shape.x)}" y="{_n(shape.y)}" width="{_n(shape.width)}" height="{_n(shape.height)}"'
            lines.append(f'<rect {place} fill="{shape.fill.hex}"/>')
        elif isinstance(shape, Line):
            place = f'x1="{_n(shape.x1)}" y1="{_n(shape.y1)}" x2="{_n(shape.x2)}" y2="{_n(shape.y2)}"'
            lines.append(f'<line {place} stroke="{shape.colour.hex}"/>')
        else:
            weight = ' font-weight="bold"' if shape.bold else ""
            anchor = f' text-anchor="{shape.anchor}"' if shape.anchor != "start" else ""
            place = f'x="{_n(shape.x)}" y="{_n(shape.y)}" dy="0.35em" font-size="{shape.size:g}"'
            lines.append(f'<text {place} fill="{shape.colour.hex}"{anchor}{weight}>{escape(shape.text)}</text>')
    lines.append("</svg>\n")
    return "\n".join(lines).encode()


def _n(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".")
