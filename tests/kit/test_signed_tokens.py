"""Tokens signed elsewhere: what counts, until when, and that nothing else does."""

import base64
import contextlib
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from kit.auth import signed_tokens
from kit.auth.authenticator import Authenticator
from kit.auth.errors import InvalidToken
from kit.auth.key_file import FileKey
from kit.auth.revocations import NONE_REVOKED, SignedRevocations
from kit.auth.scopes import KINDS, Kind, Scope
from kit.auth.signed_tokens import LEEWAY_S, ClaimRules, SignedTokens
from kit.auth.token_store import TokenStore
from kit.clock import ManualClock, to_ms
from kit.errors import ConfigError
from kit.web.app import Problem
from voltstream.settings import load_settings

NOW = datetime(2026, 3, 29, 9, 0, tzinfo=UTC)
NOW_S = to_ms(NOW) // 1000
SECRET = b"0123456789abcdef0123456789abcdef"
RSA = rsa.generate_private_key(65_537, 2_048)
OTHER_RSA = rsa.generate_private_key(65_537, 2_048)
CLAIMS: dict[str, Any] = {"sub": "D1", "roles": ["driver"], "exp": NOW_S + 300}

Make = Callable[..., SignedTokens]


def _pem(key: Any) -> bytes:
    public: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return public


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def make(tmp_path: Path, clock: ManualClock) -> Make:
    """SignedTokens of a key file's content."""

    def made(content: bytes, **checked: Any) -> SignedTokens:
        (tmp_path / "key").write_bytes(content)
        return SignedTokens(FileKey(tmp_path / "key"), clock, ClaimRules(**checked))

    return made


def _refusal(tokens: SignedTokens, token: str) -> str:
    with pytest.raises(InvalidToken) as raised:
        tokens.verify(token)
    return str(raised.value)


def _part(document: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    ("private", "algorithm"),
    [
        (RSA, "RS256"),
        (ec.generate_private_key(ec.SECP256R1()), "ES256"),
        (ec.generate_private_key(ec.SECP384R1()), "ES384"),
        (ec.generate_private_key(ec.SECP521R1()), "ES512"),
        (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
    ],
)
def test_the_algorithm_follows_from_the_key(make: Make, private: Any, algorithm: str) -> None:
    tokens = make(_pem(private))
    (principal,) = tokens.verify(jwt.encode(CLAIMS, private, algorithm))
    assert (principal.kind, principal.subject, principal.stations) == ("driver", "D1", None)


def test_a_shared_secret_is_hs256_with_or_without_a_newline_behind_it(make: Make) -> None:
    for content in (SECRET, SECRET + b"\n"):
        assert make(content).verify(jwt.encode(CLAIMS, SECRET, "HS256"))[0].subject == "D1"
    long_secret = SECRET * 2
    token = jwt.encode(CLAIMS, long_secret, "HS512")
    assert _refusal(make(long_secret), token) == "the token must be signed with HS256"


def test_none_is_no_algorithm(make: Make) -> None:
    for tokens in (make(_pem(RSA)), make(SECRET)):
        for name in ("none", "None", "NONE", "", None, 7, ["HS256"]):
            header = _part({"alg": name, "typ": "JWT"})
            for signature in ("", "AAAA"):
                assert "the token" in _refusal(tokens, f"{header}.{_part(CLAIMS)}.{signature}")


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "application/at+jwt", None])
def test_an_access_token_says_so_or_nothing(make: Make, kind: str | None) -> None:
    token = jwt.encode(CLAIMS, SECRET, "HS256", headers={"typ": kind})
    assert make(SECRET).verify(token)[0].subject == "D1"


@pytest.mark.parametrize("kind", ["logout+jwt", "dpop+jwt", "secevent+jwt", "id+jwt"])
def test_a_token_of_another_kind_is_no_access_token(make: Make, kind: str) -> None:
    assert "no access token" in _refusal(make(SECRET), jwt.encode(CLAIMS, SECRET, "HS256", headers={"typ": kind}))


