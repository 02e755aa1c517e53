"""What a picture is drawn from, before anybody draws it. Pure."""

from typing import Literal, NamedTuple

from api.reporting.charts.ramp import BLACK, Colour

Anchor = Literal["start", "middle", "end"]


class Rectangle(NamedTuple):
    """Filled, without a border."""

    x: float
    y: float
    width: float
    height: float
    fill: Colour


class Line(NamedTuple):
    """A thin one."""

    x1: float
    y1: float
    x2: float
    y2: float
    colour: Colour


class Text(NamedTuple):
    """One line of text, centred vertically on y."""

    x: float
    y: float
    text: str
    size: float
    colour: Colour = BLACK
    anchor: Anchor = "start"
    bold: bool = False


class Picture(NamedTuple):
    """Shapes in the order in which they are drawn, on white."""

    width: float
    height: float
    title: str
    description: str  # for those who do not see it
    shapes: tuple[Rectangle | Line | Text, ...]
