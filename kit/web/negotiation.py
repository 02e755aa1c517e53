"""Which of the formats on offer a client wants: the `Accept` header of RFC 9110, section 12.5.1."""

from collections.abc import Sequence

from kit.web.errors import NotAcceptable


def choose(accept: str | None, offered: Sequence[str]) -> str:
    """The offered media type of the highest quality, the first offered of equals; no header takes the first.

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
    """Of the most specific range that matches: the type itself, then `text/*`, then `*/*`."""
    for pattern in (media, f"{media.partition('/')[0]}/*", "*/*"):
        for candidate, quality in ranges:
            if candidate == pattern:
                return quality
    return 0.0
