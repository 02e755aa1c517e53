"""JSON bodies read exactly: a number is what was written, never the float nearest to it, and no key is there twice."""

import json
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

DIGITS_MAX: Final = 30  # of a number, before or after the point; no amount or quantity has more than 13
_LONG: Final = f"has more than {DIGITS_MAX} digits: write fewer"
_CHARS_MAX: Final = 2 * DIGITS_MAX + 8  # sign, point and exponent; Decimal would take megabytes of digits


@dataclass(frozen=True, slots=True)
class _Refused:
    """Marks the place of a refused value: its path is known only when the document is read."""

    name: str  # of the member, or empty: the place itself
    why: str


class ExactJsonRoute(APIRoute):
    """A route whose JSON is read exactly."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See APIRoute."""
        handle = super().get_route_handler()

        async def exactly(request: Request) -> Response:
            return await handle(ExactRequest(request.scope, request.receive))

        return exactly


class ExactRequest(Request):
    """A request whose JSON is read exactly."""

    async def json(self) -> Any:
        """Numbers with a point or an exponent are Decimals. Raises HTTPException 422, with the path, and 400."""
        return exact_json(await self.body())


def exact_json(body: bytes) -> Any:
    """As `ExactRequest.json`. Raises JSONDecodeError too, which FastAPI makes its own of."""
    refused: list[_Refused] = []

    def refuse(name: str, why: str) -> _Refused:
        refused.append(_Refused(name, why))
        return refused[-1]

    def number(text: str) -> object:
        try:
            value = Decimal(text) if len(text) <= _CHARS_MAX else None
        except InvalidOperation:  # an exponent that is no machine's
            value = None
        return value if value is not None and stays_small(value) else refuse("", _LONG)

    def whole(text: str) -> object:
        return int(text) if len(text) <= _CHARS_MAX else refuse("", _LONG)

    def members(pairs: list[tuple[str, Any]]) -> object:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                return refuse(name, "is there twice: which of the two is meant? Leave one out")
            found[name] = value
        return found

    try:
        document = json.loads(body, parse_float=number, parse_int=whole, object_pairs_hook=members)
    except RecursionError:
        raise HTTPException(400, "the body is nested too deeply: nothing here has more than a dozen levels") from None
    except UnicodeDecodeError:
        raise HTTPException(400, "the body is not UTF-8") from None
    if refused:
        path, what = next(_places(document, "body"), ("body", refused[0]))
        where = f"{path}/{what.name}".rstrip("/")
        raise HTTPException(422, f"{where}: {what.why}")
    return document


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
            yield from _places(child, f"{path}/{name}")
    elif isinstance(value, list):
        for number, child in enumerate(value):
            yield from _places(child, f"{path}/{number}")
