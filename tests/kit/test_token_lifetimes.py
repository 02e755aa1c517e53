"""Expiry, rotation and last use of stored tokens, and revocation of signed ones; against a real database."""

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from kit.auth import authenticator as auth
from kit.auth.authenticator import OUTAGE_S, REVOCATION_S, Authenticator
from kit.auth.errors import InvalidToken
from kit.auth.key_file import FileKey, TrustedKey
from kit.auth.revocations import NONE_REVOKED, SignedRevocations
from kit.auth.scopes import KINDS, Kind
from kit.auth.signed_tokens import ClaimRules, Keys, SignedTokens
from kit.auth.token_lifetimes import LifetimeTooLong, TokenLifetimes
from kit.auth.token_store import TokenStore, hash_of
from kit.clock import ManualClock, SystemClock, from_ms, to_ms
from kit.database.postgres import Database
from kit.errors import Unavailable
from kit.web.app import Problem
from kit.web.route_rules import ACCEPTED
from tests.waiting import eventually

SECRET = b"0123456789abcdef0123456789abcdef"
HOUR = timedelta(hours=1)


@pytest.fixture
def clock() -> ManualClock:
    """At the database's time: tokens expire by both."""
    return ManualClock(from_ms(SystemClock().now_ms()))


@pytest.fixture
def store(access: Database) -> TokenStore:
    return TokenStore(access)


@pytest.fixture
def authenticator(store: TokenStore, clock: ManualClock) -> Authenticator:
    return Authenticator(store, clock)


@pytest.fixture
def signing(store: TokenStore, clock: ManualClock, tmp_path: Path) -> Authenticator:
    """Accepts tokens signed with SECRET too."""
    (tmp_path / "key").write_bytes(SECRET)
    return Authenticator(store, clock, SignedTokens(FileKey(tmp_path / "key"), clock))


def _request(token: str) -> Request:
    return Request(
        {"type": "http", "headers": [(b"authorization", f"Bearer {token}".encode())], ACCEPTED: "audit:read"}
    )


async def _is_refused(authenticator: Authenticator, token: str) -> str:
    with pytest.raises(Problem) as refused:
        await authenticator.authenticate(_request(token))
    assert refused.value.status == 401
    return refused.value.detail


async def test_a_token_is_used_until_the_moment_it_expires_and_not_after(
    store: TokenStore, authenticator: Authenticator, clock: ManualClock
) -> None:
    short, _ = await store.issue("auditor", expires_at=clock.now() + HOUR)
    longer, _ = await store.issue("auditor", expires_at=clock.now() + 2 * HOUR)
    lasting, _ = await store.issue("auditor")
    for token in (short, longer, lasting):
        await authenticator.authenticate(_request(token))
    clock.advance(HOUR.total_seconds() - 0.001)
    assert authenticator.known(f"Bearer {short}".encode(), "audit:read") is None, "it must ask first who is revoked"
    await authenticator.authenticate(_request(short))
    assert authenticator.known(f"Bearer {short}".encode(), "audit:read") is not None
    clock.advance(0.001)
    assert authenticator.known(f"Bearer {short}".encode(), "audit:read") is None
    assert "expired" in await _is_refused(authenticator, short)
    await authenticator.authenticate(_request(longer))
    clock.advance(HOUR.total_seconds())
    await _is_refused(authenticator, longer)
    await authenticator.authenticate(_request(lasting))


async def test_a_token_that_has_expired_is_not_taken_up(store: TokenStore, authenticator: Authenticator) -> None:
    token, listed = await store.issue("device", expires_at=datetime(2020, 1, 1, tzinfo=UTC))
    assert await store.find(hash_of(token)) is None
    await _is_refused(authenticator, token)
    assert await store.rotate(listed.token_id, HOUR) is None, "it is over"


async def test_both_secrets_are_the_same_token_until_the_overlap_ends(
    store: TokenStore, authenticator: Authenticator, access: Database, clock: ManualClock
) -> None:
    old, listed = await store.issue("operator", "ops", ["A"], scopes=["stations:read"])
    made = await store.rotate(listed.token_id, HOUR)
    assert made is not None
    new, rotated = made
    assert new != old
    assert (rotated.token_id, rotated.stations, rotated.scopes) == (listed.token_id, ("A",), ("stations:read",))
    before, after = [await authenticator.authenticate(_request(token)) for token in (old, new)]
    assert (before.token_id, before.scopes, before.stations) == (after.token_id, after.scopes, after.stations)
    await access.execute("UPDATE access.token SET previous_expires_at = now()")
    clock.advance(REVOCATION_S)
    await _is_refused(authenticator, old)
    await authenticator.authenticate(_request(new))


