"""What one token, or one address, may ask for: never more than the bound, again after the time that the 429 says, and
nobody pays for another."""

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Annotated

import httpx
import jwt
import pytest
import structlog
from fastapi import APIRouter, Depends
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from starlette.requests import Request

from kit.audit.entry import Entry
from kit.audit.requests import RequestAudit
from kit.auth.authenticator import Authenticator
from kit.auth.bearer import asker_of
from kit.auth.key_file import FileKey
from kit.auth.requirements import require_scope
from kit.auth.revocations import SignedRevocations
from kit.auth.scopes import Kind
from kit.auth.signed_tokens import SignedTokens
from kit.auth.token_store import Principal, hash_of
from kit.clock import ManualClock
from kit.database.questions import _asker
from kit.web.addresses import network_of
from kit.web.app import make_app
from kit.web.limits import refusals as refusals_module
from kit.web.limits.buckets import Buckets
from kit.web.limits.refusals import LATER_S, MINUTE_S, Limit, Refusals
from kit.web.limits.requests import RequestLimits
from kit.web.limits.settings import RequestLimitSettings
from kit.web.problem import Problem

FIRST, SECOND, DRIVER = ("vso_" + letter * 43 for letter in "abc")
UNKNOWN = "vso_" + "x" * 43
SECRET = b"0123456789abcdef0123456789abcdef"


def principal(number: int, kind: Kind = "operator", stations: frozenset[str] | None = None) -> Principal:
    return Principal(kind, uuid.UUID(int=number), stations)


class Tokens:
    """Stands in for the database's tokens, and counts look-ups."""

    principals = {  # noqa: RUF012  # never changed
        hash_of(FIRST): principal(1),
        hash_of(SECOND): principal(2),
        hash_of(DRIVER): principal(3, "driver"),
    }

    def __init__(self) -> None:
        self.look_ups = 0

    async def find(self, token_hash: bytes) -> Principal | None:
        self.look_ups += 1
        return self.principals.get(token_hash)

    def gone(self, token_hashes: Iterable[bytes]) -> set[bytes]:
        return set()

    def signed_revocations(self, known: SignedRevocations) -> SignedRevocations:
        return known

    async def record_use(self, token_ids: Iterable[object]) -> None:
        """Nobody asks when they were used."""


# -- the law ----------------------------------------------------------------------------------------------------------

STEPS = st.tuples(
    st.sampled_from("ab"), st.integers(1, 12), st.floats(0, 90, allow_nan=False), st.booleans(), st.booleans()
)


@given(st.integers(1, 40), st.lists(STEPS, max_size=60))
def test_in_no_time_is_more_spent_than_the_bound_and_what_came_back_and_waiting_helps(
    bound: int, steps: list[tuple[str, int, float, bool, bool]]
) -> None:
    clock, unit_s = ManualClock(), MINUTE_S / bound
    buckets: Buckets[str] = Buckets(MINUTE_S, clock.monotonic_s)
    spent: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for key, amount, pause_s, whole, waits in steps:
        clock.advance(pause_s)
        needed = min(amount, bound) if whole else 1
        cost = needed if whole else amount
        wait_s = buckets.spend(key, cost * unit_s, needed * unit_s)
        if wait_s > 0:
            assert buckets.wait_s(key, needed * unit_s) == pytest.approx(wait_s)
            if not waits:
                continue
            clock.advance(wait_s)
            assert buckets.spend(key, cost * unit_s, needed * unit_s) <= 0
        spent[key].append((clock.monotonic_s(), cost))
    for taken in spent.values():
        for first, (since_s, _) in enumerate(taken):
            total = 0
            for until_s, cost in taken[first:]:
                # What a request has more than there was is owed, so it counts from the next one on.
                assert total + 1 <= bound * (1 + (until_s - since_s) / MINUTE_S) + 1e-3
                total += cost


@given(st.integers(1, 20), st.lists(st.integers(0, 30), max_size=40))
def test_a_token_is_never_refused_because_of_another(bound: int, pauses_s: list[int]) -> None:
    def taken(*, beside: bool) -> list[bool]:
        clock = ManualClock()
        limits = RequestLimits(clock.monotonic_s, Refusals(CollectorRegistry(), clock.monotonic_s))
        limits.follow(lambda: RequestLimitSettings(requests_per_minute_max=bound))
        answers = []
        for pause_s in pauses_s:
            clock.advance(pause_s)
            for _ in range(3 * bound if beside else 0):
                _passes(limits, principal(2))
            answers.append(_passes(limits, principal(1)))
        return answers

    assert taken(beside=True) == taken(beside=False)


