"""Contract of the document store: laws that both implementations keep, in PostgreSQL and in MongoDB."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure

from kit.database.postgres import connect_sync, open_database
from kit.documents.mongodb import MongoDocuments
from kit.documents.postgres import PostgresDocuments
from kit.documents.store import DOCUMENT_BYTES_MAX, DOCUMENTS_MAX, DocumentStore
from kit.errors import ConfigError, Unavailable
from tests.mongodb_sockets import leaves_a_socket, sockets_left  # noqa: F401  # a fixture
from tests.private_servers import PrivateServers

TABLE = """
CREATE SCHEMA papers;
CREATE TABLE papers.document (
    collection text COLLATE "C", key text COLLATE "C", document jsonb NOT NULL, PRIMARY KEY (collection, key)
);
"""

texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True)
scalars = st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(-(2.0**53), 2.0**53) | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4))
documents = st.dictionaries(names, values, max_size=6)
keys = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,6}", fullmatch=True)


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.server) for name in ("postgresql", "mongodb")])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[DocumentStore]:
    """An empty store."""
    if request.param == "mongodb":
        url = request.getfixturevalue("mongodb_url")
        mongodb = MongoDocuments(f"{url}_{uuid4().hex[:12]}")
        yield mongodb
        await mongodb.close()
    else:
        url = request.getfixturevalue("database_url")
        with connect_sync(url, name="prepare") as connection:
            connection.execute(TABLE.encode())
        database = await open_database(url, name="papers", connections_max=2)
        yield PostgresDocuments(database, "papers")
        await database.close()


def each(law: Any) -> Any:
    """Hypothesis within one event loop, on one store: examples use collections of their own."""
    return settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))(law)


async def test_any_document_comes_back_as_it_was(store: DocumentStore) -> None:
    found: list[Mapping[str, Any]] = []

    @each
    @given(st.lists(documents, min_size=1, max_size=10))
    def collect(some: list[dict[str, Any]]) -> None:
        found.extend(some)

    await asyncio.to_thread(collect)
    for start in range(0, len(found), DOCUMENTS_MAX):
        batch = {f"d{start + place}": one for place, one in enumerate(found[start : start + DOCUMENTS_MAX])}
        await store.put("any", batch)
        for key, document in batch.items():
            assert await store.get("any", key) == document


async def test_a_key_has_the_document_put_last(store: DocumentStore) -> None:
    await store.put("one", {"a": {"n": 1, "old": True}, "b": {"n": 2}})
    await store.put("one", {"a": {"n": 3}})
    assert await store.get("one", "a") == {"n": 3}
    assert await store.get("one", "b") == {"n": 2}
    assert await store.get("one", "c") is None
    await store.put("one", {})


async def test_collections_do_not_mix(store: DocumentStore) -> None:
    await store.put("one", {"a": {"n": 1}})
    assert await store.get("other", "a") is None
    assert await store.scan("other") == []
    await store.delete("other", "")
    assert await store.get("one", "a") == {"n": 1}


async def test_a_scan_is_in_order_of_keys_and_pages_are_the_whole(store: DocumentStore) -> None:
    written: dict[str, dict[str, Any]] = {}

    @each
    @given(st.lists(keys, min_size=1, max_size=8))
    def collect(some: list[str]) -> None:
        written.update({key: {"key": key} for key in some})

    await asyncio.to_thread(collect)
    written |= {key: {"key": key} for key in ("R/1", "R/10", "R/2", "R.1", "R-1", "R", "Ra", "r/1")}
    items = list(written.items())
    for start in range(0, len(items), DOCUMENTS_MAX):
        await store.put("many", dict(items[start : start + DOCUMENTS_MAX]))
    for prefix in ("", "R", "R/", "R/1", "a", "nonesuch"):
        expected = sorted(key for key in written if key.startswith(prefix))
        pages: list[str] = []
        while page := await store.scan("many", prefix, pages[-1] if pages else "", 7):
            assert len(page) <= 7
            assert all(document == {"key": key} for key, document in page)
            pages += [key for key, _ in page]
        assert pages == expected


async def test_deleting_takes_those_that_begin_so(store: DocumentStore) -> None:
    await store.put("some", {key: {} for key in ("R/1", "R/2", "R", "Ra", "S/1")})
    await store.delete("some", "R/")
    assert [key for key, _ in await store.scan("some")] == ["R", "Ra", "S/1"]
    await store.delete("some", "R/")
    await store.delete("some", "")
    assert await store.scan("some") == []


async def test_a_document_of_the_largest_size_comes_back(store: DocumentStore) -> None:
    column = [2**60 + n for n in range((DOCUMENT_BYTES_MAX - 100) // 20)]  # 19 digits and a comma each
    await store.put("large", {"a": {"column": column}})
    assert await store.get("large", "a") == {"column": column}
    digits = [n % 10 for n in range(DOCUMENT_BYTES_MAX // 2 - 100)]  # BSON names every place of a list
    await store.put("large", {"a": {"column": digits}})
    assert await store.get("large", "a") == {"column": digits}


@pytest.mark.parametrize(
    ("documents", "why"),
    [
        ({"": {}}, "is no key"),
        ({"a b": {}}, "is no key"),
        ({"é": {}}, "is no key"),
        ({"a" * 201: {}}, "is no key"),
        ({"a": {"x.y": 1}}, "is no field's name"),
        ({"a": {"$set": 1}}, "is no field's name"),
        ({"a": {"n": 2**63}}, "beyond 64 bits"),
        ({"a": {"n": float("nan")}}, "JSON has no nan"),
        ({"a": {"n": float("inf")}}, "JSON has no inf"),
        ({"a": {"n": 1e200}}, "beyond the integers"),
        ({"a": {"t": "\x00"}}, "NUL"),
        ({"a": {"t": "\ud800"}}, "surrogate"),
        ({"a": {"t": b"bytes"}}, "JSON has no bytes"),
        ({"a": {"t": "x" * DOCUMENT_BYTES_MAX}}, "a document has at most"),
        ({f"k{n}": {} for n in range(DOCUMENTS_MAX + 1)}, "put at most"),
    ],
)
async def test_what_one_store_cannot_give_back_none_takes(
    store: DocumentStore, documents: dict[str, Any], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        await store.put("wrong", documents)
    assert await store.scan("wrong") == []


async def test_wrong_names_are_refused(store: DocumentStore) -> None:
    for refused in (
        store.put("Wrong", {"a": {}}),
        store.get("wrong", "$"),
        store.scan("wrong", "\x7f"),
        store.scan("wrong", limit=0),
        store.delete("wrong", "%"),
    ):
        with pytest.raises(ValueError, match=r"write it as|a limit is"):
            await refused
    deep: dict[str, Any] = {}
    for _ in range(30):
        deep = {"d": deep}
    with pytest.raises(ValueError, match="levels deep"):
        await store.put("wrong", {"a": deep})


async def test_ready_while_the_server_answers(store: DocumentStore) -> None:
    await store.check_ready()


@leaves_a_socket
@pytest.mark.usefixtures("sockets_left")
async def test_an_unreachable_mongodb_is_unavailable(unused_port: int) -> None:
    store = MongoDocuments(f"mongodb://127.0.0.1:{unused_port}", connect_ms=200)
    for refused in (store.put("a", {"a": {}}), store.get("a", "a"), store.scan("a"), store.delete("a", "")):
        with pytest.raises(Unavailable, match="MongoDB does not answer"):
            await refused
    with pytest.raises(Unavailable):
        await store.check_ready()
    await store.close()


@leaves_a_socket
@pytest.mark.usefixtures("sockets_left")
async def test_after_an_outage_the_store_goes_on(mongodb_url: str, servers: PrivateServers) -> None:
    store = MongoDocuments(mongodb_url, connect_ms=1_000)
    await store.put("outage", {"a": {"n": 1}})
    await asyncio.to_thread(servers.mongodb.kill)
    with pytest.raises(Unavailable):
        await store.put("outage", {"a": {"n": 2}})
    await asyncio.to_thread(servers.mongodb.start)
    async with asyncio.timeout(60):
        while True:
            try:
                await store.put("outage", {"a": {"n": 3}})
                break
            except Unavailable:
                await asyncio.sleep(0.01)
    assert await store.get("outage", "a") == {"n": 3}
    await store.close()


@pytest.mark.parametrize("code", [13, 18])
async def test_a_login_that_mongodb_refuses_is_unavailable(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its users change while others work with it: nothing that is asked of it is lost."""

    async def refuses(*_: object, **__: object) -> None:
        raise OperationFailure("not you, mongodb://u:hush@h/", code)

    for name in ("bulk_write", "find_one", "delete_many"):
        monkeypatch.setattr(AsyncCollection, name, refuses)
    monkeypatch.setattr(AsyncDatabase, "command", refuses)
    store = MongoDocuments("mongodb://127.0.0.1:1")
    for refused in (store.put("a", {"a": {}}), store.get("a", "a"), store.delete("a", ""), store.check_ready()):
        with pytest.raises(Unavailable, match="MongoDB refuses the login") as error:
            await refused
        assert "hush" not in str(error.value)
    await store.close()


@pytest.mark.parametrize("url", ["mongodb://", "http://h/", "mongodb://u:hush@h:port/", "mongodb://h/?w=-1"])
def test_a_wrong_url_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        MongoDocuments(url)
    assert "VOLTSTREAM_MONGODB_URL" in str(wrong.value)
    assert "hush" not in str(wrong.value)
