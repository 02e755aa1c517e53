"""The SQL of recipients, edited templates, and what events said of sessions, stations and alarms."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from api.notifications.kinds import Category, Channel, Mode
from api.notifications.notices.alarm_window import AlarmWindow
from api.notifications.templates.rendering import TemplateSource
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction

_RECIPIENTS: Final = """
SELECT subject, language, time_zone, quiet_from_min, quiet_until_min, digest_at_min, addresses, modes, gone, updated_at,
       updated_by
FROM notifications.recipient WHERE subject = ANY ($1::text[])
"""
# A channel that is gone stays so as long as its address is the same.
_PUT_RECIPIENT: Final = """
INSERT INTO notifications.recipient AS r (subject, language, time_zone, quiet_from_min, quiet_until_min, digest_at_min,
                                          addresses, modes, updated_at, updated_by)
VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb, $8::jsonb, $9, $10)
ON CONFLICT (subject) DO UPDATE SET
    (language, time_zone, quiet_from_min, quiet_until_min, digest_at_min, addresses, modes, updated_at, updated_by) =
    ($2, $3, $4, $5, $6, $7::jsonb, $8::jsonb, $9, $10),
    gone = (SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each(r.gone)
            WHERE value ->> 'address' = $7::jsonb ->> key)
"""
_ADDRESS_GONE: Final = """
UPDATE notifications.recipient
SET gone = gone || jsonb_build_object($2::text, jsonb_build_object('address', $3::text, 'reason', $4::text))
WHERE subject = $1 AND addresses ->> $2 = $3
"""
_TEMPLATES: Final = """
SELECT kind, channel, language, title, body, html, version, error, updated_at, updated_by FROM notifications.template
"""
_TEMPLATES_OF: Final = f"{_TEMPLATES} WHERE kind = ANY ($1::text[])"
_TEMPLATE: Final = f"{_TEMPLATES} WHERE kind = $1 AND channel = $2 AND language = $3"
_PUT_TEMPLATE: Final = """
INSERT INTO notifications.template (kind, channel, language, title, body, html, version, updated_at, updated_by)
VALUES ($1, $2, $3, $4, $5, $6, 1, $8, $9)
ON CONFLICT (kind, channel, language) DO UPDATE
SET (title, body, html, version, error, updated_at, updated_by) = ($4, $5, $6, template.version + 1, NULL, $8, $9)
WHERE template.version = $7
RETURNING version
"""
_DELETE_TEMPLATE: Final = "DELETE FROM notifications.template WHERE kind = $1 AND channel = $2 AND language = $3"
_TEMPLATE_BROKEN: Final = """
UPDATE notifications.template SET error = $4
WHERE kind = $1 AND channel = $2 AND language = $3 AND version = $5 AND error IS DISTINCT FROM $4
"""
_ALARMS: Final = """
SELECT place, cause, window_ends_at, in_window FROM notifications.alarm
WHERE (place, cause) IN (SELECT * FROM unnest($1::text[], $2::text[])) ORDER BY place, cause FOR UPDATE
"""
_PUT_ALARMS: Final = """
INSERT INTO notifications.alarm (place, cause, window_ends_at, in_window)
SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::int[]) AS a (p, c, e, n) ORDER BY p, c
ON CONFLICT (place, cause) DO UPDATE SET (window_ends_at, in_window) = (excluded.window_ends_at, excluded.in_window)
"""
# One batch of alarms at a time: two that do not know of each other would both be sent at once.
_LOCK_ALARMS: Final = "SELECT pg_advisory_xact_lock(hashtextextended('voltstream notifications alarms', 0))"
_NEWER_STATUS: Final = """
INSERT INTO notifications.connector_status AS s (station_id, connector_id, revision)
SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[]) AS c (s, n, r) ORDER BY s, n
ON CONFLICT (station_id, connector_id) DO UPDATE SET revision = excluded.revision WHERE s.revision < excluded.revision
RETURNING station_id, connector_id
"""
_PUT_STATION: Final = """
INSERT INTO notifications.station AS s (station_id, revision, site, name) VALUES ($1, $2, $3, $4)
ON CONFLICT (station_id) DO UPDATE SET (revision, site, name) = ($2, $3, $4) WHERE s.revision < $2
"""
_STATIONS: Final = "SELECT station_id, site, name FROM notifications.station WHERE station_id = ANY ($1::text[])"
_SESSION: Final = """
INSERT INTO notifications.session AS s (id, driver_id, assignment, started, completed, heard_at)
VALUES ($1, $2, $3, $4::jsonb, $5::jsonb, $6)
ON CONFLICT (id) DO UPDATE SET
    driver_id = CASE WHEN s.assignment < $3 THEN $2 ELSE s.driver_id END, assignment = greatest(s.assignment, $3),
    started = coalesce(s.started, $4::jsonb), completed = coalesce(s.completed, $5::jsonb), heard_at = $6
RETURNING driver_id, started, completed
"""
_FORGET: Final = (
    "DELETE FROM notifications.session WHERE heard_at < $1",
    "DELETE FROM notifications.alarm WHERE window_ends_at < $1",
)


@dataclass(frozen=True, slots=True)
class StoredRecipient:
    """What is stored of a recipient, as it is written."""

    subject: str
    language: str | None
    time_zone: str | None
    quiet: tuple[int, int] | None  # minutes after local midnight, [from, until)
    digest_at_min: int
    addresses: Mapping[str, str]
    modes: Mapping[Category, Mapping[Channel, Mode]]
    updated_at: datetime
    updated_by: str


@dataclass(frozen=True, slots=True)
class EditedTemplate:
    """A template that an operator wrote. `error`: why it could not be rendered last."""

    source: TemplateSource
    version: int
    error: str | None
    updated_at: datetime
    updated_by: str


TemplateKey = tuple[str, str, str]
"""Kind, channel, language."""


async def recipients(connection: Transaction | Database, subjects: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The rows of these subjects, addresses, modes and gone ones decoded; nothing of those who never chose anything."""
    found = {}
    for row in await connection.fetch(_RECIPIENTS, list(subjects)):
        columns = dict(row)
        for name in ("addresses", "modes", "gone"):
            columns[name] = msgspec.json.decode(columns[name])
        found[row["subject"]] = columns
    return found