def _passes(limits: RequestLimits, who: Principal) -> bool:
    try:
        limits.spend(who)
    except Problem:
        return False
    return True


def test_keys_are_forgotten_when_all_of_their_bound_is_back_and_memory_is_bounded() -> None:
    clock = ManualClock()
    buckets: Buckets[int] = Buckets(MINUTE_S, clock.monotonic_s, keys_max=10)
    for key in range(5):
        assert buckets.spend(key, MINUTE_S, 1.0) <= 0
    clock.advance(MINUTE_S)
    for key in range(5, 10):
        assert buckets.spend(key, MINUTE_S, 1.0) <= 0
    assert buckets.spend(10, MINUTE_S, 1.0) <= 0
    assert buckets.spend(9, MINUTE_S, 1.0) > 0  # still known
    assert buckets.spend(0, MINUTE_S, 1.0) <= 0
    for key in range(100, 200):
        buckets.spend(key, MINUTE_S, 1.0)
    assert len(buckets._whole_s) <= 10


@pytest.mark.parametrize(
    ("who", "bound"),
    [
        (principal(1), 10),
        (principal(1, "driver"), 10),
        (principal(1, "device"), 300),
        (principal(1, "device", frozenset({"A"})), 7),
        (principal(1, "device", frozenset({"A", "B", "C"})), 21),
        (principal(1, "device", frozenset()), 7),
    ],
)
def test_the_bound_of_a_token_is_by_what_it_is_for(who: Principal, bound: int) -> None:
    clock = ManualClock()
    limits = RequestLimits(clock.monotonic_s, Refusals(CollectorRegistry(), clock.monotonic_s))
    settings = RequestLimitSettings(
        requests_per_minute_max=10, station_requests_per_minute_max=7, fleet_requests_per_minute_max=300
    )
    limits.follow(lambda: settings)
    assert [_passes(limits, who) for _ in range(bound + 1)] == [True] * bound + [False]
    settings = RequestLimitSettings(
        requests_per_minute_max=0, station_requests_per_minute_max=0, fleet_requests_per_minute_max=0
    )
    assert all(_passes(limits, who) for _ in range(1_000))


def test_an_address_is_its_network_where_a_client_can_choose_the_rest() -> None:
    assert network_of("10.0.0.1") != network_of("10.0.0.2")
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1") != network_of("2001:db8:0:1::1")
    assert network_of("fe80::1%eth0") == network_of("fe80::2")
    assert network_of("no:address") == "no:address"


def test_the_log_has_a_line_a_minute_and_the_metric_all() -> None:
    clock, registry = ManualClock(), CollectorRegistry()
    refusals, limit = Refusals(registry, clock.monotonic_s), Limit("things", "things of this token", "wait", 60.0)
    with structlog.testing.capture_logs() as logs:
        for _ in range(100):
            refusals.refuse(limit, 5, 1.2, "operator/1")
        clock.advance(60)
        problem = refusals.refuse(limit, 5, 1.2, "operator/2")
    assert [(line["event"], line["refused"], line["last"]) for line in logs] == [
        ("limit_reached", 1, "operator/1"),
        ("limit_reached", 100, "operator/2"),
    ]
    assert registry.get_sample_value("http_requests_limited_total", {"limit": "things"}) == 101
    assert problem.headers == {
        "Retry-After": "2",
        "RateLimit-Policy": '"things";q=5;w=60',
        "RateLimit": '"things";r=0;t=2',
    }


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 0.5, allow_nan=False)), max_size=80))
def test_whoever_does_not_heed_refusals_is_answered_later_and_nobody_else(steps: list[tuple[str, float]]) -> None:
    clock, limit = ManualClock(), Limit("things", "things of this token", "wait", 60.0)
    refusals = Refusals(CollectorRegistry(), clock.monotonic_s)
    at_once: dict[str, list[float]] = defaultdict(list)
    for who, pause_s in steps:
        clock.advance(pause_s)
        delay_s = refusals.refuse(limit, 5, 1.2, who).delay_s
        now_s, before = clock.monotonic_s(), at_once[who]
        assert delay_s in (0.0, LATER_S)
        if delay_s:
            assert len([since_s for since_s in before if now_s - since_s <= 1.0]) >= 9, "ten were on their way"
        else:
            before.append(now_s)
            for first, since_s in enumerate(before):
                assert len(before) - first <= 10 * (1 + now_s - since_s) + 1e-3


