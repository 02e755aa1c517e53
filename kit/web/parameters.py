"""Parts of routes that every service needs: the cursor parameter, the format that a client accepts, and descriptions of
responses for OpenAPI."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from fastapi import Query

from kit.web.errors import NotAcceptable
from kit.web.paging import CURSOR_CHARS_MAX

JSON: Final = "application/json"

CursorInQuery = Annotated[
    str | None,
    Query(max_length=CURSOR_CHARS_MAX, description="where the last page ended, from its `next`; leave it out to begin"),
]


def problems(more: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an operation: the problems that are its own, by status. Those that follow from its rules,
    parameters and body are derived (kit/web/openapi.py)."""
    return {status: {"description": text} for status, text in more.items()}


def example(value: Any) -> dict[str, Any]:
    """The content of a JSON response, with an example."""
    return {"content": {JSON: {"example": value}}}


def choose(accept: str | None, offered: Sequence[str]) -> str:
    """The offered media type that an `Accept` header (RFC 9110, section 12.5.1) gives the highest quality, the first
    offered of equals; no header takes the first.

    Raises NotAcceptable, naming the offer, where nothing fits. Ranges that cannot be read count as absent.
    """
    if accept is None or not accept.strip():
        return offered[0]
    ranges = [parsed for part in accept.lower().split(",") if (parsed := _parse_range(part))]
    best = max(offered, key=lambda media: _quality(media, ranges))  # max keeps the first of equals
    if _quality(best, ranges) > 0:
        return best
    raise NotAcceptable(f"this resource is offered as {', '.join(offered)}; ask for one of them in Accept")


def _parse_range(part: str) -> tuple[str, float] | None:
    media, *parameters = (piece.strip() for piece in part.split(";"))
    quality = next((value.removeprefix("q=") for value in parameters if value.startswith("q=")), "1")
    try:
        return media, min(max(float(quality), 0.0), 1.0)
    except ValueError:
        return None


def _quality(media: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The quality of the most specific range that matches: the type itself, then `text/*`, then `*/*`."""
    for pattern in (media, f"{media.partition('/')[0]}/*", "*/*"):
        for candidate, quality in ranges:
            if candidate == pattern:
                return quality
    return 0.0
