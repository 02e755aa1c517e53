"""Client certificates: what is read of them, whose they are, and until when. Nothing here asks a server."""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from kit.auth.authenticator import ANSWER_S_MAX, OUTAGE_S, REVOCATION_S, Authenticator
from kit.auth.client_certificates import (
    HEADER_BYTES_MAX,
    ClientCertificate,
    ClientCertificates,
    InvalidCertificate,
    parse_certificate,
)
from kit.auth.token_store import Principal, hash_of
from kit.clock import ManualClock
from kit.errors import ConfigError, Unavailable
from kit.web.problem import Problem
from kit.web.request_scope import CERTIFICATE
from kit.web.serving.proxies import TrustedProxies
from tests.certificates import Authority, ClientFiles
from voltstream.settings import load_settings

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
DAY_S = 86_400
BOUND, OTHER, FLEET, ADMIN = (f"vsd_{name * 43}" for name in "bofa")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "charger CA")


@pytest.fixture(scope="module")
def charger(authority: Authority) -> ClientFiles:
    """Of the station A, in the registry of `Stations`."""
    return authority.client("a.example", now=NOW)


def _forms(files: ClientFiles) -> Mapping[str, bytes]:
    pem = files.certificate.read_bytes()
    return {
        "RFC 9440": files.as_byte_sequence,
        "nginx": files.as_escaped_pem,
        "PEM with spaces": pem.replace(b"\n", b" "),
        "escaped spaces": quote(pem, safe="/+= ").encode(),
    }


@pytest.mark.parametrize("form", ["RFC 9440", "nginx", "PEM with spaces", "escaped spaces"])
def test_every_form_says_the_same(charger: ClientFiles, form: str) -> None:
    found = parse_certificate(_forms(charger)[form])
    moment = NOW.timestamp()
    assert found == ClientCertificate("a.example", moment - DAY_S, moment + DAY_S)


@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda der: b":%b:" % b64encode(der)))
def test_no_bytes_are_an_error_of_ours(value: bytes) -> None:
    with pytest.raises(InvalidCertificate):
        parse_certificate(value)


@given(data=st.data())
def test_a_certificate_that_was_damaged_is_read_or_refused(charger: ClientFiles, data: st.DataObject) -> None:
    der = b64decode(charger.as_byte_sequence.strip(b":"))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(der) - 1))
        cut = data.draw(st.booleans())
        der = der[:at] if cut and at else der[:at] + bytes([data.draw(st.integers(0, 255))]) + der[at + 1 :]
    try:
        found = parse_certificate(b":%b:" % b64encode(der))
    except InvalidCertificate:
        return
    assert 0 < len(found.common_name) <= 64


def test_what_is_no_single_certificate_is_refused_with_the_reason(authority: Authority, charger: ClientFiles) -> None:
    one = charger.as_byte_sequence
    cases = {
        b"%b, %b" % (one, one): "one is expected",
        one + b";a=1": "one is expected",
        charger.as_escaped_pem * 2: "one is expected",
        one[:-1]: "one is expected",
        b":" + one: "one is expected",
        b":AAA:": "malformed",
        b":AAAA:": "no X.509",
        b":" + b"A" * HEADER_BYTES_MAX + b":": "longer than",
        authority.client(now=NOW).as_byte_sequence: "0 common names",
        authority.client("a", "b", now=NOW).as_byte_sequence: "2 common names",
    }
    for value, says in cases.items():
        with pytest.raises(InvalidCertificate, match=says):
            parse_certificate(value)


class Stations:
    """Stands in for the database: stored tokens, and whose certificates are."""

    def __init__(self) -> None:
        self.stations = {"a.example": "A"}
        self.away = False
        self.questions = 0
        devices = {BOUND: frozenset({"A", "B"}), OTHER: frozenset({"B"}), FLEET: None}
        self.tokens = {
            hash_of(token): Principal("device", UUID(int=number), stations)
            for number, (token, stations) in enumerate(devices.items(), 1)
        }
        self.tokens[hash_of(ADMIN)] = Principal("admin", UUID(int=9), None)

    async def find(self, token_hash: bytes) -> Principal | None:
        return self.tokens.get(token_hash)

    async def certificate_station(self, common_name: str) -> str | None:
        self._ask()
        return self.stations.get(common_name)

    def certificates_moved(self, stations: Mapping[str, str]) -> set[str]:
        self._ask()
        return {name for name, station_id in stations.items() if self.stations.get(name) != station_id}

    def gone(self, token_hashes: list[bytes]) -> set[bytes]:
        if self.away:
            raise Unavailable("no database")
        return set()

    async def record_use(self, token_ids: object) -> None:
        """Nobody asks."""

    def _ask(self) -> None:
        self.questions += 1
        if self.away:
            raise Unavailable("no database")