async def test_a_cached_secret_ends_with_the_overlap_also_if_it_was_cached_before_the_rotation(
    store: TokenStore, authenticator: Authenticator, clock: ManualClock
) -> None:
    old, listed = await store.issue("operator")
    await authenticator.authenticate(_request(old))
    assert await store.rotate(listed.token_id, timedelta(0)) is not None
    clock.advance(REVOCATION_S)
    await _is_refused(authenticator, old)


async def test_of_two_rotations_the_first_secret_ends_and_a_revocation_ends_all(
    store: TokenStore, authenticator: Authenticator, clock: ManualClock
) -> None:
    first, listed = await store.issue("operator")
    secrets = [first]
    for _ in range(2):
        made = await store.rotate(listed.token_id, HOUR)
        assert made is not None
        secrets.append(made[0])
    await _is_refused(authenticator, first)
    for secret in secrets[1:]:
        await authenticator.authenticate(_request(secret))
    await store.revoke(listed.token_id)
    clock.advance(REVOCATION_S)
    for secret in secrets:
        await _is_refused(authenticator, secret)
    assert await store.rotate(listed.token_id, HOUR) is None
    assert await store.rotate(uuid4(), HOUR) is None


BOUNDS = TokenLifetimes(timedelta(days=365), timedelta(days=90))


@pytest.fixture
def bounded(access: Database) -> TokenStore:
    return TokenStore(access, lifetimes=BOUNDS)


async def test_a_token_of_people_expires_and_a_device_s_only_where_that_is_wanted(bounded: TokenStore) -> None:
    now = SystemClock().now()
    for kind in KINDS:
        subject = "D1" if kind == "driver" else None
        _, listed = await bounded.issue(kind, subject=subject)
        _, short = await bounded.issue(kind, subject=subject, expires_at=now + HOUR)
        assert short.expires_at == now + HOUR
        if kind == "device":
            assert listed.expires_at is None
            await bounded.issue(kind, expires_at=now + timedelta(days=3_000))
        else:
            assert listed.expires_at is not None
            assert now + timedelta(days=365) <= listed.expires_at < now + timedelta(days=366)
            with pytest.raises(LifetimeTooLong, match="365 days at most"):
                await bounded.issue(kind, subject=subject, expires_at=now + timedelta(days=366))


async def test_a_rotation_ends_what_had_no_end_and_moves_no_other(store: TokenStore, bounded: TokenStore) -> None:
    now = SystemClock().now()
    year = timedelta(days=365)
    cases: list[tuple[Kind, datetime | None, bool]] = [
        ("operator", None, True),
        ("operator", now + 3 * year, True),
        ("operator", now + HOUR, False),
        ("device", None, False),
        ("device", now + 3 * year, False),
    ]
    for kind, expires_at, moves in cases:
        _, listed = await store.issue(kind, expires_at=expires_at)  # as before there were bounds
        made = await bounded.rotate(listed.token_id, HOUR)
        assert made is not None
        ends = made[1].expires_at
        assert (ends is not None and now + year <= ends < now + year + HOUR) if moves else ends == expires_at
        with pytest.raises(LifetimeTooLong) if kind == "operator" else nullcontext():
            await bounded.rotate(listed.token_id, HOUR, now + 2 * year)