async def put_recipient(connection: Transaction, recipient: StoredRecipient) -> None:
    """Replace what is stored of a recipient."""
    await connection.execute(
        _PUT_RECIPIENT,
        recipient.subject,
        recipient.language,
        recipient.time_zone,
        *(recipient.quiet or (None, None)),
        recipient.digest_at_min,
        _json(recipient.addresses),
        _json(recipient.modes),
        recipient.updated_at,
        recipient.updated_by,
    )


async def address_is_gone(connection: Transaction, subject: str, channel: Channel, address: str, reason: str) -> None:
    """Nothing more goes to that address of the recipient."""
    await connection.execute(_ADDRESS_GONE, subject, channel, address, reason)


async def edited_templates(
    connection: Transaction | Database, kinds: Iterable[str] | None = None
) -> dict[TemplateKey, EditedTemplate]:
    """Those of these kinds, or all: an operator's work, a few dozen."""
    rows = await (connection.fetch(_TEMPLATES) if kinds is None else connection.fetch(_TEMPLATES_OF, list(kinds)))
    return {_key(row): _template(row) for row in rows}


async def edited_template(connection: Transaction | Database, key: TemplateKey) -> EditedTemplate | None:
    """One of them."""
    row = await connection.fetchrow(_TEMPLATE, *key)
    return None if row is None else _template(row)


async def put_template(
    connection: Transaction, key: TemplateKey, source: TemplateSource, version: int, now: datetime, editor: str
) -> int | None:
    """Replace the version that the editor read (0: the built-in one). The new version; None: another was faster."""
    parts = (source.title, source.body, source.html)
    put: int | None = await connection.fetchval(_PUT_TEMPLATE, *key, *parts, version, now, editor)
    return put


async def delete_template(connection: Transaction, key: TemplateKey) -> None:
    """Back to the built-in one."""
    await connection.execute(_DELETE_TEMPLATE, *key)


async def template_is_broken(connection: Transaction, key: TemplateKey, version: int, error: str) -> None:
    """Record why it could not be rendered."""
    await connection.execute(_TEMPLATE_BROKEN, *key, error, version)


async def alarm_windows(
    connection: Transaction, alarms: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], AlarmWindow]:
    """The windows of these (place, cause), which nobody else changes until the transaction ends."""
    await connection.execute(_LOCK_ALARMS)
    rows = await connection.fetch(_ALARMS, *zip(*alarms, strict=True))
    return {(row["place"], row["cause"]): AlarmWindow(row["window_ends_at"], row["in_window"]) for row in rows}


async def put_alarm_windows(connection: Transaction, windows: Mapping[tuple[str, str], AlarmWindow]) -> None:
    """Store them."""
    rows = [(*key, window.ends_at, window.collected) for key, window in windows.items()]
    await connection.execute(_PUT_ALARMS, *zip(*rows, strict=True))


async def newer_statuses(connection: Transaction, changes: Mapping[tuple[str, int], int]) -> set[tuple[str, int]]:
    """Record these revisions by (station, connector). Those that are newer than what was recorded."""
    rows = [(*key, revision) for key, revision in changes.items()]
    found = await connection.fetch(_NEWER_STATUS, *zip(*rows, strict=True))
    return {(row["station_id"], row["connector_id"]) for row in found}


async def put_station(
    connection: Transaction, station_id: str, revision: int, site: str | None, name: str | None
) -> None:
    """Record where a station stands, if that is the newest word."""
    await connection.execute(_PUT_STATION, station_id, revision, site, name)


async def stations(connection: Transaction, station_ids: Iterable[str]) -> dict[str, asyncpg.Record]:
    """Site and name of these stations, as far as they are known."""
    return {row["station_id"]: row for row in await connection.fetch(_STATIONS, list(station_ids))}


async def merge_session(
    connection: Transaction,
    id_: UUID,
    now: datetime,
    *,
    driver: tuple[int, str | None] = (0, None),
    started: Mapping[str, Any] | None = None,
    completed: Mapping[str, Any] | None = None,
) -> tuple[str | None, Mapping[str, Any] | None, Mapping[str, Any] | None]:
    """Add to what is known of a session, first words staying, and of `driver` (revision, id) the highest revision.
    Returns the driver, the start and the completion that are known now."""
    revision, driver_id = driver
    row = await connection.fetchrow(
        _SESSION, id_, driver_id, revision, started and _json(started), completed and _json(completed), now
    )
    assert row is not None  # noqa: S101  # an upsert returns its row
    return row["driver_id"], _decoded(row["started"]), _decoded(row["completed"])


async def forget(database: Database, before: datetime) -> None:
    """Delete what events said before that moment."""
    for statement in _FORGET:
        await database.execute(statement, before)


def _key(row: asyncpg.Record) -> TemplateKey:
    return row["kind"], row["channel"], row["language"]


def _template(row: asyncpg.Record) -> EditedTemplate:
    source = TemplateSource(row["title"], row["body"], row["html"])
    return EditedTemplate(source, row["version"], row["error"], row["updated_at"], row["updated_by"])


def _json(document: Mapping[Any, Any]) -> str:
    return msgspec.json.encode(document).decode()


def _decoded(text: str | None) -> Mapping[str, Any] | None:
    return None if text is None else msgspec.json.decode(text)