@pytest.mark.parametrize("name", ["at_hash", "c_hash"])
def test_an_id_token_is_no_access_token(make: Make, name: str) -> None:
    """Signed by the same key, perhaps for the same audience: it says who logged in to a client."""
    token = jwt.encode({**CLAIMS, name: "77QmUPtjPfzWtF2AnpK9RQ"}, SECRET, "HS256")
    assert "no access token" in _refusal(make(SECRET), token)


def test_a_public_key_is_never_taken_for_a_secret(make: Make) -> None:
    """The attack: whoever knows the public key, which is everybody, signs with it by HMAC."""
    pem = _pem(RSA)
    der = RSA.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    tokens = make(pem)
    for secret in (pem, pem.strip(), der, base64.b64encode(der)):
        signed = f"{_part({'alg': 'HS256', 'typ': 'JWT'})}.{_part(CLAIMS)}"
        mac = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
        token = f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
        assert _refusal(tokens, token) == "the token must be signed with RS256"


def test_the_header_names_no_key_of_its_own(make: Make) -> None:
    """Embedded keys (`jwk`) and addresses of keys (`jku`, `x5u`) are the attacker's."""
    for header in ({"jwk": {"kty": "oct", "k": "AAAA"}}, {"jku": "http://127.0.0.1/"}, {"x5u": "http://127.0.0.1/"}):
        token = jwt.encode(CLAIMS, OTHER_RSA, "RS256", headers=header)
        assert "altered, or signed with a key that is not trusted" in _refusal(make(_pem(RSA)), token)


def test_a_token_of_another_key_or_altered_does_not_count(make: Make) -> None:
    tokens = make(_pem(RSA))
    good = jwt.encode(CLAIMS, RSA, "RS256")
    header, _, signature = good.split(".")
    for bad in (
        jwt.encode(CLAIMS, OTHER_RSA, "RS256"),
        f"{header}.{_part({**CLAIMS, 'roles': ['operator']})}.{signature}",
        f"{header}.{_part(CLAIMS)}.",
    ):
        assert "altered, or signed with a key that is not trusted" in _refusal(tokens, bad)
    assert tokens.verify(good)


def test_a_token_counts_until_it_expires_and_the_leeway_remembered_or_not(make: Make, clock: ManualClock) -> None:
    for expires_s in (NOW_S + 300, NOW_S + 300.5):
        tokens = make(SECRET)
        clock.set_wall(NOW)
        token = jwt.encode({**CLAIMS, "exp": expires_s}, SECRET, "HS256")
        assert tokens.verify(token) is tokens.verify(token)  # remembered
        clock.advance(300 + LEEWAY_S - 0.001)
        assert tokens.verify(token) == make(SECRET).verify(token)
        clock.advance(0.501)
        for known in (tokens, make(SECRET)):
            assert _refusal(known, token).startswith("the token expired at 2026-03-29T09:05:00.")
        assert not tokens._verified


def test_a_token_does_not_count_before_its_time(make: Make, clock: ManualClock) -> None:
    token = jwt.encode({**CLAIMS, "nbf": NOW_S + LEEWAY_S + 1}, SECRET, "HS256")
    tokens = make(SECRET)
    assert _refusal(tokens, token) == "the token is not valid before 2026-03-29T09:00:31.000Z"
    clock.advance(1)
    assert tokens.verify(token)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"exp": None}, "no `exp`"),
        ({"exp": "tomorrow"}, "`exp` must be seconds"),
        ({"exp": True}, "`exp` must be seconds"),
        ({"exp": float("inf")}, "`exp` must be seconds"),
        ({"exp": float("nan")}, "`exp` must be seconds"),
        ({"exp": -1}, "`exp` must be seconds"),
        ({"exp": 10**400}, "`exp` must be seconds"),
        ({"nbf": "now"}, "`nbf` must be seconds"),
        ({"sub": None}, "no `sub`"),
        ({"sub": ""}, "`sub` must be"),
        ({"sub": "x" * 65}, "`sub` must be"),
        ({"sub": "a\x00"}, "`sub` must be"),
        ({"roles": "operator"}, "`roles` must be a list"),
        ({"roles": {"operator": 1}}, "`roles` must be a list"),
        ({"roles": [["operator"]]}, "`roles` must be a list"),
        ({"stations": "A"}, "`stations` must be a list"),
        ({"stations": None}, "`stations` must be a list"),
    ],
)
def test_a_claim_that_is_wrong_is_named(make: Make, changed: dict[str, Any], says: str) -> None:
    claims = {**CLAIMS, **changed}
    signed = f"{_part({'alg': 'HS256'})}.{_part(claims)}"  # by hand: PyJWT's encode refuses some of these
    mac = hmac.new(SECRET, signed.encode(), hashlib.sha256).digest()
    token = f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
    assert says in _refusal(make(SECRET), token)