async def test_a_token_that_nobody_uses_is_over_and_one_that_is_used_or_a_device_s_is_not(
    access: Database, bounded: TokenStore, store: TokenStore, clock: ManualClock
) -> None:
    tokens = {kind: await bounded.issue(kind) for kind in ("operator", "auditor", "device")}
    authenticator = Authenticator(bounded, clock)
    unlimited = Authenticator(store, clock)
    for token, _ in tokens.values():
        await authenticator.authenticate(_request(token))
    await authenticator.write_uses()
    await access.execute("UPDATE access.token SET idle_from = idle_from - interval '91 days'")
    clock.advance(REVOCATION_S)
    for token, _ in tokens.values():
        await authenticator.authenticate(_request(token))  # they were used just now
    await authenticator.stop()
    await access.execute("UPDATE access.token SET last_used_at = last_used_at - interval '91 days'")
    clock.advance(REVOCATION_S)
    for kind, (token, listed) in tokens.items():
        if kind == "device":
            await authenticator.authenticate(_request(token))
        else:
            assert "expired" in await _is_refused(authenticator, token)
            assert "expired" in await _is_refused(Authenticator(bounded, clock), token), "nor is it taken up"
            assert await bounded.rotate(listed.token_id, HOUR) is None, "it is over"
        await unlimited.authenticate(_request(token))
    await authenticator.stop()
    await unlimited.stop()


async def test_a_token_that_was_never_used_counts_from_its_issue_or_rotation(
    access: Database, bounded: TokenStore, store: TokenStore
) -> None:
    token, listed = await bounded.issue("operator")
    assert listed.unused_since == listed.idle_from
    await access.execute("UPDATE access.token SET idle_from = idle_from - interval '89 days'")
    assert await bounded.find(hash_of(token)) is not None
    await access.execute("UPDATE access.token SET idle_from = idle_from - interval '1 day'")
    assert await bounded.find(hash_of(token)) is None
    made = await store.rotate(listed.token_id, HOUR)
    assert made is not None
    for secret in (token, made[0]):
        assert await bounded.find(hash_of(secret)) is not None


async def test_tokens_from_before_there_was_a_bound_count_from_the_upgrade(access: Database) -> None:
    await access.execute("ALTER TABLE access.token DROP COLUMN idle_from")
    await access.execute(
        "INSERT INTO access.token (id, kind, hash, label, created_at, last_used_at) "
        "VALUES ($1, 'operator', $2, 'old', now() - interval '2 years', NULL)",
        uuid4(),
        hash_of("old"),
    )
    await access.execute((Path(auth.__file__).parent / "migrations" / "0006.idle.sql").read_text("utf-8"))
    assert await TokenStore(access, lifetimes=BOUNDS).find(hash_of("old")) is not None


