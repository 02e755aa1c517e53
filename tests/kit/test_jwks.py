"""Keys by URL: rotation, caching, outages, discovery, and what is not believed."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from starlette.requests import Request

from kit.auth import jwks
from kit.auth.authenticator import REVOCATION_S, Authenticator
from kit.auth.errors import InvalidToken
from kit.auth.jwks import BYTES_MAX, KEYS_MAX, READ_AGAIN_S, READ_EVERY_S, JwksKeys, is_safe
from kit.auth.revocations import NONE_REVOKED, SignedRevocations
from kit.auth.signed_tokens import ClaimRules, SignedTokens
from kit.auth.token_store import Principal
from kit.clock import ManualClock, to_ms
from kit.errors import ConfigError, Unavailable
from kit.settings import Settings
from kit.web.app import Problem
from tests.kit.jwks_server import Provider, jwk_of, running_provider
from tests.waiting import eventually
from voltstream.settings import load_settings

NOW = datetime(2026, 3, 29, 9, 0, tzinfo=UTC)
NOW_S = to_ms(NOW) // 1000
OLD = rsa.generate_private_key(65_537, 2_048)
NEW = rsa.generate_private_key(65_537, 2_048)


class _NothingRevoked:
    """In place of the database's tokens."""

    def gone(self, _token_hashes: object) -> set[bytes]:
        return set()

    def signed_revocations(self, _known: object) -> SignedRevocations:
        return NONE_REVOKED


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with running_provider() as running:
        running.keys = [jwk_of(OLD, "old")]
        yield running


@pytest.fixture
def keys(provider: Provider, clock: ManualClock) -> JwksKeys:
    return JwksKeys(provider.jwks_url, "", clock)


@pytest.fixture
def authenticator(keys: JwksKeys, provider: Provider, clock: ManualClock) -> Authenticator:
    rules = ClaimRules(issuer=provider.url, audience="voltstream")
    return Authenticator(_NothingRevoked(), clock, SignedTokens(keys, clock, rules))  # type: ignore[arg-type]  # what it asks of a store


def _token(provider: Provider, key: Any = OLD, kid: str | None = "old", algorithm: str = "RS256", **claims: Any) -> str:
    common = {"iss": provider.url, "aud": "voltstream", "sub": "S1", "roles": ["support"], "exp": NOW_S + 10**6}
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode({**common, **claims}, key, algorithm, headers)


def _request(token: str) -> Request:
    return Request({"type": "http", "headers": [(b"authorization", f"Bearer {token}".encode())]})


async def _accepted(authenticator: Authenticator, token: str) -> Principal:
    return await authenticator.authenticate(_request(token))


async def _refused(authenticator: Authenticator, token: str) -> str:
    with pytest.raises(Problem) as refused:
        await authenticator.authenticate(_request(token))
    assert refused.value.status == 401
    return refused.value.detail


async def test_keys_are_read_once_however_many_tokens_come_at_once(
    provider: Provider, authenticator: Authenticator
) -> None:
    assert provider.asked == [], "none before a token"
    tokens = [_token(provider, sub=f"S{number}") for number in range(20)]
    principals = await asyncio.gather(*(_accepted(authenticator, token) for token in tokens))
    assert {principal.kind for principal in principals} == {"support"}
    assert provider.asked == ["jwks"]


async def test_a_new_key_is_trusted_as_soon_as_a_token_names_it(
    provider: Provider, authenticator: Authenticator, clock: ManualClock
) -> None:
    await _accepted(authenticator, _token(provider))
    provider.keys.append(jwk_of(NEW, "new"))
    clock.advance(READ_AGAIN_S)
    await _accepted(authenticator, _token(provider, NEW, "new"))
    await _accepted(authenticator, _token(provider))
    assert provider.asked == ["jwks"] * 2


