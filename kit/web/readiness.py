"""Readiness: named checks, run together, each within a bound."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from kit.errors import KitError
from kit.observability.logs import get_logger

# A probe asks every few seconds and gives up after a few: an answer later than this is none.
_CHECK_S_MAX: Final = 2.0

ReadyCheck = Callable[[], Awaitable[object]]
"""Returns when what it looks at works; raises when not. The text of a KitError is shown to whoever asks /ready."""

_log = get_logger(__name__)


async def failures(checks: Mapping[str, ReadyCheck]) -> dict[str, str]:
    """The checks that fail and why, in the order given."""
    reasons = await asyncio.gather(*(_reason(name, check) for name, check in checks.items()))
    return {name: reason for name, reason in zip(checks, reasons, strict=True) if reason}


async def _reason(name: str, check: ReadyCheck) -> str:
    try:
        async with asyncio.timeout(_CHECK_S_MAX):
            await check()
    except TimeoutError:
        return f"no answer within {_CHECK_S_MAX:.0f} s"
    except KitError as error:
        return str(error)
    except Exception as error:
        # What an unforeseen error says may be of our insides: the log has it, the answer only its kind.
        _log.warning("ready_check_failed", check=name, exc_info=True)
        return type(error).__name__
    return ""