class Site:
    """An authenticator that takes certificates."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW)
        self.store = Stations()
        certificates = ClientCertificates(self.store, self.clock)
        self.authenticator = Authenticator(self.store, self.clock, None, certificates)  # type: ignore[arg-type]  # what it asks of a store

    async def ask(self, certificate: bytes | None, token: str | None = None) -> Principal:
        headers = [] if token is None else [(b"authorization", f"Bearer {token}".encode())]
        scope: dict[str, Any] = {"type": "http", "headers": headers, "path_params": {}}
        if certificate is not None:
            scope[CERTIFICATE] = certificate
        return await self.authenticator.require(Request(scope), "readings:write", heeds_stations=True)

    async def refusal(self, certificate: bytes | None, token: str | None = None) -> tuple[int, str]:
        with pytest.raises(Problem) as refused:
            await self.ask(certificate, token)
        return refused.value.status, refused.value.detail

    def known(self, certificate: bytes, token: str | None = None) -> Principal | None:
        authorization = None if token is None else f"Bearer {token}".encode()
        return self.authenticator.known_by_certificate(certificate, authorization, "readings:write")


@pytest.fixture
def site() -> Site:
    return Site()


async def test_a_certificate_is_the_device_of_its_station_and_of_no_other(site: Site, charger: ClientFiles) -> None:
    first = charger.as_byte_sequence
    assert site.known(first) is None
    principal = await site.ask(first)
    assert (principal.kind, principal.stations, principal.name) == ("device", frozenset({"A"}), "device/A")
    assert principal.scopes == {"readings:write"}
    assert site.known(first) is principal
    assert await site.ask(charger.as_escaped_pem) is principal
    await site.ask(first)
    assert site.store.questions == 1


async def test_a_certificate_gives_no_other_right(site: Site, charger: ClientFiles) -> None:
    scope = {"type": "http", "headers": [], "path_params": {}, CERTIFICATE: charger.as_byte_sequence}
    with pytest.raises(Problem) as refused:
        await site.authenticator.require(Request(scope), "stations:read")
    assert refused.value.status == 403


async def test_without_token_and_certificate_nobody_is_known(site: Site) -> None:
    status, detail = await site.refusal(None)
    assert (status, "a token is needed" in detail) == (401, True)


async def test_what_is_no_stations_is_refused_and_looked_up_once(site: Site, authority: Authority) -> None:
    stranger = authority.client("b.example", now=NOW).as_byte_sequence
    for _ in range(3):
        assert (await site.refusal(stranger))[0] == 401
    assert site.store.questions == 1
    site.store.stations["b.example"] = "B"
    site.clock.advance(REVOCATION_S)
    assert (await site.ask(stranger)).stations == frozenset({"B"})


@pytest.mark.parametrize("garbage", [b"x", b":AAAA:", b"\xff", b"-----BEGIN CERTIFICATE-----"])
async def test_garbage_is_refused(site: Site, garbage: bytes) -> None:
    assert (await site.refusal(garbage))[0] == 401
    assert site.known(garbage) is None


async def test_a_certificate_counts_from_its_first_moment_to_its_last(site: Site, authority: Authority) -> None:
    later = authority.client("a.example", now=NOW + timedelta(days=2)).as_byte_sequence
    status, detail = await site.refusal(later)
    assert (status, "not valid before 2026-11-30" in detail) == (401, True)
    site.clock.advance(DAY_S)
    await site.ask(later)
    site.clock.advance(2 * DAY_S)
    await site.ask(later)
    assert site.known(later) is not None
    site.clock.advance(0.001)
    assert site.known(later) is None
    await site.ask(authority.client("a.example", now=site.clock.now()).as_byte_sequence)
    assert site.known(later) is None, "it is remembered, and over"
    status, detail = await site.refusal(later)
    assert (status, "expired at 2026-12-02" in detail) == (401, True)


async def test_a_certificate_that_is_taken_away_or_given_to_another_ends_within_the_bound(
    site: Site, charger: ClientFiles
) -> None:
    value = charger.as_byte_sequence
    await site.ask(value)
    site.store.stations["a.example"] = "B"
    site.clock.advance(REVOCATION_S)
    assert (await site.ask(value)).stations == frozenset({"B"})
    del site.store.stations["a.example"]
    site.clock.advance(REVOCATION_S)
    assert (await site.refusal(value))[0] == 401


async def test_a_renewed_certificate_is_the_same_device_and_both_follow_a_move(
    site: Site, charger: ClientFiles, authority: Authority
) -> None:
    old, renewed = charger.as_byte_sequence, authority.client("a.example", now=NOW).as_byte_sequence
    assert await site.ask(old) is await site.ask(renewed)
    site.clock.advance(REVOCATION_S)
    site.store.stations["a.example"] = "B"
    another = authority.client("a.example", now=NOW).as_byte_sequence  # is seen first after the move
    await site.ask(another)
    site.clock.advance(REVOCATION_S)
    for value in (old, renewed, another):
        assert (await site.ask(value)).stations == frozenset({"B"})


async def test_what_is_remembered_is_bounded(site: Site, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kit.auth.client_certificates.CACHE_MAX", 2)
    monkeypatch.setattr("kit.auth.client_certificates.REJECTED_MAX", 2)
    values = []
    for number in range(4):
        site.store.stations[f"{number}.example"] = str(number)
        values.append(authority.client(f"{number}.example", now=NOW).as_byte_sequence)
        await site.ask(values[-1])
        await site.refusal(authority.client(f"{number}.nobody", now=NOW).as_byte_sequence)
    assert [site.known(value) is not None for value in values] == [False, False, True, True]


async def test_in_an_outage_known_certificates_pass_for_a_while_and_no_others(
    site: Site, charger: ClientFiles, authority: Authority
) -> None:
    value = charger.as_byte_sequence
    await site.ask(value)
    site.store.away = True
    with pytest.raises(Unavailable):
        await site.ask(authority.client("b.example", now=NOW).as_byte_sequence)
    passed_s = 0.0
    while passed_s + REVOCATION_S < OUTAGE_S:
        site.clock.advance(REVOCATION_S)
        passed_s += REVOCATION_S
        await site.ask(value)
    site.clock.advance(REVOCATION_S + ANSWER_S_MAX)
    with pytest.raises(Unavailable):
        await site.ask(value)
    site.store.away = False
    await site.ask(value)


async def test_with_a_device_s_token_both_have_to_be_accepted_and_to_agree(
    site: Site, charger: ClientFiles, authority: Authority
) -> None:
    value, stranger = charger.as_byte_sequence, authority.client("b.example", now=NOW).as_byte_sequence
    assert (await site.ask(value, BOUND)).token_id == UUID(int=1), "the token says who it is"
    assert (await site.ask(value, FLEET)).token_id == UUID(int=3)
    assert site.known(value, BOUND) is not None
    status, detail = await site.refusal(value, OTHER)
    assert (status, "the token is not for" in detail) == (403, True)
    for unaccepted in (stranger, b"x"):
        assert (await site.refusal(unaccepted, BOUND))[0] == 401
        assert site.known(unaccepted, BOUND) is None
    assert site.known(value, OTHER) is None
    assert (await site.refusal(value, "vsd_" + "n" * 43))[0] == 401, "a certificate mends no wrong token"


async def test_beside_another_token_a_certificate_says_nothing(site: Site, charger: ClientFiles) -> None:
    for value in (charger.as_byte_sequence, b"x"):
        assert (await site.ask(value, ADMIN)).kind == "admin"
        assert site.known(value, ADMIN) is not None


async def test_an_authorization_header_of_any_content_is_the_one_that_counts(site: Site, charger: ClientFiles) -> None:
    value = charger.as_byte_sequence
    await site.ask(value)
    for authorization in (b"", b"Basic eDp4", b"Bearer"):
        scope = {"type": "http", "headers": [(b"authorization", authorization)], CERTIFICATE: value}
        with pytest.raises(Problem, match="Authorization"):
            await site.authenticator.require(Request(scope), "readings:write", heeds_stations=True)
        assert site.authenticator.known_by_certificate(value, authorization, "readings:write") is None


_VALUES = st.lists(
    st.tuples(st.sampled_from([b"client-cert", b"ssl-client-cert", b"x-other"]), st.binary(max_size=20)), max_size=5
)


@given(_VALUES)
def test_the_one_header_that_is_set_is_read_and_several_are_none(headers: list[tuple[bytes, bytes]]) -> None:
    found = TrustedProxies.of("10.0.0.1", "client-cert").certificate_of(headers)
    values = [value for name, value in headers if name == b"client-cert"]
    assert (found is None) == (b", ".join(values).strip() in (b"", b"::"))
    if found is not None and len(values) > 1:
        with pytest.raises(InvalidCertificate):
            parse_certificate(found)


def test_a_header_of_certificates_needs_proxies_that_are_trusted() -> None:
    with pytest.raises(ConfigError, match="VOLTSTREAM_TRUSTED_PROXIES is not"):
        load_settings(client_certificate_header="client-cert")
    with pytest.raises(ConfigError, match="VOLTSTREAM_CLIENT_CERTIFICATE_HEADER"):
        load_settings(client_certificate_header="authorization", trusted_proxies="::1")
    settings = load_settings(client_certificate_header="Client-Cert", trusted_proxies="::1")
    assert settings.client_certificate_header == "client-cert"
    assert not load_settings(trusted_proxies="::1").client_certificate_header