async def test_a_key_that_is_gone_is_no_longer_trusted_not_even_for_tokens_that_are_remembered(
    provider: Provider, authenticator: Authenticator, clock: ManualClock
) -> None:
    token = _token(provider)
    await _accepted(authenticator, token)
    assert authenticator.known(f"Bearer {token}".encode(), "sessions:read") is not None
    provider.keys = [jwk_of(NEW, "new")]
    clock.advance(READ_EVERY_S)
    await _accepted(authenticator, token)  # and the keys are read, which it does not wait for
    await eventually(lambda: provider.asked == ["jwks"] * 2)

    async def refused() -> bool:
        try:
            await _accepted(authenticator, token)
        except Problem:
            return True
        return False

    await eventually(refused)
    assert authenticator.known(f"Bearer {token}".encode(), "sessions:read") is None
    await _accepted(authenticator, _token(provider, NEW, "new"))


async def test_a_key_that_is_replaced_under_its_name_is_another_key(
    provider: Provider, keys: JwksKeys, authenticator: Authenticator
) -> None:
    token = _token(provider)
    await _accepted(authenticator, token)
    provider.keys = [jwk_of(NEW, "old")]
    await keys.read()
    assert "not trusted" in await _refused(authenticator, token)
    version = keys.version
    await keys.read()
    assert keys.version == version, "nothing has changed"


async def test_unknown_keys_cause_one_reading_in_ten_seconds(
    provider: Provider, authenticator: Authenticator, clock: ManualClock
) -> None:
    for second in range(25):
        assert "does not publish" in await _refused(authenticator, _token(provider, NEW, f"k{second}"))
        clock.advance(1)
    assert len(provider.asked) == 3


async def test_in_an_outage_known_keys_stay_and_none_is_learnt(
    provider: Provider, authenticator: Authenticator, clock: ManualClock
) -> None:
    await _accepted(authenticator, _token(provider))
    provider.status = 503
    clock.advance(READ_EVERY_S)
    for number in range(3):
        await _accepted(authenticator, _token(provider, sub=f"S{number}"))
        await _refused(authenticator, _token(provider, NEW, "new"))
        clock.advance(READ_EVERY_S)
    provider.status, provider.keys = 200, [jwk_of(NEW, "new")]
    await _accepted(authenticator, _token(provider, NEW, "new"))


async def test_before_the_first_keys_are_read_nobody_can_be_judged(
    provider: Provider, authenticator: Authenticator, clock: ManualClock
) -> None:
    provider.status = 500
    with pytest.raises(Unavailable, match="identity provider"):
        await _accepted(authenticator, _token(provider))
    provider.status = 200
    with pytest.raises(Unavailable, match="identity provider"):
        await _accepted(authenticator, _token(provider))
    clock.advance(READ_AGAIN_S)
    await _accepted(authenticator, _token(provider))


async def test_a_provider_that_does_not_answer_is_not_waited_for_without_end(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "READ_S_MAX", 0.01)

    async def hanging(_url: str) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    keys = JwksKeys("https://id.example/jwks", "", clock, hanging)
    with pytest.raises(Unavailable):
        await keys.refresh()
    with pytest.raises(Unavailable, match="TimeoutError"):
        await keys.describe()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 200),
        (b"[]", 200),
        (b"{}", 200),
        (b'{"keys": {}}', 200),
        (b'{"keys": []}', 200),
        (b'{"keys": [1, null, {"kid": 5}, {"kty": "RSA", "kid": "a"}]}', 200),
        (b'{"keys": [' + b"{}," * KEYS_MAX + b"{}]}", 200),
        (b" " * (BYTES_MAX + 1), 200),
        (b"[" * 10_000, 200),
        (b"\xff", 200),
        (None, 302),
        (None, 404),
    ],
)
async def test_documents_that_are_no_keys_change_nothing(
    provider: Provider, keys: JwksKeys, authenticator: Authenticator, body: bytes | None, status: int
) -> None:
    await _accepted(authenticator, _token(provider))
    provider.body, provider.status = body, status
    with pytest.raises(ValueError, match="/jwks"):
        await keys.read()
    await _accepted(authenticator, _token(provider, sub="S2"))


async def test_only_keys_that_verify_signatures_are_read(provider: Provider, keys: JwksKeys) -> None:
    short = rsa.generate_private_key(65_537, 1_024)  # noqa: S505  # that it is too short is the point
    private = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(OLD))
    provider.keys = [
        jwk_of(OLD, "good"),
        jwk_of(OLD, "encrypts", use="enc"),
        jwk_of(OLD, "signs", key_ops=["sign"]),
        jwk_of(OLD, "hmac", alg="HS256"),
        jwk_of(OLD, "none", alg="none"),
        jwk_of(short, "short"),
        {**private, "kid": "private"},
        {"kty": "oct", "kid": "secret", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "alg": "HS256"},
    ]
    assert await keys.read() == 1
    assert "1 keys of" in await keys.describe()