async def test_uses_are_written_together_and_once_however_often_a_token_is_used(
    store: TokenStore, authenticator: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[list[Any]] = []
    record_use = store.record_use

    async def recorded(token_ids: Any) -> None:
        written.append(list(token_ids))
        await record_use(token_ids)

    monkeypatch.setattr(store, "record_use", recorded)
    tokens = [await store.issue("device") for _ in range(3)]
    for token, _ in tokens[:2]:
        for _ in range(10):
            await authenticator.authenticate(_request(token))
            assert authenticator.known(f"Bearer {token}".encode(), "readings:write") is not None
    assert written == []
    await authenticator.stop()
    assert written == [[listed.token_id for _, listed in tokens[:2]]]
    assert [token.last_used_at is not None for token in await store.list()] == [True, True, False]
    await authenticator.stop()
    assert len(written) == 1, "nothing was used since"


async def test_uses_are_written_after_a_while_without_another_request(
    store: TokenStore, authenticator: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "USES_S", 0.0)
    token, _ = await store.issue("device")
    await authenticator.authenticate(_request(token))

    async def written() -> bool:
        return (await store.list())[0].last_used_at is not None

    await eventually(written)


async def test_uses_that_cannot_be_written_stop_nobody(
    store: TokenStore, authenticator: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_token_ids: Any) -> None:
        raise Unavailable("PostgreSQL does not answer")

    monkeypatch.setattr(store, "record_use", away)
    token, _ = await store.issue("device")
    await authenticator.authenticate(_request(token))
    await authenticator.stop()
    await authenticator.authenticate(_request(token))


def _signed(clock: ManualClock, **claims: Any) -> str:
    now_s = to_ms(clock.now()) // 1000
    return jwt.encode(
        {"sub": "S1", "roles": ["auditor"], "iat": now_s, "exp": now_s + 86_400, **claims}, SECRET, "HS256"
    )


async def test_a_signed_token_is_revoked_by_its_id(
    store: TokenStore, signing: Authenticator, clock: ManualClock
) -> None:
    one, other = _signed(clock, jti="a"), _signed(clock, jti="b")
    for token in (one, other):
        await signing.authenticate(_request(token))
    await store.revoke_signed(jti="a")
    clock.advance(REVOCATION_S)
    assert signing.known(f"Bearer {one}".encode(), "audit:read") is None
    assert "revoked" in await _is_refused(signing, one)
    await signing.authenticate(_request(other))
    assert signing.known(f"Bearer {other}".encode(), "audit:read") is not None


async def test_the_signed_tokens_of_a_subject_from_before_a_moment_are_revoked_and_later_ones_not(
    store: TokenStore, signing: Authenticator, clock: ManualClock
) -> None:
    moment_s = to_ms(clock.now()) // 1000
    early, late = _signed(clock, iat=moment_s - 1), _signed(clock, iat=moment_s)
    undated = jwt.encode({"sub": "S1", "roles": ["auditor"], "exp": moment_s + 86_400}, SECRET, "HS256")
    other = _signed(clock, sub="S2", iat=moment_s - 1)
    await signing.authenticate(_request(early))
    await store.revoke_signed(subject="S1", issued_before=datetime.fromtimestamp(moment_s, UTC))
    await store.revoke_signed(subject="S1", issued_before=datetime.fromtimestamp(moment_s - 60, UTC))
    clock.advance(REVOCATION_S)
    for token in (early, undated):
        assert "revoked" in await _is_refused(signing, token)
    for token in (late, other):
        await signing.authenticate(_request(token))


async def test_what_is_revoked_is_known_before_the_first_signed_token_is_accepted(
    store: TokenStore, signing: Authenticator, clock: ManualClock
) -> None:
    await store.revoke_signed(jti="a")
    assert "revoked" in await _is_refused(signing, _signed(clock, jti="a"))


async def test_without_the_database_no_signed_token_is_accepted_for_longer_than_a_stored_one(
    store: TokenStore, signing: Authenticator, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = _signed(clock)
    await signing.authenticate(_request(token))

    def away(_token_hashes: Any) -> set[bytes]:
        raise Unavailable("PostgreSQL does not answer")

    monkeypatch.setattr(store, "gone", away)
    clock.advance(OUTAGE_S - 1)
    await signing.authenticate(_request(token))
    clock.advance(REVOCATION_S)
    with pytest.raises(Unavailable, match="revoked"):
        await signing.authenticate(_request(token))


async def test_revocations_that_are_read_again_are_the_same_object_until_there_are_others(
    store: TokenStore, access: Database
) -> None:
    """Though as many go as come, and though one that was begun earlier is committed later."""
    known = store.signed_revocations(NONE_REVOKED)
    assert known is NONE_REVOKED
    async with access.transaction() as late:
        await late.execute("INSERT INTO access.signed_token_revocation (jti) VALUES ('late')")
        await store.revoke_signed(jti="a")
        first = store.signed_revocations(known)
        assert first.token_ids == {"a"}
        assert store.signed_revocations(first) is first
    second = store.signed_revocations(first)
    assert second.token_ids == {"a", "late"}
    await access.execute("DELETE FROM access.signed_token_revocation WHERE jti = 'late'")
    await store.revoke_signed(jti="b")
    assert store.signed_revocations(second).token_ids == {"a", "b"}


async def test_a_revocation_goes_once_all_its_tokens_have_expired(store: TokenStore, access: Database) -> None:
    now = SystemClock().now()
    await access.execute(
        "INSERT INTO access.signed_token_revocation (jti, revoked_at) VALUES ('old', $1), ('young', $2)",
        now - timedelta(days=32), now - timedelta(days=30),
    )  # fmt: skip
    for subject, days in (("old", 32), ("young", 30), ("to come", -5)):
        await access.execute(
            "INSERT INTO access.signed_token_revocation (subject, issued_before, revoked_at) VALUES ($1, $2, $3)",
            subject, now - timedelta(days=days), now - timedelta(days=99),
        )  # fmt: skip
    await store.revoke_signed(jti="unbounded")
    assert await access.fetchval("SELECT count(*) FROM access.signed_token_revocation") == 6
    await store.revoke_signed(jti="new", lifetime_max=timedelta(days=30))
    left = store.signed_revocations(NONE_REVOKED)
    assert left.token_ids == {"young", "unbounded", "new"}
    assert left.issued_before_ms.keys() == {"young", "to come"}


_DAY_S = 86_400
_LIFE = st.tuples(st.integers(-3 * _DAY_S, 3 * _DAY_S), st.integers(0, 12 * _DAY_S))


@given(_LIFE, st.integers(-5 * _DAY_S, 0), st.integers(1, 3), st.booleans(), st.integers(0, 20 * _DAY_S))
def test_no_token_outlives_its_revocation(
    life: tuple[int, int], revoked_s: int, days: int, by_subject: bool, later_s: int
) -> None:
    """A token that was there when it was revoked is refused, whenever it is looked at."""
    clock = ManualClock()
    now_s = to_ms(clock.now()) // 1000
    issued_s, expires_s = now_s + life[0], now_s + life[0] + life[1]
    rules = ClaimRules(lifetime_days_max=days)
    claims = {"sub": "S1", "jti": "a", "roles": ["auditor"], "iat": issued_s, "exp": expires_s}
    token = jwt.encode(claims, SECRET, "HS256")
    seen_s = now_s + revoked_s  # when it is revoked, it is there
    if issued_s > seen_s:
        return
    clock.set_wall(from_ms((seen_s + later_s) * 1000))
    is_deleted = later_s > timedelta(days=days).total_seconds() + _DAY_S  # as _FORGET_SIGNED
    moment_ms = (seen_s + 1) * 1000 if by_subject else None
    row = (None, "S1", moment_ms) if by_subject else ("a", None, None)
    signed = SignedTokens(cast("Keys", _OneKey()), clock, rules)
    signed.set_revocations(NONE_REVOKED if is_deleted else SignedRevocations.of([row]))
    with pytest.raises(InvalidToken):
        signed.verify(token)


class _OneKey:
    version = 0

    def key_for(self, _token: str) -> TrustedKey:
        return TrustedKey(SECRET, ("HS256",))


@pytest.mark.parametrize(
    ("claims", "says"),
    [
        ({"exp": 10}, "no `iat`"),
        ({"iat": 60, "exp": 120}, "in the future"),
        ({"iat": 0, "exp": 86_401}, "more than 1 days"),
    ],
)
def test_with_a_longest_lifetime_a_token_tells_when_it_was_issued_and_is_short(
    claims: dict[str, int], says: str
) -> None:
    clock = ManualClock()
    now_s = to_ms(clock.now()) // 1000
    moments = {name: now_s + value for name, value in claims.items()}
    token = jwt.encode({"sub": "S1", "roles": ["auditor"], **moments}, SECRET, "HS256")
    with pytest.raises(InvalidToken, match=says):
        SignedTokens(cast("Keys", _OneKey()), clock, ClaimRules(lifetime_days_max=1)).verify(token)
    if "iat" not in claims:
        SignedTokens(cast("Keys", _OneKey()), clock, ClaimRules()).verify(token)


def test_revocations_name_tokens_and_subjects() -> None:
    rows = [("a", None, None), (None, "S1", 5), (None, "S1", 3)]
    revocations = SignedRevocations.of(rows, 7)
    assert (revocations.fingerprint, revocations.issued_before_ms) == (7, {"S1": 5})
    assert revocations.revoke("a", "S9", None)
    assert revocations.revoke(None, "S1", 0.004)
    assert not revocations.revoke(None, "S1", 0.005)
    assert not NONE_REVOKED.revoke("a", "S1", None)


async def test_a_check_of_a_long_response_ends_with_its_token(
    store: TokenStore, signing: Authenticator, clock: ManualClock
) -> None:
    revoked, listed = await store.issue("auditor")
    expiring, _ = await store.issue("auditor", expires_at=clock.now() + timedelta(seconds=30))
    exp_s = to_ms(clock.now()) // 1000 + 30
    tokens = [revoked, expiring, _signed(clock, jti="a"), _signed(clock, exp=exp_s)]
    checks = []
    for token in tokens:
        request = _request(token)
        await signing.require(request, "audit:read")
        checks.append(signing.check_of(request))
    assert [await check() for check in checks] == [True, True, True, True]
    await store.revoke(listed.token_id)
    await store.revoke_signed(jti="a")
    clock.advance(REVOCATION_S)
    assert [await check() for check in checks] == [False, True, False, True]
    clock.advance(30 - REVOCATION_S)
    assert [await check() for check in checks] == [False] * 4
    await signing.authenticate(_request(tokens[3]))  # a request has the leeway
