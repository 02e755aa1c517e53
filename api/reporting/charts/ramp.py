"""The ramp of colours from little to much. Pure.

One hue, from almost white to almost black, with a luminance that only falls: so it reads the same for the colour-blind,
on a black-and-white printer, and in a photocopy.
"""

from typing import Final, NamedTuple


class Colour(NamedTuple):
    """sRGB, 0 to 255."""

    red: int
    green: int
    blue: int

    @property
    def hex(self) -> str:
        """#rrggbb"""
        return f"#{self.red:02x}{self.green:02x}{self.blue:02x}"


WHITE: Final = Colour(255, 255, 255)
BLACK: Final = Colour(0, 0, 0)
GREY: Final = Colour(95, 95, 95)
PALE: Final = Colour(200, 200, 200)

# Blue. Between two stops the channels change linearly; the stops are spaced for even steps of lightness.
_STOPS: Final = (
    Colour(244, 248, 252),
    Colour(205, 222, 239),
    Colour(150, 190, 222),
    Colour(84, 148, 196),
    Colour(32, 102, 164),
    Colour(8, 62, 122),
    Colour(6, 30, 66),
)


def colour_at(share: float) -> Colour:
    """The colour of a share from 0 to 1 of the largest value."""
    place = min(max(share, 0.0), 1.0) * (len(_STOPS) - 1)
    below = min(int(place), len(_STOPS) - 2)
    rest = place - below
    pairs = zip(_STOPS[below], _STOPS[below + 1], strict=True)
    return Colour(*(round(low + (high - low) * rest) for low, high in pairs))


def luminance(colour: Colour) -> float:
    """Relative luminance, 0 to 1 (WCAG 2.2)."""

    def linear(channel: int) -> float:
        share = channel / 255
        return share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4

    return 0.2126 * linear(colour.red) + 0.7152 * linear(colour.green) + 0.0722 * linear(colour.blue)


def contrast(one: Colour, other: Colour) -> float:
    """Contrast ratio, 1 to 21 (WCAG 2.2)."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def text_colour(fill: Colour) -> Colour:
    """Black or white, whichever is read better on that colour."""
    return max((BLACK, WHITE), key=lambda colour: contrast(colour, fill))
