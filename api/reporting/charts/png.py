"""Writes a picture as PNG. The same picture gives the same bytes."""

from io import BytesIO
from typing import Final

from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from api.reporting.charts.fonts import font
from api.reporting.charts.shapes import Anchor, Line, Picture, Rectangle

MEDIA_TYPE: Final = "image/png"
SCALE: Final = 2  # sharp on screens of 192 dots an inch, and on paper
_DOTS_PER_INCH: Final = 96
_ANCHORS: Final[dict[Anchor, str]] = {"start": "lm", "middle": "mm", "end": "rm"}


def to_png(picture: Picture) -> bytes:
    """The file."""
    image = Image.new("RGB", (round(picture.width * SCALE), round(picture.height * SCALE)), "white")
    draw = ImageDraw.Draw(image)
    for shape in picture.shapes:
        if isinstance(shape, Rectangle):
            right, bottom = shape.x + shape.width, shape.y + shape.height  # Pillow draws the last pixel, too
            corners = (_px(shape.x), _px(shape.y), _px(right) - 1, _px(bottom) - 1)
            draw.rectangle(corners, fill=tuple(shape.fill))
        elif isinstance(shape, Line):
            draw.line((_px(shape.x1), _px(shape.y1), _px(shape.x2), _px(shape.y2)), tuple(shape.colour), SCALE)
        else:
            place = (shape.x * SCALE, shape.y * SCALE)
            chosen = font(shape.size * SCALE, shape.bold)
            draw.text(place, shape.text, tuple(shape.colour), chosen, anchor=_ANCHORS[shape.anchor])
    about = PngInfo()
    about.add_itxt("Title", picture.title)
    about.add_itxt("Description", picture.description)
    file = BytesIO()
    image.save(file, "PNG", optimize=True, dpi=(_DOTS_PER_INCH * SCALE,) * 2, pnginfo=about)
    return file.getvalue()


def _px(number: float) -> int:
    return round(number * SCALE)
