"""The fonts of pictures, which their layout is measured with too."""

from functools import lru_cache
from typing import Final

from PIL import ImageFont

from kit.printing.paper import FONTS

_LAYOUT: Final = ImageFont.Layout.BASIC  # the same everywhere: the other one is a library that may not be there
FAMILY: Final = "DejaVu Sans, Verdana, Arial, sans-serif"


@lru_cache(maxsize=16)  # a picture has three sizes, and a scale
def font(size: float, bold: bool) -> ImageFont.FreeTypeFont:
    """DejaVu Sans of a size in pixels."""
    return ImageFont.truetype(
        FONTS / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"), size, layout_engine=_LAYOUT
    )


def text_width(text: str, size: float, bold: bool) -> float:
    """In the units of the size."""
    return float(font(size, bold).getlength(text))