async def test_of_two_keys_of_one_name_the_one_that_verifies_is_read(
    provider: Provider, keys: JwksKeys, authenticator: Authenticator
) -> None:
    provider.keys = [jwk_of(NEW, "old", use="enc"), jwk_of(OLD, "old"), jwk_of(NEW, "new")]
    assert await keys.read() == 2
    await _accepted(authenticator, _token(provider))


async def test_the_algorithm_is_one_of_the_key(provider: Provider, authenticator: Authenticator) -> None:
    curve, edwards = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
    provider.keys = [
        jwk_of(OLD, "any"),
        jwk_of(NEW, "one", alg="PS256"),
        {**json.loads(jwt.algorithms.ECAlgorithm.to_jwk(curve.public_key())), "kid": "curve"},
        {**json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(edwards.public_key())), "kid": "edwards"},
    ]
    for key, kid, algorithm in (
        (OLD, "any", "RS256"),
        (OLD, "any", "PS384"),
        (NEW, "one", "PS256"),
        (curve, "curve", "ES256"),
        (edwards, "edwards", "EdDSA"),
    ):
        await _accepted(authenticator, _token(provider, key, kid, algorithm))
    assert "must be signed with PS256" in await _refused(authenticator, _token(provider, NEW, "one", "RS256"))
    secret = "s" * 32
    for kid in ("any", "curve", "edwards"):
        assert "must be signed with" in await _refused(authenticator, _token(provider, secret, kid, "HS256"))


async def test_a_token_without_a_key_id_is_of_the_only_key(provider: Provider, authenticator: Authenticator) -> None:
    await _accepted(authenticator, _token(provider, kid=None))


async def test_of_several_keys_a_token_names_its_own(provider: Provider, authenticator: Authenticator) -> None:
    provider.keys.append(jwk_of(NEW, "new"))
    assert "must name its key" in await _refused(authenticator, _token(provider, kid=None))
    assert "not trusted" in await _refused(authenticator, _token(provider, NEW, "old"))
    assert "at most 256" in await _refused(authenticator, _token(provider, kid="x" * 300))
    _, claims, signature = _token(provider).split(".")
    for header in ({"alg": "RS256", "kid": 7}, {"alg": "RS256", "kid": ["old"]}, {"alg": "RS256", "kid": {}}):
        encoded = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
        assert "malformed" in await _refused(authenticator, f"{encoded}.{claims}.{signature}")


async def test_issuer_and_audience_are_checked(provider: Provider, authenticator: Authenticator) -> None:
    await _accepted(authenticator, _token(provider))
    assert "another issuer" in await _refused(authenticator, _token(provider, iss=provider.url + "/"))
    assert "another audience" in await _refused(authenticator, _token(provider, aud="other"))


async def test_discovery_names_the_keys_of_its_own_issuer_alone(provider: Provider, clock: ManualClock) -> None:
    keys = JwksKeys("", provider.url, clock)
    assert await keys.read() == 1
    assert provider.asked == ["discovery", "jwks"]
    good = dict(provider.discovery)
    for changed, says in (
        ({"issuer": provider.url + "/"}, "of another issuer"),
        ({"issuer": "https://evil.example"}, "of another issuer"),
        ({"jwks_uri": "http://evil.example/jwks"}, "no jwks_uri of https"),
        ({"jwks_uri": "file:///etc/passwd"}, "no jwks_uri of https"),
        ({"jwks_uri": None}, "no jwks_uri of https"),
    ):
        provider.discovery = {**good, **changed}
        with pytest.raises(ValueError, match=says):
            await keys.read()


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://id.example/jwks", True),
        ("http://127.0.0.1:8080/jwks", True),
        ("http://[::1]/jwks", True),
        ("http://localhost/jwks", True),
        ("http://id.example/jwks", False),
        ("http://127.0.0.1.evil.example/", False),
        ("http://127.0.0.1@evil.example/", False),
        ("https://", False),
        ("ftp://127.0.0.1/", False),
        ("http://[", False),
        ("", False),
    ],
)
def test_keys_are_read_by_https_or_from_this_machine(url: str, safe: bool) -> None:
    assert is_safe(url) == safe


