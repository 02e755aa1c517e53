"""The SQL of recipients."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from api.notifications.kinds import Category, Channel, Mode
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


def _json(document: Mapping[Any, Any]) -> str:
    return msgspec.json.encode(document).decode()