def test_issuer_and_audience_are_checked_where_they_are_set(make: Make) -> None:
    checked = make(SECRET, issuer="https://id.example", audience="voltstream")

    def signed(**claims: Any) -> str:
        return jwt.encode({**CLAIMS, **claims}, SECRET, "HS256")

    good = {"iss": "https://id.example", "aud": "voltstream"}
    assert checked.verify(signed(**good))
    assert checked.verify(signed(**{**good, "aud": ["other", "voltstream"]}))
    assert "another audience" in _refusal(checked, signed(**{**good, "aud": "other"}))
    assert "another audience" in _refusal(checked, signed(**{**good, "aud": ["volt"]}))
    assert "another issuer" in _refusal(checked, signed(**{**good, "iss": "https://id.example.evil"}))
    assert "no `iss`" in _refusal(checked, signed(aud="voltstream"))
    assert "no `aud`" in _refusal(checked, signed(iss="https://id.example"))
    assert make(SECRET).verify(signed(iss="anybody", aud="anything"))


def test_roles_that_are_not_ours_say_nothing(make: Make) -> None:
    tokens = make(SECRET)

    def kinds(**claims: Any) -> list[str]:
        token = jwt.encode({**CLAIMS, **claims}, SECRET, "HS256")
        return [principal.kind for principal in tokens.verify(token)]

    assert kinds(roles=["king", "driver", "Operator", "finance"]) == ["finance", "driver"]
    assert kinds(roles=[]) == []
    without = jwt.encode({"sub": "D1", "exp": NOW_S + 300}, SECRET, "HS256")
    assert tokens.verify(without) == ()
    assert kinds(roles=list(KINDS)) == list(KINDS)


def test_stations_bind_as_those_of_a_stored_token(make: Make) -> None:
    tokens = make(SECRET)
    claims = {**CLAIMS, "roles": ["device"], "stations": ["de*abc*1"]}
    (device,) = tokens.verify(jwt.encode(claims, SECRET, "HS256"))
    assert device.covers("DE*ABC*1")
    assert not device.covers("DE*ABC*2")
    (nowhere,) = tokens.verify(jwt.encode({**claims, "stations": []}, SECRET, "HS256"))
    assert not nowhere.covers("DE*ABC*1")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    place=st.integers(0, 42),
    letter=st.sampled_from("=ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"),
)
def test_however_a_token_is_written_its_id_is_the_same(make: Make, place: int, letter: str) -> None:
    """Else whoever has one has as many bounds as spellings."""
    tokens = make(SECRET)
    token = jwt.encode({**CLAIMS, "iss": "a"}, SECRET, "HS256")
    (one,) = tokens.verify(token)
    signature = token.rpartition(".")[2]
    for written in (
        f"{token}=",
        f"{token[:-1]}{letter}",
        token[: -len(signature) + place] + letter + signature[place:],
    ):
        with contextlib.suppress(InvalidToken):
            assert tokens.verify(written)[0].token_id == one.token_id


