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
_EDITED: Final = f"{_TEMPLATES} WHERE body IS NOT NULL"  # one that was reset keeps its row for the version
_EDITED_OF: Final = f"{_EDITED} AND kind = ANY ($1::text[])"
_TEMPLATE: Final = f"{_TEMPLATES} WHERE kind = $1 AND channel = $2 AND language = $3"
_PUT_TEMPLATE: Final = """
INSERT INTO notifications.template (kind, channel, language, title, body, html, version, updated_at, updated_by)
VALUES ($1, $2, $3, $4, $5, $6, 1, $8, $9)
ON CONFLICT (kind, channel, language) DO UPDATE
SET (title, body, html, version, error, updated_at, updated_by) = ($4, $5, $6, template.version + 1, NULL, $8, $9)
WHERE template.version = $7
RETURNING version
"""
_RESET_TEMPLATE: Final = """
UPDATE notifications.template
SET (title, body, html, version, error, updated_at, updated_by) = (NULL, NULL, NULL, version + 1, NULL, $4, $5)
WHERE kind = $1 AND channel = $2 AND language = $3 AND body IS NOT NULL
"""
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
    rows = await (connection.fetch(_EDITED) if kinds is None else connection.fetch(_EDITED_OF, list(kinds)))
    return {_key(row): _template(row) for row in rows}


async def edited_template(connection: Transaction | Database, key: TemplateKey) -> tuple[EditedTemplate | None, int]:
    """One of them; None: the built-in one is in use. The version, which goes on when a template is reset."""
    row = await connection.fetchrow(_TEMPLATE, *key)
    if row is None:
        return None, 0
    return None if row["body"] is None else _template(row), row["version"]


async def put_template(
    connection: Transaction, key: TemplateKey, source: TemplateSource, version: int, now: datetime, editor: str
) -> int | None:
    """Replace the version that the editor read (0: it was never edited). The new version; None: another was faster."""
    parts = (source.title, source.body, source.html)
    put: int | None = await connection.fetchval(_PUT_TEMPLATE, *key, *parts, version, now, editor)
    return put


async def reset_template(connection: Transaction, key: TemplateKey, now: datetime, editor: str) -> None:
    """Back to the built-in one, as a new version; nothing where it is in use."""
    await connection.execute(_RESET_TEMPLATE, *key, now, editor)


async def template_is_broken(connection: Transaction, key: TemplateKey, version: int, error: str) -> None:
    """Record why it could not be rendered."""
    await connection.execute(_TEMPLATE_BROKEN, *key, error, version)


def _key(row: asyncpg.Record) -> TemplateKey:
    return row["kind"], row["channel"], row["language"]


def _template(row: asyncpg.Record) -> EditedTemplate:
    source = TemplateSource(row["title"], row["body"], row["html"])
    return EditedTemplate(source, row["version"], row["error"], row["updated_at"], row["updated_by"])
