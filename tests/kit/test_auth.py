"""Tokens: who may, from when, until when; against a real database."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
from fastapi import Depends, FastAPI
from prometheus_client import CollectorRegistry
from starlette.requests import Request

from kit.auth import authenticator as auth
from kit.auth.authenticator import (
    AHEAD_S,
    OUTAGE_S,
    REVOCATION_S,
    Authenticator,
)
from kit.auth.requirements import require_scope
from kit.auth.scopes import KINDS, Kind, Scope, kinds_with
from kit.auth.token_store import SUBJECT_CHARS_MAX, Principal, TokenStore, hash_of, well_formed
from kit.clock import ManualClock
from kit.database.postgres import Database
from kit.errors import Unavailable
from kit.web.app import Problem, make_app, serve

_HANGING_S = 60.0  # only prevents hanging
_TOKEN = "vsd_" + "t" * 43
_HEADER = f"Bearer {_TOKEN}".encode()


class _Counting:
    """The database, counting questions; `away` makes it one that does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.questions = 0
        self.away = False

    def __getattr__(self, name: str) -> Any:
        self.questions += 1
        if self.away:
            raise Unavailable("PostgreSQL does not answer")
        return getattr(self._database, name)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def database(access: Database) -> _Counting:
    return _Counting(access)


@pytest.fixture
def store(database: _Counting) -> TokenStore:
    return TokenStore(database)  # type: ignore[arg-type]  # it has all of a Database by __getattr__


@pytest.fixture
def authenticator(store: TokenStore, clock: ManualClock) -> Authenticator:
    return Authenticator(store, clock)


def _request(token: str | None, scheme: str = "Bearer") -> Request:
    headers = [] if token is None else [(b"authorization", f"{scheme} {token}".encode())]
    return Request({"type": "http", "headers": headers})


async def _refusal(authenticator: Authenticator, request: Request) -> Problem:
    with pytest.raises(Problem) as raised:
        await authenticator.authenticate(request)
    return raised.value


async def test_a_token_speaks_for_the_stations_it_was_issued_for(
    store: TokenStore, authenticator: Authenticator
) -> None:
    bound, listed = await store.issue("device", "gate", ["de*abc*1"])
    free, _ = await store.issue("operator", "ops")
    principal = await authenticator.authenticate(_request(bound))
    assert principal == Principal("device", listed.token_id, frozenset({"DE*ABC*1"}))
    assert principal.covers("De*Abc*1")
    assert not principal.covers("DE*ABC*2")
    assert (await authenticator.authenticate(_request(free))).covers("anything")


async def test_a_token_bound_to_no_station_covers_none(store: TokenStore, authenticator: Authenticator) -> None:
    token, _ = await store.issue("device", stations=[])
    assert not (await authenticator.authenticate(_request(token))).covers("A")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_token_of_every_kind_is_issued_listed_and_believed(
    store: TokenStore, authenticator: Authenticator, kind: Kind
) -> None:
    subject = "D1" if kind == "driver" else None
    token, listed = await store.issue(kind, "mine", subject=subject)
    assert well_formed(token)
    assert await store.list() == [listed]
    assert (listed.kind, listed.subject) == (kind, subject)
    assert await authenticator.authenticate(_request(token)) == Principal(kind, listed.token_id, None, subject)


def test_only_a_driver_speaks_for_a_driver() -> None:
    token_id = uuid4()
    assert Principal("driver", token_id, None, "D1").driver_id == "D1"
    for kind in set(KINDS) - {"driver"}:
        with pytest.raises(ValueError, match="no driver"):
            _ = Principal(kind, token_id, None, "D1").driver_id


@pytest.mark.parametrize(
    ("kind", "subject"),
    [
        ("driver", None),
        ("operator", "D1"),
        ("driver", ""),
        ("driver", "x" * (SUBJECT_CHARS_MAX + 1)),
        ("driver", "a\nb"),
        ("driver", "a\x00"),
        ("driver", " a"),
    ],
)
async def test_a_driver_has_a_printable_subject_and_nobody_else_has_one(
    store: TokenStore, access: Database, kind: Kind, subject: str | None
) -> None:
    with pytest.raises(ValueError, match="subject"):
        await store.issue(kind, subject=subject)
    if subject is None or kind != "driver":  # the table holds to it too
        with pytest.raises(asyncpg.CheckViolationError):
            await access.execute(
                "INSERT INTO access.token (id, kind, hash, label, subject) VALUES (gen_random_uuid(), $1, $2, '', $3)",
                kind,
                hash_of("x"),
                subject,
            )


