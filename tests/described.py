"""Checks an API against its OpenAPI document with generated valid and invalid requests, and with what no text is."""

import asyncio
import json
import random
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)


async def asked_only_by(
    client: httpx.AsyncClient, tokens: Mapping[Any, str], method: str, address: str, kinds: Collection[str]
) -> None:
    """Tokens of these kinds, and no others, are let through to an operation; one that nobody knows is refused.

    An admin's is let through to all. Support and auditors read: tests/voltstream/test_up_access.py has every route.
    """
    for kind, token in tokens.items():
        if kind in ("support", "auditor"):
            continue
        answer = await client.request(method, address, headers={"authorization": f"Bearer {token}"}, json={})
        assert (answer.status_code == 403) == (kind not in {*kinds, "admin"}), (kind, answer.text)
    for authorization in ("Bearer vso_unknown", "Basic x"):
        answer = await client.request(method, address, headers={"authorization": authorization}, json={})
        assert answer.status_code == 401


async def described_are(client: httpx.AsyncClient, operations: Collection[tuple[str, str]]) -> None:
    """These (method, path), and no others, are in the OpenAPI document: with an example and the usual problems."""
    paths = (await client.get("/openapi.json")).json()["paths"]
    described = {(method, path) for path in paths for method in paths[path] if path.startswith("/api/")}
    assert described == set(operations)
    for method, path in operations:
        operation = paths[path][method]
        assert operation["summary"], path
        assert operation["description"], path
        assert operation["security"], path
        assert {"401", "403", "422", "503"} <= set(operation["responses"]), path
        for status, response in operation["responses"].items():
            if status in ("200", "201"):
                assert "example" in response["content"]["application/json"], path


HOSTILE: Final = (
    "\0",
    "\ud800",
    "x\udfff",
    "1e400",
    "-0",
    "9" * 5_000,
    "9999-12-31T23:59:59-09:00",
    float("nan"),
    10**40,
)
"""What Python reads and a database, an encoder or a calendar does not."""
ANYTHING: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**40), 10**40)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([*HOSTILE, "NaN", "0.1", "2026-01-01T00:00:00Z"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
"""Any document, with what is hostile in it."""


def places_in(document: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything in it, of itself first."""
    named = dict(enumerate(document)) if isinstance(document, list) else document
    inner = named.items() if isinstance(named, dict) else ()
    return [at, *(place for name, value in inner for place in places_in(value, (*at, name)))]


def with_value(document: Any, at: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value at that path."""
    if not at:
        return value
    copy = document.copy()
    copy[at[0]] = with_value(document[at[0]], at[1:], value)
    return copy


def cases_of(operation: Any) -> st.SearchStrategy[schemathesis.Case[Any]]:
    """Requests that the operation allows, and requests that it does not."""
    return st.one_of([operation.as_strategy(generation_mode=mode) for mode in GenerationMode])


def answers_as_described(case: schemathesis.Case[Any], base_url: str, headers: dict[str, str]) -> None:
    """Send the request, and again with something hostile in its body: no server error, and a response as the OpenAPI
    document describes it."""
    _answers(case, case.call(base_url=base_url, headers=headers))
    if isinstance(case.body, dict | list):
        chosen = random.Random(repr(case.body))  # the same for the same request
        value = chosen.choice(HOSTILE)
        named = isinstance(value, str) and chosen.random() < 0.3
        body = with_value(case.body, chosen.choice(places_in(case.body)), {value: 1} if named else value)
        json_type = {"content-type": "application/json"}
        sent = json.dumps(body).encode()  # raw: schemathesis has no such texts
        _answers(case, case.call(base_url=base_url, headers={**headers, **json_type}, data=sent))


CHECKS: Final = [status_code_conformance, content_type_conformance, response_schema_conformance]


def _answers(case: schemathesis.Case[Any], response: schemathesis.Response) -> None:
    assert response.status_code < 500, response.text
    if "x-correlation-id" not in response.headers:  # a URL beyond 64 kB is refused by the HTTP server itself
        assert response.status_code == 400
        return
    case.validate_response(response, checks=CHECKS)


async def takes_or_refuses(
    client: httpx.AsyncClient,
    method: str,
    address: str,
    good: Any,
    *,
    headers: Mapping[str, str] | None = None,
    refusals: Collection[int] = (400, 422),
    examples: int = 200,
    look: Callable[[httpx.Response], None] = lambda _: None,
) -> None:
    """Whatever stands in whatever place of a good body, it is taken or refused. `look`: at each answer."""
    loop = asyncio.get_running_loop()
    sent_as = {"content-type": "application/json", **(headers or {})}

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(at=st.sampled_from(places_in(good)), value=ANYTHING)
    def send(at: tuple[Any, ...], value: Any) -> None:
        body = json.dumps(with_value(good, at, value)).encode()
        sent = client.request(method, address, content=body, headers=sent_as)
        answer = asyncio.run_coroutine_threadsafe(sent, loop).result()
        assert answer.is_success or answer.status_code in refusals, answer.text
        look(answer)

    await asyncio.to_thread(send)
