"""JSON bodies: what is no text, number or member is refused with its path, on every route that has a body."""

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Depends
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException

from kit.web.app import make_app, serve
from kit.web.json_body import ExactJsonRoute, JsonRoute, read_json
from kit.web.route_rules import InvalidRouteRules, public
from tests.described import places_in, with_value

_TEXTS = st.text(st.characters(), max_size=6)  # of all code points, halves of pairs and NUL too
_DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=12,
)


def _is_text(text: str) -> bool:
    return "\0" not in text and not any(0xD800 <= ord(one) < 0xE000 for one in text)


def _texts(document: Any) -> list[str]:
    own = [document] if isinstance(document, str) else list(document) if isinstance(document, dict) else []
    inner = document.values() if isinstance(document, dict) else document if isinstance(document, list) else ()
    return own + [text for one in inner for text in _texts(one)]


@given(_DOCUMENTS, st.booleans())
def test_a_document_is_read_as_it_is_or_refused_for_a_text_that_is_none(document: Any, escaped: bool) -> None:
    body = json.dumps(document, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    if all(map(_is_text, _texts(document))):
        assert read_json(body, exact=False) == document
        return
    with pytest.raises(HTTPException) as refused:
        read_json(body, exact=False)
    assert refused.value.status_code in (400, 422)
    refused.value.detail.encode()  # it can be sent
    assert "\0" not in refused.value.detail


_DOCUMENT = {"a": [{"b": "x"}, 2], "c": {"d": None}}


@pytest.mark.parametrize("at", places_in(_DOCUMENT)[1:])
@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (r'"\ud800"', "half of a surrogate pair"),
        (r'"\udc00\ud800"', "half of a surrogate pair"),
        (r'"a\u0000"', "NUL"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ('{"e": 1, "e": 1}', "is there twice"),
        (r'{"\ud800": 1}', "half of a surrogate pair"),
        ("9" * 31, "digits"),
        ("1e400", "digits"),
        ("-1e400", "digits"),
        ("0." + "1" * 100, "digits"),
    ],
)
def test_what_is_refused_is_told_with_its_path(at: tuple[Any, ...], raw: str, says: str) -> None:
    body = json.dumps(with_value(_DOCUMENT, at, "HERE")).replace('"HERE"', raw)
    with pytest.raises(HTTPException) as refused:
        read_json(body.encode(), exact=False)
    assert refused.value.status_code == 422
    assert refused.value.detail.startswith("/".join(["body", *map(str, at)])), refused.value.detail
    assert says in refused.value.detail


def test_whole_pairs_a_mark_and_other_escapes_are_text() -> None:
    assert read_json(b'\xef\xbb\xbf["\\ud83d\\ude97", "\\u00e9", 1.5]', exact=False) == ["\U0001f697", "é", 1.5]
    assert read_json(b"[1.50]", exact=True) == [Decimal("1.50")]


@pytest.mark.parametrize("body", [b'["\xed\xa0\x80"]', b"\xff", '["a"]'.encode("utf-16")])
def test_what_is_no_utf_8_is_told(body: bytes) -> None:
    with pytest.raises(HTTPException, match="not UTF-8"):
        read_json(body, exact=False)


async def _take(item: dict[str, Any]) -> dict[str, Any]:
    return item


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = make_app("test", "1", registry=CollectorRegistry())
    for name, route_class in (("strict", JsonRoute), ("exact", ExactJsonRoute)):
        router = APIRouter(prefix=f"/api/v1/{name}", dependencies=[Depends(public)], route_class=route_class)
        router.post("")(_take)
        app.include_router(router)
    async with serve(app, "127.0.0.1", 0) as server, httpx.AsyncClient(base_url=f"{server.url}/api/v1") as made:
        yield made


@pytest.mark.parametrize("path", ["/strict", "/exact"])
async def test_over_http_it_is_a_problem_document(client: httpx.AsyncClient, path: str) -> None:
    json_type = {"content-type": "application/json"}
    refused = await client.post(path, content=rb'{"a": "\ud800"}', headers=json_type)
    assert (refused.status_code, refused.headers["content-type"]) == (422, "application/problem+json")
    assert refused.json()["detail"].startswith("body/a: ")
    deep = await client.post(path, content=b'{"a":' * 50_000, headers=json_type)
    assert deep.status_code == 400, deep.text
    taken = await client.post(path, content=b'{"a": "x"}', headers=json_type)
    assert taken.json() == {"a": "x"}


async def test_no_app_mounts_a_route_whose_body_is_read_otherwise() -> None:
    router = APIRouter(prefix="/api/v1/other", dependencies=[Depends(public)])
    router.post("")(_take)
    with pytest.raises(InvalidRouteRules, match="route_class=JsonRoute"):
        make_app("test", "1", registry=CollectorRegistry()).include_router(router)
