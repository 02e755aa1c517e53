"""Entries of business changes, written in the transaction of the change: neither exists without the other."""

import getpass
import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final, NamedTuple

from kit.audit.actors import actor_of, current_request, endpoint_of
from kit.audit.entry import RECORD_SQL, Actor, encoded, entry_of, side
from kit.messaging.outbox import Transaction
from kit.observability.logs import correlation_id

SYSTEM: Final = Actor("system")
_STATEMENT_ENTRIES_MAX: Final = 100  # with two sides of ~1 kB each as a rule, of 64 kB each at most


class AuditedChange(NamedTuple):
    """A change of one thing. What is no JSON in `before` and `after` becomes text; None: there was, or is, none."""

    action: str
    entity: str
    before: Any = None
    after: Any = None
    reason: str | None = None


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
    request the system. `before` and `after`: see AuditedChange."""
    await record_all(connection, [AuditedChange(action, entity, before, after, reason)], actor=actor)


async def record_all(connection: Transaction, changes: Iterable[AuditedChange], *, actor: Actor | None = None) -> None:
    """Add an entry for each of these to the open transaction; else as `record`."""
    scope = current_request.get()
    who = actor or (SYSTEM if scope is None else actor_of(scope))
    entries = [
        entry_of(
            who,
            at=None,
            action=one.action,
            correlation_id=correlation_id.get(),
            method=None if scope is None else scope["method"],
            endpoint=None if scope is None else endpoint_of(scope),
            entity=one.entity,
            before=side(one.before),
            after=side(one.after),
            reason=one.reason,
        )
        for one in changes
    ]
    for place in range(0, len(entries), _STATEMENT_ENTRIES_MAX):
        await connection.execute(RECORD_SQL, encoded(entries[place : place + _STATEMENT_ENTRIES_MAX]))


def local_account() -> Actor:
    """Who runs a command on this machine."""
    account = "unknown"
    with suppress(OSError, KeyError, ImportError):  # an account without a name
        account = getpass.getuser()
    return Actor(f"cli/{account}", address=socket.gethostname())