# -- over HTTP --------------------------------------------------------------------------------------------------------


class Api:
    """A small app, its clock and the settings that it obeys."""

    def __init__(self, key: Path | None = None, **settings: int) -> None:
        """`key`: the file of signed tokens' key."""
        self.clock, self.tokens, self.registry = ManualClock(), Tokens(), CollectorRegistry()
        self.app = make_app("limits", "1", registry=self.registry, clock=self.clock)
        signed = None if key is None else SignedTokens(FileKey(key), self.clock)
        self.signed_tokens, self.askers = signed, list[object]()
        self.authenticator = Authenticator(self.tokens, self.clock, signed)  # type: ignore[arg-type]  # what it asks of a store
        self.app.state.authenticator = self.authenticator
        self.app.state.request_limits.follow(lambda: RequestLimitSettings(**settings))
        router = APIRouter()

        @router.get("/api/v1/things")
        async def things(who: Annotated[Principal, Depends(require_scope("stations:write"))]) -> dict[str, str]:
            asker = _asker.get()
            self.askers.append(None if asker is None else asker())
            return {"who": who.name}

        self.app.include_router(router)

    def client(self, address: str = "10.0.0.1") -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app, client=(address, 1))
        return httpx.AsyncClient(transport=transport, base_url="http://x")

    async def get(self, token: str = FIRST, address: str = "10.0.0.1", path: str = "/api/v1/things") -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        async with self.client(address) as client:
            return await client.get(path, headers=headers)

    def signed(self, subject: str, **claims: str) -> str:
        exp_s = self.clock.now_ms() // 1_000 + 3_600
        return jwt.encode({"sub": subject, "roles": ["operator"], "exp": exp_s, **claims}, SECRET, "HS256")

    def limited(self, limit: str) -> float | None:
        return self.registry.get_sample_value("http_requests_limited_total", {"limit": limit})


async def test_beyond_its_requests_a_token_gets_429_until_some_are_back_and_others_do_not_notice() -> None:
    api = Api(requests_per_minute_max=20)
    answers = [await api.get() for _ in range(20)]
    assert {answer.status_code for answer in answers} == {200}
    assert ["RateLimit" in answer.headers for answer in answers] == [False] * 17 + [True] * 3  # a tenth is left
    assert answers[-1].headers["RateLimit"] == '"requests";r=0;t=60'
    assert answers[-1].headers["RateLimit-Policy"] == '"requests";q=20;w=60'
    refused = await api.get()
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "3")
    assert (refused.json()["reason"], refused.headers["RateLimit"]) == ("requests_limited", '"requests";r=0;t=3')
    assert (await api.get(DRIVER)).status_code == 403  # its request is counted, too
    assert (await api.get(SECOND)).status_code == 200
    api.clock.advance(int(refused.headers["Retry-After"]))
    assert [(await api.get()).status_code for _ in range(2)] == [200, 429]
    assert api.limited("requests") == 2


async def test_a_refusal_that_is_answered_later_holds_up_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    api = Api(requests_per_minute_max=1)
    monkeypatch.setattr(refusals_module, "LATER_S", 3_600.0)
    assert [(await api.get()).status_code for _ in range(11)] == [200] + [429] * 10
    unheeding = asyncio.create_task(api.get())
    assert (await api.get(SECOND)).status_code == 200
    assert not unheeding.done()
    unheeding.cancel()
    monkeypatch.setattr(refusals_module, "LATER_S", 0.001)
    later = await api.get()
    assert (later.status_code, later.json()["reason"]) == (429, "requests_limited")


async def test_the_audit_names_whose_bound_is_spent() -> None:
    api, entries = Api(requests_per_minute_max=1), list[Entry]()
    api.app.state.audit = RequestAudit(api.clock, entries.append)
    assert [(await api.get()).status_code for _ in range(3)] == [200, 429, 429]
    (entry,) = entries
    assert (entry.status, entry.role, entry.token_id is None) == (429, "operator", False)
    assert (entry.actor, entry.endpoint, entry.address) == (f"operator/{entry.token_id}", "/api/v1/things", "10.0.0.1")