def test_tokens_of_one_subject_have_one_id_and_those_of_others_another(make: Make) -> None:
    def id_of(**claims: Any) -> UUID:
        return make(SECRET).verify(jwt.encode({**CLAIMS, **claims}, SECRET, "HS256"))[0].token_id

    assert id_of(jti="1") == id_of(jti="2", iat=NOW_S, exp=NOW_S + 60) == id_of(roles=["device"], stations=["A"])
    ids = [id_of(), id_of(sub="D2"), id_of(iss="a"), id_of(iss="a", sub="D2"), id_of(iss='a", "D1')]
    assert len(set(ids)) == len(ids)


def test_an_organisation_binds_as_that_of_a_stored_token(make: Make) -> None:
    def organisation(tokens: SignedTokens, **claims: Any) -> str | None:
        (operator,) = tokens.verify(jwt.encode({**CLAIMS, "roles": ["operator"], **claims}, SECRET, "HS256"))
        return operator.only.organisation

    tokens = make(SECRET)
    assert organisation(tokens) is None
    assert organisation(tokens, organisation="Nord AG") == "Nord AG"
    elsewhere = make(SECRET, organisation_claim="org.name")
    assert organisation(elsewhere, org={"name": "Nord AG"}) == "Nord AG"
    assert organisation(elsewhere, organisation="Nord AG", org={}) is None
    for wrong in ("", " Nord", "x" * 65, 1, None, ["Nord AG"], {"name": "Nord AG"}):
        token = jwt.encode({**CLAIMS, "roles": ["operator"], "organisation": wrong}, SECRET, "HS256")
        assert "`organisation` must be" in _refusal(tokens, token), "whoever cannot be limited is not let in"


def test_what_is_remembered_of_signed_tokens_is_bounded(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signed_tokens, "CACHE_MAX", 2)
    tokens = make(SECRET)
    for number in range(5):
        tokens.verify(jwt.encode({**CLAIMS, "sub": f"D{number}"}, SECRET, "HS256"))
        _refusal(tokens, f"{number}.b.c")
    assert len(tokens._verified) == 2


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(st.one_of(st.text(max_size=20), st.binary(max_size=60).map(lambda raw: _base64(raw))), max_size=5),
    document=st.recursive(
        # No moment of today or later: `exp` with it and `sub` make a token that is believed.
        st.none() | st.booleans() | st.integers(max_value=10**9) | st.floats(max_value=1e9) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*CLAIMS, "alg", "b64"]), inner),
        max_leaves=6,
    ),
)
def test_whatever_is_sent_is_refused_and_no_error_of_ours(make: Make, parts: list[str], document: Any) -> None:
    tokens = make(SECRET)
    signed = f"{_part({'alg': 'HS256'})}.{_part(document)}"
    mac = hmac.new(SECRET, signed.encode(), hashlib.sha256).digest()
    for token in (".".join(parts), f"{_part(document)}.{_part(CLAIMS)}.AAAA", f"{signed}.{_base64(mac)}"):
        _refusal(tokens, token)


def test_deep_and_long_documents_are_refused(make: Make) -> None:
    deep = _base64(b"[" * 3_000)
    for token in (f"{deep}.{deep}.AAAA", f"{_part({'alg': 'HS256'})}.{deep}.AAAA", "a" * 9_000 + ".b.c"):
        assert "the token" in _refusal(make(SECRET), token)


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "a secret of 0 bytes"),
        (SECRET[:31], "a secret of 31 bytes"),
        (SECRET[:31] + b"\n", "a secret of 31 bytes"),
        (b"x" * 70_000, "longer than"),
        (RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "a private key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "no public key"),
        (_pem(rsa.generate_private_key(65_537, 1_024)), "1024 bits"),  # noqa: S505  # that it is too short is the point
        (_pem(ec.generate_private_key(ec.SECP256K1())), "another kind"),
        (_pem(x25519.X25519PrivateKey.generate()), "another kind"),
        (RSA.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), "everybody would know"),
        (RSA.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH), "everybody would know"),
        (b'{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}', "everybody would know"),
        (b"".join(_pem(RSA).splitlines()[1:-1]), "everybody would know"),
        (b"\n".join(_pem(RSA).splitlines()[1:-1]), "everybody would know"),
    ],
)
def test_a_file_that_holds_no_key_to_trust_is_a_setting_to_mend(make: Make, content: bytes, says: str) -> None:
    with pytest.raises(ConfigError, match="VOLTSTREAM_JWT_KEY_FILE=") as raised:
        make(content)
    assert says in str(raised.value)
    assert "it must hold a public key as PEM" in str(raised.value)