def _settings(**given: Any) -> Settings:
    return load_settings(**given)


def test_settings_of_keys_by_url_name_issuer_and_audience(clock: ManualClock) -> None:
    both = {"jwt_issuer": "https://id.example", "jwt_audience": "voltstream"}
    url = {"jwt_jwks_url": "https://id.example/jwks"}
    assert SignedTokens.of(_settings(**url, **both), clock) is not None
    assert SignedTokens.of(_settings(jwt_discovery=True, **both), clock) is not None
    for given, says in (
        (url, "JWT_ISSUER and VOLTSTREAM_JWT_AUDIENCE not"),
        ({**url, "jwt_issuer": "x"}, "JWT_AUDIENCE not"),
        ({"jwt_discovery": True}, "JWT_ISSUER and"),
        ({**url, **both, "jwt_discovery": True}, "keys are of one of them"),
        ({**url, **both, "jwt_key_file": "key"}, "keys are of one of them"),
    ):
        with pytest.raises(ConfigError, match=says):
            _settings(**given)
    for unsafe in (
        {"jwt_jwks_url": "http://id.example/jwks"},
        {"jwt_discovery": True, "jwt_issuer": "http://id.example"},
    ):
        with pytest.raises(ConfigError, match="https"):
            SignedTokens.of(_settings(**{**both, **unsafe}), clock)


async def test_the_claims_that_tell_roles_and_scopes_are_settings(provider: Provider, clock: ManualClock) -> None:
    settings = _settings(
        jwt_jwks_url=provider.jwks_url,
        jwt_issuer=provider.url,
        jwt_audience="voltstream",
        jwt_roles_claim="realm_access.roles",
        jwt_roles={"volt-ops": "operator", "volt-help": "support"},
        jwt_scopes_claim="scope",
    )
    signed = SignedTokens.of(settings, clock)
    authenticator = Authenticator(_NothingRevoked(), clock, signed)  # type: ignore[arg-type]  # what it asks of a store
    access = {"roles": ["volt-ops", "operator", "offline_access"]}
    principal = await _accepted(
        authenticator, _token(provider, realm_access=access, scope="openid stations:read billing:refund")
    )
    assert (principal.kind, sorted(principal.scopes)) == ("operator", ["stations:read"]), (
        "billing:refund is not of its role"
    )
    none = _token(provider, realm_access=access, roles=["admin"])
    assert (await _accepted(authenticator, none)).scopes == frozenset(), "without the claim it may nothing"
    without: tuple[Any, ...] = ({"roles": ["admin"]}, {"roles": []}, {}, [], "x", None)
    for roles in without:
        with pytest.raises(Problem) as refused:
            await _accepted(authenticator, _token(provider, realm_access=roles))
        assert refused.value.status == 403


async def test_a_role_that_is_taken_away_ends_with_the_tokens_from_before(
    provider: Provider, authenticator: Authenticator, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = _token(provider, iat=NOW_S - 60, roles=["admin"]), _token(provider, iat=NOW_S, roles=["support"])
    assert (await _accepted(authenticator, before)).kind == "admin"
    revocations = SignedRevocations.of([(None, "S1", NOW_S * 1000)])
    monkeypatch.setattr(authenticator._store, "signed_revocations", lambda _known: revocations)
    clock.advance(REVOCATION_S)
    assert "revoked" in await _refused(authenticator, before)
    assert (await _accepted(authenticator, after)).kind == "support"


async def test_a_token_that_is_hostile_asks_the_provider_for_nothing(
    provider: Provider, keys: JwksKeys, authenticator: Authenticator
) -> None:
    await keys.read()
    for token in ("a.b.c", "..", "e30.e30.", "a" * 9_000 + ".b.c"):
        await _refused(authenticator, token)
    assert provider.asked == ["jwks"]
    signed = SignedTokens(keys, ManualClock(NOW))
    for token in ("a.b.c", "..", "e30.e30."):
        with pytest.raises(InvalidToken):
            signed.verify(token)