async def test_guesses_of_an_address_end_without_a_look_up_and_known_tokens_of_it_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(refusals_module, "LATER_S", 0.0)
    api = Api(unauthenticated_per_minute_max=5)
    assert (await api.get()).status_code == 200
    before = api.tokens.look_ups
    statuses = [(await api.get("vso_" + f"{number:043d}")).status_code for number in range(50)]
    assert statuses == [401] * 5 + [429] * 45
    assert api.tokens.look_ups - before == 5
    assert (await api.get()).status_code == 200  # it is known
    assert (await api.get(SECOND, "10.0.0.2")).status_code == 200
    assert (await api.get(UNKNOWN, "10.0.0.2")).status_code == 401
    retry = await api.get(DRIVER)  # it is good, and nobody here has seen it
    assert (retry.status_code, retry.json()["reason"]) == (429, "unauthenticated_limited")
    api.clock.advance(int(retry.headers["Retry-After"]))
    assert (await api.get(DRIVER)).status_code == 403


@pytest.mark.parametrize("token", ["", "short", UNKNOWN])
async def test_requests_without_an_accepted_token_are_counted_by_address(token: str) -> None:
    api = Api(unauthenticated_per_minute_max=5)
    answers = [await api.get(token) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429]
    assert answers[-1].headers["Retry-After"] == "12"
    assert (await api.get(token, "10.0.0.2")).status_code == 401
    assert (await api.get(path="/healthz", token=token)).status_code == 200
    assert (await api.get(SECOND)).status_code == 200


async def test_a_revoked_token_that_many_devices_of_an_address_send_does_not_keep_a_good_one_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(refusals_module, "LATER_S", 0.0)
    api = Api(unauthenticated_per_minute_max=5)
    statuses = {(await api.get(UNKNOWN)).status_code for _ in range(50)}
    assert statuses == {401, 429}
    assert api.tokens.look_ups == 1  # it is known to be none
    assert (await api.get(SECOND)).status_code == 200


async def test_a_signed_token_passes_whatever_its_neighbours_send_and_so_does_a_long_response(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verifying it asks nobody, and what was accepted is no guess."""
    monkeypatch.setattr(refusals_module, "LATER_S", 0.0)
    (tmp_path / "key").write_bytes(SECRET)
    api = Api(tmp_path / "key", unauthenticated_per_minute_max=5)
    checks = []
    for token in (api.signed("S1"), SECOND):
        request = Request({"type": "http", "app": api.app, "client": ("10.0.0.1", 1), "headers": _bearer(token)})
        await api.authenticator.require(request, "stations:write")
        checks.append(api.authenticator.check_of(request))
    for number in range(20):
        await api.get("vso_" + f"{number:043d}")
        await api.get(api.signed("S2") + "A")
    assert api.limited("unauthenticated")
    assert (await api.get(api.signed("S3"))).status_code == 200
    api.authenticator._cached.clear()
    assert api.signed_tokens is not None
    api.signed_tokens._verified.clear()
    assert [await check() for check in checks] == [True, True]


async def test_all_signed_tokens_of_a_subject_have_one_bound(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(SECRET)
    api = Api(tmp_path / "key", requests_per_minute_max=3)
    assert [(await api.get(api.signed("S1", jti=str(number)))).status_code for number in range(5)] == [200] * 3 + [
        429
    ] * 2
    assert (await api.get(api.signed("S2"))).status_code == 200


async def test_questions_are_asked_by_whom_a_token_is_of_however_the_header_is_written(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(SECRET)
    api = Api(tmp_path / "key")
    written = ("Bearer {}", "bearer {}", "BEARER  {} ", "bEaReR {}")
    for tokens in ([FIRST], [api.signed("S1", jti=jti) for jti in "ab"]):
        askers = set()
        for text, token in product(written, tokens):
            async with api.client() as client:
                answer = await client.get("/api/v1/things", headers={"authorization": text.format(token)})
            assert answer.status_code == 200
            askers.add(api.askers.pop())
        assert len(askers) == 1
    scopes = [
        {"headers": [(b"authorization", text.format(SECOND).encode())], "client": ("10.0.0.1", 1)} for text in written
    ]
    assert len({asker_of(scope) for scope in scopes}) == 1  # not verified yet
    strangers = [{"headers": [], "client": (host, 1)} for host in ("2001:db8::1", "2001:db8::2")]
    assert len({asker_of(scope) for scope in strangers}) == 1


def _bearer(token: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", f"Bearer {token}".encode())]


async def test_every_route_that_takes_a_token_counts_its_requests() -> None:
    """The one place is the authenticator: a route that declares kinds cannot be reached without it."""
    api = Api(requests_per_minute_max=1)
    assert (await api.get()).status_code == 200
    answers = await asyncio.gather(*(api.get() for _ in range(5)))
    assert {answer.status_code for answer in answers} == {429}