def test_the_settings_decide_whether_signed_tokens_count(tmp_path: Path, clock: ManualClock) -> None:
    assert SignedTokens.of(load_settings(), clock) is None
    with pytest.raises(ConfigError, match="cannot be read"):
        SignedTokens.of(load_settings(jwt_key_file=str(tmp_path / "none")), clock)
    (tmp_path / "key").write_bytes(SECRET)
    named = load_settings(jwt_key_file=str(tmp_path / "key"), jwt_audience="voltstream")
    tokens = SignedTokens.of(named, clock)
    assert tokens is not None
    assert "no `aud`" in _refusal(tokens, jwt.encode(CLAIMS, SECRET, "HS256"))
    for alone in ("jwt_issuer", "jwt_audience"):
        with pytest.raises(ConfigError, match="neither VOLTSTREAM_JWT_KEY_FILE nor"):
            load_settings(**{alone: "x"})


class _NoStore:
    """A token store that must not be asked but for what is revoked."""

    revoked: SignedRevocations = NONE_REVOKED

    def gone(self, token_hashes: list[bytes]) -> set[bytes]:
        assert not token_hashes
        return set()

    def signed_revocations(self, _known: SignedRevocations) -> SignedRevocations:
        return self.revoked

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked for")


def _request(token: str) -> Request:
    return Request({"type": "http", "headers": [(b"authorization", f"Bearer {token}".encode("latin-1"))]})


async def test_the_endpoint_chooses_which_role_speaks(make: Make, clock: ManualClock) -> None:
    store: TokenStore = _NoStore()  # type: ignore[assignment]  # nothing is asked of it
    authenticator = Authenticator(store, clock, make(SECRET))
    token = jwt.encode({**CLAIMS, "roles": ["driver", "finance"]}, SECRET, "HS256")
    scopes: tuple[tuple[Scope, Kind], ...] = (
        ("sessions:write", "driver"),
        ("billing:refund", "finance"),
        ("billing:pay", "finance"),
    )
    for scope, chosen in scopes:
        principal = await authenticator.require(_request(token), scope)
        assert (principal.kind, principal.subject) == (chosen, "D1")
    with pytest.raises(Problem, match=r"scope stations:write, which .*; your token is of finance and driver$") as no:
        await authenticator.require(_request(token), "stations:write")
    assert no.value.status == 403
    nobody = jwt.encode({**CLAIMS, "roles": ["king"]}, SECRET, "HS256")
    with pytest.raises(Problem, match="no role that is known here") as no:
        await authenticator.authenticate(_request(nobody))
    assert no.value.status == 403


async def test_a_bad_signed_token_is_401_with_the_mend_and_a_challenge(make: Make, clock: ManualClock) -> None:
    store: TokenStore = _NoStore()  # type: ignore[assignment]  # nothing is asked of it
    for authenticator, says in (
        (Authenticator(store, clock, make(SECRET)), "expired"),
        (Authenticator(store, clock), "malformed"),  # where no key is named, no signed token counts
    ):
        token = jwt.encode({**CLAIMS, "exp": NOW_S - 300}, SECRET, "HS256")
        with pytest.raises(Problem, match=says) as refused:
            await authenticator.require(_request(token), "sessions:read")
        assert refused.value.status == 401
        assert 'error="invalid_token"' in refused.value.headers["WWW-Authenticate"]
