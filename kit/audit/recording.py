"""Entries of business changes, written in the transaction of the change: neither exists without the other."""

import getpass
import socket
from contextlib import suppress
from typing import Any, Final

from kit.audit.actors import actor_of, current_request, endpoint_of
from kit.audit.entry import RECORD_SQL, Actor, encoded, entry_of, side
from kit.messaging.outbox import Transaction
from kit.observability.logs import correlation_id

SYSTEM: Final = Actor("system")


async def record(
    connection: Transaction,
    action: str,
    entity: str,
    *,
    before: Any = None,
    after: Any = None,
    reason: str | None = None,
    actor: Actor | None = None,
) -> None:
    """Add an entry to the open transaction. `actor`: by default who sent the request that is handled; outside of a
    request the system. `before` and `after`: what is no JSON in them becomes text."""
    scope = current_request.get()
    who = actor or (SYSTEM if scope is None else actor_of(scope))
    entry = entry_of(
        who,
        at=None,
        action=action,
        correlation_id=correlation_id.get(),
        method=None if scope is None else scope["method"],
        endpoint=None if scope is None else endpoint_of(scope),
        entity=entity,
        before=side(before),
        after=side(after),
        reason=reason,
    )
    await connection.execute(RECORD_SQL, encoded([entry]))


def local_account() -> Actor:
    """Who runs a command on this machine."""
    account = "unknown"
    with suppress(OSError, KeyError, ImportError):  # an account without a name
        account = getpass.getuser()
    return Actor(f"cli/{account}", address=socket.gethostname())
