"""The SQL of exports and erasures: the functions that services publish, and the erasures that were done."""

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Final, NamedTuple

import msgspec

from kit.database.names import checked_name
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction

_EXPORT: Final = "SELECT kind, record::text FROM {schema}.personal_data_export($1)"
_OPEN: Final = "SELECT kind, what FROM {schema}.personal_data_open($1, $2)"
_ERASE: Final = "SELECT kind, erased, newest_kept FROM {schema}.personal_data_erase($1, $2)"
_KEY: Final = "SELECT key FROM privacy.hashing_key"
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('privacy/' || encode($1, 'hex'), 0))"
_KNOWN: Final = "SELECT erased_at, erased FROM privacy.erasure WHERE subject_hash = $1"
_PUT: Final = """
INSERT INTO privacy.erasure (subject_hash, erased_at, erased) VALUES ($1, $2, $3::jsonb)
ON CONFLICT (subject_hash) DO UPDATE SET erased_at = excluded.erased_at, erased = excluded.erased
"""
_AT_ONCE: Final = 100  # records fetched together; most are ~1 kB, one with a charge's consumption 50 kB


class Erased(NamedTuple):
    """What became of one kind of data of a schema."""

    kind: str
    records: int
    newest_kept: datetime | None  # the moment of the newest record that stays


async def hashing_key(database: Database) -> bytes:
    """The key that subjects are hashed with, 32 bytes."""
    key: bytes = await database.fetchval(_KEY)
    return key


async def records(connection: Transaction, schema: str, subject: str) -> AsyncIterator[tuple[str, str]]:
    """(kind, JSON) of each record of the subject; those of a kind together."""
    async for row in connection.cursor(_EXPORT.format(schema=checked_name(schema)), subject, prefetch=_AT_ONCE):
        yield row["kind"], row["record"]


async def open_matters(connection: Transaction, schema: str, subject: str, now: datetime) -> list[tuple[str, str]]:
    """(kind, what) of all that keeps the subject from being erased; nothing is added to it until the transaction
    ends."""
    rows = await connection.fetch(_OPEN.format(schema=checked_name(schema)), subject, now)
    return [(row["kind"], row["what"]) for row in rows]


async def erase(connection: Transaction, schema: str, subject: str, pseudonym: str) -> list[Erased]:
    """Erase the subject in a schema."""
    rows = await connection.fetch(_ERASE.format(schema=checked_name(schema)), subject, pseudonym)
    return [Erased(*row) for row in rows]


async def lock(connection: Transaction, subject_hash: bytes) -> None:
    """Nobody else erases the subject until the transaction ends."""
    await connection.execute(_LOCK, subject_hash)


async def known_erasure(connection: Transaction, subject_hash: bytes) -> tuple[datetime, dict[str, int]] | None:
    """The last erasure that erased anything: its moment, and the records by kind."""
    row = await connection.fetchrow(_KNOWN, subject_hash)
    return None if row is None else (row["erased_at"], msgspec.json.decode(row["erased"], type=dict[str, int]))


async def put_erasure(connection: Transaction, subject_hash: bytes, now: datetime, erased: Mapping[str, int]) -> None:
    """Note an erasure, in place of an earlier one."""
    await connection.execute(_PUT, subject_hash, now, msgspec.json.encode(erased).decode())
