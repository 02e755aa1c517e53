"""The SQL of edited templates."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from api.notifications.templates.rendering import TemplateSource
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction

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


def _key(row: asyncpg.Record) -> TemplateKey:
    return row["kind"], row["channel"], row["language"]


def _template(row: asyncpg.Record) -> EditedTemplate:
    source = TemplateSource(row["title"], row["body"], row["html"])
    return EditedTemplate(source, row["version"], row["error"], row["updated_at"], row["updated_by"])