async def test_neither_the_database_nor_the_list_has_the_token(store: TokenStore, access: Database) -> None:
    token, listed = await store.issue("device", "gate")
    row = await access.fetchrow("SELECT * FROM access.token")
    assert row is not None
    assert row["hash"] == hash_of(token)
    assert token not in repr(dict(row))
    assert await store.list() == [listed]


async def test_a_verified_token_costs_no_question(
    store: TokenStore, authenticator: Authenticator, database: _Counting
) -> None:
    token, _ = await store.issue("device")
    await authenticator.authenticate(_request(token))
    before = database.questions
    for _ in range(100):
        await authenticator.authenticate(_request(token))
    assert database.questions == before


async def test_a_revoked_token_passes_no_longer_than_the_bound(
    store: TokenStore, authenticator: Authenticator, clock: ManualClock
) -> None:
    token, listed = await store.issue("device")
    other, _ = await store.issue("device")
    await authenticator.authenticate(_request(token))
    await authenticator.authenticate(_request(other))
    assert await store.revoke(listed.token_id)
    assert not await store.revoke(listed.token_id)
    clock.advance(REVOCATION_S)
    assert (await _refusal(authenticator, _request(token))).status == 401
    await authenticator.authenticate(_request(other))  # nobody else is affected


async def test_after_the_bound_one_question_covers_every_token(
    store: TokenStore, authenticator: Authenticator, clock: ManualClock, database: _Counting
) -> None:
    tokens = [(await store.issue("device"))[0] for _ in range(5)]
    for token in tokens:
        await authenticator.authenticate(_request(token))
    clock.advance(REVOCATION_S)
    before = database.questions
    for token in tokens:
        await authenticator.authenticate(_request(token))
    assert database.questions == before + 1


async def test_an_outage_lets_known_tokens_pass_for_a_while_and_no_others(
    store: TokenStore, authenticator: Authenticator, clock: ManualClock, database: _Counting
) -> None:
    known, _ = await store.issue("device")
    unknown, _ = await store.issue("device")
    await authenticator.authenticate(_request(known))
    database.away = True
    clock.advance(OUTAGE_S - 1)
    await authenticator.authenticate(_request(known))
    with pytest.raises(Unavailable):
        await authenticator.authenticate(_request(unknown))
    clock.advance(REVOCATION_S)
    with pytest.raises(Unavailable):
        await authenticator.authenticate(_request(known))
    database.away = False
    await authenticator.authenticate(_request(known))
    await authenticator.authenticate(_request(unknown))


async def test_what_is_remembered_is_bounded(
    store: TokenStore, authenticator: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "CACHE_MAX", 2)
    monkeypatch.setattr(auth, "REJECTED_MAX", 2)
    for number in range(5):
        token, _ = await store.issue("device")
        await authenticator.authenticate(_request(token))
        await _refusal(authenticator, _request("vsd_" + str(number) * 43))
    assert len(authenticator._cached) <= 2
    assert len(authenticator._rejected) <= 2


async def test_an_unknown_token_is_looked_up_once(authenticator: Authenticator, database: _Counting) -> None:
    for _ in range(5):
        assert (await _refusal(authenticator, _request("vsd_" + "x" * 43))).status == 401
    assert database.questions == 1


