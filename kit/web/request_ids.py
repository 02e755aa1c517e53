"""What every response has beside what it answers: its correlation id, given or new, and whether it may be kept. And the
span of a request."""

import random
import re
from typing import Final

from opentelemetry.trace import Span, Status, StatusCode

CORRELATION_HEADER: Final = "X-Correlation-ID"
CORRELATION_KEY: Final = CORRELATION_HEADER.lower().encode()
IDS_OF_ONE_REQUEST: Final = frozenset({CORRELATION_KEY, b"traceparent"})  # headers that differ with every request
NO_STORE: Final = (b"cache-control", b"no-store")  # a header
# Another: an answer of the API that a browser is led to runs and loads nothing, whatever text of others is in it.
NO_CONTENT: Final = (b"content-security-policy", b"default-src 'none'")
# Printable ASCII: it goes into headers, logs and messages as it is.
_CORRELATION_ID: Final = re.compile(rb"[\x21-\x7e](?:[\x20-\x7e]{0,126}[\x21-\x7e])?")


def correlation_id_of(given: bytes) -> str:
    """The header's value if it may be used as it is, else a new id."""
    if given and _CORRELATION_ID.fullmatch(given):
        return given.decode("ascii")
    return f"{random.getrandbits(128):032x}"  # as a trace's ids


def end_span(span: Span, method: str, route: str, path: str, status: int) -> None:
    """End the span of a request that was answered with `status`."""
    if span.is_recording():
        span.update_name(f"{method} {route}")
        span.set_attributes({"http.request.method": method, "http.route": route, "url.path": path})
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))
    span.end()
