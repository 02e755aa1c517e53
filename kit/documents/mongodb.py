"""Documents in MongoDB: a collection each, `{_id: key, document: {…}}`.

Nothing but single documents by key, so any server that speaks the protocol will do: no transaction, no change stream,
no server-side JavaScript. Writes wait for a majority.
"""

import contextlib
import warnings
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Final

from pymongo import ASCENDING, AsyncMongoClient, ReplaceOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    ExecutionTimeout,
    InvalidURI,
    OperationFailure,
    PyMongoError,
    WTimeoutError,
)
from pymongo.write_concern import WriteConcern

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
from kit.errors import Unavailable
from kit.secrets.text import ca_file_of
from kit.secrets.urls import check_url, without_secrets, wrong_url
from kit.tls import asks_for_tls, refusal_in

DATABASE: Final = "voltstream"  # where the URL names none
_CONNECT_MS: Final = 5_000  # a server that accepts no connection within this time counts as down, as with PostgreSQL
_ANSWER_MS: Final = 30_000
_CONNECTIONS_MAX: Final = 8
_OUTAGES: Final = (ConnectionFailure, WTimeoutError, ExecutionTimeout)
_LOGIN_CODES: Final = frozenset({13, 18})  # Unauthorized, AuthenticationFailed


class MongoDocuments:
    """The DocumentStore of a MongoDB server."""

    def __init__(self, url: str, *, connect_ms: int = _CONNECT_MS) -> None:
        """Connects at the first use. Raises ConfigError for a wrong URL; of one from a file, Unavailable."""
        self._url = url
        try:
            check_url(url)
            self._client = _client(url, connect_ms)
        except (InvalidURI, ConfigurationError, ValueError, UserWarning) as error:
            raise wrong_url(url, error, "VOLTSTREAM_MONGODB_URL") from None
        self._database = self._client.get_default_database(DATABASE, write_concern=WriteConcern("majority"))

    async def put(self, collection: str, documents: Mapping[str, Document]) -> None:
        """See DocumentStore."""
        encoded(documents)
        writes = [
            ReplaceOne({"_id": key}, {"_id": key, "document": document}, upsert=True)
            for key, document in documents.items()
        ]
        if writes:
            with _outages(self._url):
                await self._collection(collection).bulk_write(writes, ordered=False)

    async def get(self, collection: str, key: str) -> Document | None:
        """See DocumentStore."""
        with _outages(self._url):
            found = await self._collection(collection).find_one({"_id": checked_key(key)})
        return None if found is None else found["document"]

    async def scan(
        self, collection: str, prefix: str = "", after: str = "", limit: int = DOCUMENTS_MAX
    ) -> Sequence[tuple[str, Document]]:
        """See DocumentStore."""
        keys = {**_range(prefix), "$gt": checked_prefix(after)}
        with _outages(self._url):
            found = self._collection(collection).find({"_id": keys}).sort("_id", ASCENDING)
            return [(one["_id"], one["document"]) for one in await found.limit(checked_limit(limit)).to_list()]

    async def delete(self, collection: str, prefix: str) -> None:
        """See DocumentStore."""
        with _outages(self._url):
            await self._collection(collection).delete_many({"_id": _range(prefix)})

    async def check_ready(self) -> None:
        """See DocumentStore."""
        with _outages(self._url):
            await self._database.command("ping")

    async def close(self) -> None:
        """See DocumentStore."""
        await self._client.close()

    def _collection(self, name: str) -> AsyncCollection[dict[str, Any]]:
        return self._database[checked_collection(name)]


def _client(url: str, connect_ms: int) -> AsyncMongoClient[dict[str, Any]]:
    ca_file, own_ca = ca_file_of(url), dict[str, Any]()
    if ca_file and asks_for_tls(url) and "tlscafile=" not in url.lower():
        own_ca["tlsCAFile"] = ca_file
    with warnings.catch_warnings(action="error", category=UserWarning):  # an option that it would ignore
        return AsyncMongoClient(
            url,
            serverSelectionTimeoutMS=connect_ms,
            connectTimeoutMS=connect_ms,
            socketTimeoutMS=_ANSWER_MS,
            maxPoolSize=_CONNECTIONS_MAX,
            retryWrites=False,  # who writes writes again; and not every server can
            appname="voltstream",
            **own_ca,
        )


def _range(prefix: str) -> dict[str, str]:
    start = checked_prefix(prefix)
    return {"$gte": start, "$lt": start + AFTER_ALL}


@contextlib.contextmanager
def _outages(url: str) -> Generator[None, None, None]:
    """Within the block, the driver's error that means "the server does not answer" becomes Unavailable. So does a login
    that it refuses: users are changed on a server while others work with it."""
    try:
        yield
    except _OUTAGES as error:
        message = without_secrets(error, url)
        raise Unavailable(f"MongoDB does not answer: {refusal_in(message) or message}") from error
    except OperationFailure as error:
        if error.code in _LOGIN_CODES:
            raise Unavailable(f"MongoDB refuses the login: {without_secrets(error, url)}") from error
        raise
    except PyMongoError as error:
        if "closed" in str(error).lower():
            raise Unavailable(f"MongoDB does not answer: {without_secrets(error, url)}") from error
        raise