@pytest.mark.parametrize(
    ("token", "scheme", "says", "invalid"),
    [
        (None, "", "a token is needed", False),
        ("x", "Basic", "write the header as", False),
        ("", "Bearer", "write the header as", False),
        ("short", "Bearer", "malformed", True),
        ("vsd_" + "é" * 43, "Bearer", "malformed", True),
        ("vsz_" + "x" * 43, "Bearer", "malformed", True),
    ],
)
async def test_a_missing_or_malformed_token_asks_nobody_and_says_the_mend(
    authenticator: Authenticator, database: _Counting, token: str | None, scheme: str, says: str, invalid: bool
) -> None:
    refusal = await _refusal(authenticator, _request(token, scheme))
    assert refusal.status == 401
    assert says in refusal.detail
    assert refusal.headers["WWW-Authenticate"].startswith("Bearer realm=")
    assert ('error="invalid_token"' in refusal.headers["WWW-Authenticate"]) == invalid
    assert database.questions == 0


@pytest.fixture
async def client(authenticator: Authenticator) -> AsyncIterator[httpx.AsyncClient]:
    app: FastAPI = make_app("test", "1", registry=CollectorRegistry())
    app.state.authenticator = authenticator

    @app.get("/device")
    async def device(who: Annotated[Principal, Depends(require_scope("readings:write"))]) -> str:
        return who.kind

    @app.get("/operator")
    async def operator(who: Annotated[Principal, Depends(require_scope("stations:write"))]) -> str:
        return who.kind

    @app.get("/money")
    async def money(who: Annotated[Principal, Depends(require_scope("billing:review"))]) -> str:
        return who.kind

    @app.get("/at/{station_id}")
    async def at(who: Annotated[Principal, Depends(require_scope("locations:read"))]) -> str:
        return who.kind

    @app.get("/everywhere")
    async def everywhere(who: Annotated[Principal, Depends(require_scope("locations:read"))]) -> str:
        return who.kind

    @app.get("/heeding")
    async def heeding(who: Annotated[Principal, Depends(require_scope("telemetry:read", heeds_stations=True))]) -> str:
        return who.kind

    async with serve(app, "127.0.0.1", 0) as server, httpx.AsyncClient(base_url=server.url) as made:
        yield made


async def test_a_token_without_the_scope_is_forbidden_and_told_which_and_who_has_it(
    client: httpx.AsyncClient, store: TokenStore
) -> None:
    scopes: dict[str, Scope] = {"device": "readings:write", "operator": "stations:write", "money": "billing:review"}
    for kind in KINDS:
        token, _ = await store.issue(kind, subject="D1" if kind == "driver" else None)
        for path, scope in scopes.items():
            response = await client.get(f"/{path}", headers={"Authorization": f"Bearer {token}"})
            allowed = kinds_with(scope)
            assert response.status_code == (200 if kind in allowed else 403)
            if kind not in allowed:
                names = " and ".join(allowed)
                said = f"this needs the scope {scope}, which {names} have; your token is of {kind}"
                assert response.json()["detail"] == said
                assert f'error="insufficient_scope", scope="{scope}"' in response.headers["WWW-Authenticate"]


async def test_a_token_of_fewer_scopes_than_its_role_has_those_alone(
    client: httpx.AsyncClient, store: TokenStore, authenticator: Authenticator
) -> None:
    token, listed = await store.issue("operator", scopes=["stations:write", "billing:refund"])
    assert listed.scopes == ("billing:refund", "stations:write")
    assert (await authenticator.authenticate(_request(token))).scopes == {"stations:write"}, "never more than the role"
    assert (await client.get("/operator", headers={"Authorization": f"Bearer {token}"})).status_code == 200
    refused = await client.get("/money", headers={"Authorization": f"Bearer {token}"})
    assert refused.status_code == 403
    assert refused.json()["detail"].endswith("your token is of operator, and was issued for less")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_token_for_some_stations_asks_for_those_alone(
    client: httpx.AsyncClient, store: TokenStore, kind: Kind
) -> None:
    """Routes about one station are for its tokens; others only if they heed the stations, or for what is a driver's."""
    token, _ = await store.issue(kind, stations=["A"], subject="D1" if kind == "driver" else None)
    for path, status in (("/at/a", 200), ("/at/B", 403), ("/everywhere", 200 if kind == "driver" else 403)):
        response = await client.get(path, headers={"Authorization": f"Bearer {token}"})
        if kind == "device":
            status = 403  # for want of the scope
        assert response.status_code == status, response.text
    heeded = await client.get("/heeding", headers={"Authorization": f"Bearer {token}"})
    assert heeded.status_code == (200 if kind in kinds_with("telemetry:read") else 403)


