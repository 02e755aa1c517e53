"""JSON bodies: what is no text, no number or not one member is refused with its path, before any model sees it.

Python's reader takes halves of surrogate pairs, NUL, NaN and members that are there twice; databases, encoders and
whoever reads the document again do not. So every route with a JSON body is of `JsonRoute`, or of `ExactJsonRoute` where
a number is what was written and never the float nearest to it. No app mounts another (`kit.web.route_rules`).
"""

import json
import math
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar, Final

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

DIGITS_MAX: Final = 30  # of a number, before or after the point; no amount or quantity has more than 13
_CHARS_MAX: Final = 2 * DIGITS_MAX + 8  # sign, point and exponent; Decimal would take megabytes of digits
_LONG: Final = f"has more than {DIGITS_MAX} digits: write fewer"
TWICE: Final = "is there twice: which of the two is meant? Leave one out"
_HALF: Final = "has half of a surrogate pair, which is no character: write the whole pair, or leave it out"
_NUL: Final = "has a NUL character, which no text may have: leave it out"
_ESCAPE: Final = "\\u"  # without one, UTF-8 has no surrogates, and a control character such as NUL is no JSON
_SHOWN_MAX: Final = 64  # characters of a member's name


@dataclass(frozen=True, slots=True)
class _Refused:
    """Marks the place of a refused value: its path is known only when the document is read."""

    name: str  # of the member, or empty: the place itself
    why: str


class JsonRequest(Request):
    """A request whose JSON is read strictly."""

    exact: ClassVar[bool] = False

    async def json(self) -> Any:
        """See `read_json`."""
        return read_json(await self.body(), exact=self.exact)


class _ExactJsonRequest(JsonRequest):
    exact = True


class JsonRoute(APIRoute):
    """A route whose JSON is read strictly."""

    request_class: ClassVar[type[JsonRequest]] = JsonRequest

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See APIRoute."""
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handle(self.request_class(request.scope, request.receive))

        return strictly


class ExactJsonRoute(JsonRoute):
    """A route whose JSON is read strictly, and its numbers exactly: with a point or an exponent they are Decimals."""

    request_class = _ExactJsonRequest


def read_json(body: bytes, *, exact: bool) -> Any:
    """The document; `exact`: numbers with a point or an exponent are Decimals.

    Raises HTTPException 422 with the path of what is refused, 400 where the body is no UTF-8 or nested too deeply, and
    JSONDecodeError, of which FastAPI makes a 422 of its own.
    """
    refused: list[_Refused] = []
    reader = _reader(refused, exact)
    try:
        text = body.decode("utf-8-sig")
        document = reader.decode(text)
        if _ESCAPE in text:
            document = _with_checked_texts(document, refused)
        path, what = next(_places(document, "body"), ("body", None)) if refused else ("body", None)
    except RecursionError:
        raise HTTPException(400, "the body is nested too deeply: nothing here has more than a dozen levels") from None
    except UnicodeDecodeError:
        raise HTTPException(400, "the body is not UTF-8") from None
    if refused:
        wrong = what or refused[0]
        raise HTTPException(422, f"{path}/{wrong.name}".rstrip("/") + f": {wrong.why}")
    return document


def _reader(refused: list[_Refused], exact: bool) -> json.JSONDecoder:
    def refuse(name: str, why: str) -> _Refused:
        refused.append(_Refused(name, why))
        return refused[-1]

    def number(text: str) -> object:
        try:
            value = Decimal(text) if len(text) <= _CHARS_MAX else None
        except InvalidOperation:  # an exponent that is no machine's
            value = None
        return value if value is not None and stays_small(value) else refuse("", _LONG)

    def fraction(text: str) -> object:
        value = float(text) if len(text) <= _CHARS_MAX else math.inf
        return value if math.isfinite(value) else refuse("", _LONG)

    def whole(text: str) -> object:
        return int(text) if len(text.lstrip("-")) <= DIGITS_MAX else refuse("", _LONG)

    def members(pairs: list[tuple[str, Any]]) -> object:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                return refuse(_shown(name), TWICE)
            found[name] = value
        return found

    def constant(name: str) -> object:
        return refuse("", f"is {name}, which is no number of JSON: leave it out, or write null")

    return json.JSONDecoder(
        parse_float=number if exact else fraction, parse_int=whole, parse_constant=constant, object_pairs_hook=members
    )


def _with_checked_texts(value: Any, refused: list[_Refused]) -> Any:
    """The document with a mark in the place of each text, and of each member's name, that is none."""
    if isinstance(value, str):
        return _checked_text(value, "", refused)
    if isinstance(value, list):
        return [_with_checked_texts(child, refused) for child in value]
    if not isinstance(value, dict):
        return value
    checked = {name: _with_checked_texts(child, refused) for name, child in value.items()}
    for name in checked:
        wrong = _checked_text(name, _shown(name), refused)
        if isinstance(wrong, _Refused):
            return wrong
    return checked


def _checked_text(text: str, name: str, refused: list[_Refused]) -> str | _Refused:
    why = _NUL if "\0" in text else "" if text.isascii() or _is_whole(text) else _HALF
    if not why:
        return text
    refused.append(_Refused(name, why))
    return refused[-1]


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(name: str) -> str:
    """The beginning of a member's name, as it can be sent."""
    return name[:_SHOWN_MAX].encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def stays_small(value: Decimal) -> bool:
    """Whether it has at most DIGITS_MAX digits before, and after, the point."""
    exponent = value.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= -DIGITS_MAX and value.adjusted() < DIGITS_MAX


def _places(value: Any, path: str) -> Iterator[tuple[str, _Refused]]:
    """What was refused, with its path. Members that occur twice are not searched."""
    if isinstance(value, _Refused):
        yield path, value
    elif isinstance(value, dict):
        for name, child in value.items():
            yield from _places(child, f"{path}/{_shown(name)}")
    elif isinstance(value, list):
        for number, child in enumerate(value):
            yield from _places(child, f"{path}/{number}")
