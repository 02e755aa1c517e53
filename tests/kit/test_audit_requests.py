"""Laws of what is kept of requests: nothing is lost from the counts, and what strangers can cause is bounded."""

from collections import Counter
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.audit import refusals, telemetry_counts
from kit.audit.actors import token_kind
from kit.audit.entry import ANONYMOUS, Actor, Entry
from kit.audit.requests import RequestAudit
from kit.audit.telemetry_counts import TelemetryCounts
from kit.auth.token_store import Principal
from kit.clock import ManualClock
from kit.web.addresses import network_of

ADA = Actor("operator/ada", "operator", "stored", UUID(int=1), "192.0.2.1")
STRANGER = Actor(address="192.0.2.9")


def _audit() -> tuple[RequestAudit, list[Entry]]:
    entries: list[Entry] = []
    return RequestAudit(ManualClock(datetime(2026, 3, 29, tzinfo=UTC)), entries.append), entries


_REFUSED = st.tuples(
    st.sampled_from([ADA, STRANGER, Actor(address="192.0.2.8")]),
    st.sampled_from(["GET", "POST"]),
    st.sampled_from(["/a", "/b"]),
    st.sampled_from([401, 403, 429]),
)


@given(st.lists(st.none() | _REFUSED, max_size=80), st.integers(1, 4), st.integers(1, 4))
def test_every_refusal_is_counted_once_and_a_minute_has_a_bounded_number_of_entries(
    requests: list[tuple[Actor, str, str, int] | None], kinds_max: int, strangers_max: int
) -> None:
    """None: a minute ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refusals, "KINDS_MAX", kinds_max)
        patch.setattr(refusals, "STRANGERS_MAX", strangers_max)
        audit, entries = _audit()
        wanted: Counter[tuple[str, int | None]] = Counter()
        before = 0
        for request in [*requests, None]:
            if request is None:
                audit.close_minute()
                strange = [entry for entry in entries[before:] if entry.actor == ANONYMOUS]
                assert len(strange) <= 2 * strangers_max + 3  # of each status the others
                assert len(entries) - before - len(strange) <= 2 * kinds_max + 3
                before = len(entries)
            else:
                actor, method, endpoint, status = request
                audit.refused(actor, method, endpoint, status, "id", 0.001)
                wanted[actor.name, status] += 1
        found: Counter[tuple[str, int | None]] = Counter()
        for entry in entries:
            name = ADA.name if entry.actor == "many" else entry.actor
            found[name, entry.status] += entry.requests
        assert found == wanted


def test_of_many_alike_ten_are_logged_and_two_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    counts = refusals.RefusalCounts()
    audit, entries = _audit()
    audit.refused(STRANGER, "GET", "/a", 401, "id", 0.0)
    seen = [counts.add(entries[0]) for _ in range(50)]
    assert [one.is_first for one in seen] == [True] + [False] * 49
    assert sum(one.is_logged for one in seen) == refusals.LINES_MAX
    assert [entry.requests for entry in counts.take()] == [49]
    assert list(counts.take()) == []


_PRINCIPALS = [Principal("device", UUID(int=number), None) for number in range(4)]
_PRINCIPALS.append(Principal("device", UUID(int=0), None))  # looked up again


@given(st.lists(st.sampled_from(_PRINCIPALS)), st.integers(1, 6))
def test_requests_with_readings_are_counted_by_token(requests: list[Principal], tokens_max: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(telemetry_counts, "TOKENS_MAX", tokens_max)
        counts = TelemetryCounts()
        for principal in requests:
            counts.count(principal)
        counted = counts.take()
        assert sum(counted.requests.values()) + counted.others == len(requests)
        assert len(counted.requests) <= tokens_max
        if tokens_max >= len(_PRINCIPALS):
            assert counted.requests == Counter(principal.token_id for principal in requests)
        assert counts.take() == ({}, 0)


@pytest.mark.parametrize(
    ("host", "kept"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::1", "::1"),
        ("a socket", "a socket"),
    ],
)
def test_addresses_of_one_network_are_one(host: str, kept: str) -> None:
    assert network_of(host) == kept


def test_stored_and_signed_tokens_are_told_apart() -> None:
    assert token_kind(b"Bearer vso_abc") == "stored"
    assert token_kind(b"Bearer a.b.c") == "signed"
