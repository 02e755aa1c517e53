"""Documents in the table `document` of a service's schema, as JSONB.

CREATE TABLE <schema>.document (
    collection text COLLATE "C", key text COLLATE "C", document jsonb NOT NULL, PRIMARY KEY (collection, key)
);
"""

from collections.abc import Mapping, Sequence

import msgspec

from kit.database.names import checked_name
from kit.database.postgres import Database
from kit.documents.store import (
    AFTER_ALL,
    DOCUMENTS_MAX,
    Document,
    checked_collection,
    checked_key,
    checked_limit,
    checked_prefix,
    encoded,
)


class PostgresDocuments:
    """The DocumentStore where the service's other tables are."""

    def __init__(self, database: Database, schema: str) -> None:
        """It does not own `database`."""
        table = f"{checked_name(schema)}.document"
        self._database = database
        self._put = (
            f"INSERT INTO {table} (collection, key, document) "  # noqa: S608 - checked name
            "SELECT $1, key, document FROM unnest($2::text[], $3::jsonb[]) AS put (key, document) "
            "ON CONFLICT (collection, key) DO UPDATE SET document = excluded.document"
        )
        self._get = f"SELECT document FROM {table} WHERE collection = $1 AND key = $2"  # noqa: S608 - checked name
        self._scan = (
            f"SELECT key, document FROM {table} "  # noqa: S608 - checked name
            "WHERE collection = $1 AND key >= $2 AND key < $3 AND key > $4 ORDER BY key LIMIT $5"
        )
        self._delete = f"DELETE FROM {table} WHERE collection = $1 AND key >= $2 AND key < $3"  # noqa: S608 - checked name

    async def put(self, collection: str, documents: Mapping[str, Document]) -> None:
        """See DocumentStore."""
        texts = {key: body.decode() for key, body in encoded(documents).items()}
        await self._database.execute(self._put, checked_collection(collection), list(texts), list(texts.values()))

    async def get(self, collection: str, key: str) -> Document | None:
        """See DocumentStore."""
        text = await self._database.fetchval(self._get, checked_collection(collection), checked_key(key))
        return None if text is None else _decoded(text)

    async def scan(
        self, collection: str, prefix: str = "", after: str = "", limit: int = DOCUMENTS_MAX
    ) -> Sequence[tuple[str, Document]]:
        """See DocumentStore."""
        start = checked_prefix(prefix)
        bounds = (start, start + AFTER_ALL, checked_prefix(after), checked_limit(limit))
        rows = await self._database.fetch(self._scan, checked_collection(collection), *bounds)
        return [(row["key"], _decoded(row["document"])) for row in rows]

    async def delete(self, collection: str, prefix: str) -> None:
        """See DocumentStore."""
        start = checked_prefix(prefix)
        await self._database.execute(self._delete, checked_collection(collection), start, start + AFTER_ALL)

    async def check_ready(self) -> None:
        """See DocumentStore."""
        await self._database.ping()

    async def close(self) -> None:
        """See DocumentStore. The database is somebody else's."""


def _decoded(text: str) -> Document:
    document: Document = msgspec.json.decode(text)
    return document