_REGISTRY = """
CREATE SCHEMA stations;
CREATE TABLE stations.station_overview (station_id text COLLATE "C" PRIMARY KEY, organisation text);
INSERT INTO stations.station_overview VALUES ('A', 'Nord AG'), ('B', 'Süd & Co'), ('C', NULL);
"""
_MOVE = "UPDATE stations.station_overview SET organisation = 'Süd & Co' WHERE station_id = 'A'"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "device"])
async def test_a_token_of_an_organisation_asks_for_the_stations_that_are_its_own_now(
    client: httpx.AsyncClient, store: TokenStore, database: _Counting, kind: Kind
) -> None:
    """A station of another is as one that there is not; nothing says which."""
    await database.execute(_REGISTRY)
    token, listed = await store.issue(kind, organisation="Nord AG", subject="D1" if kind == "driver" else None)
    assert listed.organisation == "Nord AG"
    headers = {"Authorization": f"Bearer {token}"}
    for path, status in (("/at/a", 200), ("/everywhere", 200 if kind == "driver" else 403)):
        assert (await client.get(path, headers=headers)).status_code == status
    for station_id in ("B", "C", "NONE"):
        refused = await client.get(f"/at/{station_id}", headers=headers)
        assert (refused.status_code, refused.json()["detail"]) == (404, f"there is no station {station_id}")
    await database.execute(_MOVE)
    assert (await client.get("/at/a", headers=headers)).status_code == 404


async def test_a_token_of_an_organisation_is_not_known_without_a_look_at_the_registry(
    store: TokenStore, authenticator: Authenticator
) -> None:
    for organisation, scope in ((None, "telemetry:read"), ("Nord AG", "telemetry:read")):
        token, _ = await store.issue("operator", organisation=organisation)
        await authenticator.require(_request(token), "telemetry:read", heeds_stations=True)
        known = authenticator.known(f"Bearer {token}".encode(), "telemetry:read")
        assert (known is None) == (organisation is not None), scope


async def test_a_response_that_goes_on_ends_when_its_station_is_anothers(
    store: TokenStore, authenticator: Authenticator, database: _Counting
) -> None:
    await database.execute(_REGISTRY)
    token, _ = await store.issue("operator", organisation="Nord AG")
    request = _request(token)
    request.scope["path_params"] = {"station_id": "a"}
    await authenticator.require(request, "telemetry:read")
    check = authenticator.check_of(request)
    assert await check()
    await database.execute(_MOVE)
    assert not await check()


@pytest.mark.parametrize(
    ("kind", "name"),
    [("device", "Nord AG"), ("operator", ""), ("operator", " Nord"), ("operator", "N\no"), ("admin", "x" * 65)],
)
async def test_an_organisation_is_a_name_and_no_devices(store: TokenStore, kind: Kind, name: str) -> None:
    with pytest.raises(ValueError, match="organisation"):
        await store.issue(kind, organisation=name)


def test_the_same_scope_is_one_dependency() -> None:
    assert require_scope("stations:write") is require_scope("stations:write")
    assert require_scope("stations:write") is not require_scope("stations:write", heeds_stations=True)


async def test_a_refusal_is_a_problem_document_with_a_challenge(client: httpx.AsyncClient) -> None:
    response = await client.get("/device")
    assert response.status_code == 401
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="voltstream"'


async def test_the_openapi_names_the_scheme_of_a_guarded_route(client: httpx.AsyncClient) -> None:
    schema = (await client.get("/openapi.json")).json()
    assert schema["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert schema["paths"]["/device"]["get"]["security"] == [{"bearer": ["readings:write"]}]


class _SlowStore:
    """Tokens in memory; `revoked` waits for `gate`."""

    def __init__(self, token: str) -> None:
        self.principal = Principal("device", uuid4(), None)
        self.token_hash = hash_of(token)
        self.ended: set[bytes] = set()
        self.gate = threading.Event()

    async def find(self, token_hash: bytes) -> Principal | None:
        return self.principal if token_hash == self.token_hash else None

    def gone(self, _token_hashes: object) -> set[bytes]:
        gone = set(self.ended)
        assert self.gate.wait(_HANGING_S)
        return gone


@pytest.fixture
def slow() -> Iterator[_SlowStore]:
    store = _SlowStore(_TOKEN)
    yield store
    store.gate.set()


@pytest.fixture
async def known(slow: _SlowStore, clock: ManualClock) -> Authenticator:
    """Knows the token of `slow`."""
    authenticator = Authenticator(slow, clock)  # type: ignore[arg-type]  # all of a TokenStore that is called
    assert authenticator.known(_HEADER, "readings:write") is None, "not seen before"
    await authenticator.require(_request(_TOKEN), "readings:write")
    return authenticator


def _await_answer(authenticator: Authenticator) -> None:
    """Let the thread finish, and the event loop have no turn."""
    assert authenticator._query is not None
    authenticator._query.result.result(_HANGING_S)


async def test_a_request_that_cannot_wait_is_known_while_its_revocation_is_asked_for_ahead(
    slow: _SlowStore, known: Authenticator, clock: ManualClock
) -> None:
    assert known.known(_HEADER, "readings:write") == slow.principal
    assert known.known(_HEADER, "stations:write") is None
    slow.ended.add(slow.token_hash)
    clock.advance(REVOCATION_S - AHEAD_S)
    for _ in range(3):
        assert known.known(_HEADER, "readings:write") == slow.principal, "the answer is not here yet"
    clock.advance(AHEAD_S)
    assert known.known(_HEADER, "readings:write") is None, "no longer than the bound"
    slow.gate.set()
    _await_answer(known)
    assert known.known(_HEADER, "readings:write") is None
    assert not known._cached


async def test_a_token_that_is_not_revoked_stays_known_though_the_event_loop_has_no_turn(
    slow: _SlowStore, known: Authenticator, clock: ManualClock
) -> None:
    slow.gate.set()
    for _ in range(10):
        clock.advance(REVOCATION_S - AHEAD_S)
        assert known.known(_HEADER, "readings:write") == slow.principal
        _await_answer(known)
        clock.advance(AHEAD_S / 2)
        assert known.known(_HEADER, "readings:write") == slow.principal
        _await_answer(known)


async def test_a_database_that_answers_too_late_counts_as_down_until_it_does(
    slow: _SlowStore, known: Authenticator, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "ANSWER_S_MAX", 0.0)
    slow.ended.add(slow.token_hash)
    clock.advance(REVOCATION_S)
    await known.require(_request(_TOKEN), "readings:write")
    assert known.known(_HEADER, "readings:write") == slow.principal, "as in any outage"
    slow.gate.set()
    _await_answer(known)
    clock.advance(REVOCATION_S)
    slow.token_hash = b""
    with pytest.raises(Problem):
        await known.require(_request(_TOKEN), "readings:write")


async def test_requests_that_wait_through_an_outage_leave_no_error_behind(
    slow: _SlowStore, known: Authenticator, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_token_hashes: object) -> set[bytes]:
        assert slow.gate.wait(_HANGING_S)
        raise Unavailable("PostgreSQL does not answer")

    monkeypatch.setattr(slow, "gone", away)
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    clock.advance(REVOCATION_S)
    waiting = [asyncio.create_task(known.require(_request(_TOKEN), "readings:write")) for _ in range(3)]
    await asyncio.sleep(0)  # each begins to wait
    slow.gate.set()
    assert await asyncio.gather(*waiting) == [slow.principal] * 3
    del waiting
    gc.collect()
    assert reported == []


async def test_a_revocation_that_cannot_be_read_is_no_refusal(
    slow: _SlowStore, known: Authenticator, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_token_hashes: object) -> set[bytes]:
        raise RuntimeError("a bug")

    monkeypatch.setattr(slow, "gone", broken)
    clock.advance(REVOCATION_S)
    await known.require(_request(_TOKEN), "readings:write")
    clock.advance(OUTAGE_S)
    slow.token_hash = b""
    with pytest.raises(Problem):
        await known.require(_request(_TOKEN), "readings:write")
