"""Reverse proxies that are trusted: of the requests that they pass on, the client's address and scheme are what they
say.

They are named by address (VOLTSTREAM_TRUSTED_PROXIES), and so is the header in which they pass on a client's
certificate (VOLTSTREAM_CLIENT_CERTIFICATE_HEADER); from anybody else the headers say nothing. The addresses in
X-Forwarded-For are read from the right, as proxies append them: the first that is no trusted proxy's is the client, and
what stands before it is only what that one said (docs/adr/0026).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

FORWARDED_FOR: Final = b"x-forwarded-for"
FORWARDED_PROTO: Final = b"x-forwarded-proto"
HOPS_MAX: Final = 16  # proxies in a row; a longer way is taken for one from the sixteenth
_HOP_CHARS_MAX: Final = 64  # an IPv6 address in brackets with a port has 47
_SCHEMES: Final = frozenset({b"http", b"https"})

_NO_CERTIFICATE: Final = frozenset((b"", b"::"))  # what proxies write where the client has none

_KNOWN_MAX: Final = 4_096  # addresses that are not parsed again, ~300 B each

_Address = IPv4Address | IPv6Address
Headers = Iterable[tuple[bytes, bytes]]
"""Names in lower case, and values, in the order of the request."""


@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """Their networks; none: nobody is trusted."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    certificate_header: bytes = b""  # in lower case, in which they pass a client's certificate on; empty: in none

    @classmethod
    def of(cls, text: str, certificate_header: str = "") -> "TrustedProxies":
        """From the settings. Raises ValueError with the mend."""
        networks = []
        for one in (part.strip() for part in text.split(",")):
            if not one:
                continue
            try:
                network = ip_network(one)
            except ValueError:
                raise ValueError(
                    f"{one} is no address or network; write them like 10.0.0.7, 10.1.0.0/16, ::1"
                ) from None
            if not network.prefixlen:
                raise ValueError(f"{one} is everybody, who could name any address; name the proxies")
            if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None:
                raise ValueError(f"{one} is one of IPv4 in IPv6; write it as IPv4")
            networks.append(network)
        return cls(tuple(networks), certificate_header.encode())

    def trusts(self, address: str) -> bool:
        """Whether that is the address of one."""
        return bool(self.networks) and self._has(_parsed(address))

    def client_of(self, peer: str, headers: Headers) -> str:
        """The address of who sent a request that `peer`, a trusted proxy, has passed on: its own where it says nothing.
        What is no address ends the way: nobody knows what came before it."""
        hops = [hop for name, value in headers if name == FORWARDED_FOR for hop in value.split(b",")]
        address = peer
        for hop in reversed(hops[-HOPS_MAX:]):
            found = _address(hop)
            if found is None:
                break
            address = str(found)
            if not self._has(found):
                break
        return address

    def certificate_of(self, headers: Headers) -> bytes | None:
        """The certificate of who sent a request that a trusted proxy has passed on; None: it says none. Several are one
        value that is no certificate: the proxy has let the client's own header through."""
        return certificate_in(b", ".join([value for name, value in headers if name == self.certificate_header]))

    def _has(self, address: "_Address | None") -> bool:
        return address is not None and any(address in network for network in self.networks)


def certificate_in(value: bytes) -> bytes | None:
    """The certificate in the one header for it; None: there is none."""
    value = value.strip()
    return None if value in _NO_CERTIFICATE else value


def scheme_of(headers: Headers) -> str | None:
    """What a trusted proxy says that the client used; None: nothing that is one."""
    said = [value for name, value in headers if name == FORWARDED_PROTO]
    nearest = said[-1].rpartition(b",")[2].strip().lower() if said else b""
    return nearest.decode() if nearest in _SCHEMES else None


def _address(hop: bytes) -> _Address | None:
    hop = hop.strip()
    return _address_in(hop) if len(hop) <= _HOP_CHARS_MAX else None


@lru_cache(_KNOWN_MAX)
def _address_in(hop: bytes) -> _Address | None:
    """As proxies write it: an address, maybe with a port, of IPv6 then in brackets."""
    text = hop.decode("latin-1").strip('"')
    if text.startswith("["):
        inner, bracket, port = text[1:].partition("]")
        return _parsed(inner) if bracket and _is_port(port) and ":" in inner else None
    if text.count(":") == 1:
        text, _, port = text.partition(":")
        if not _is_port(f":{port}"):
            return None
    return _parsed(text)


def _is_port(text: str) -> bool:
    return not text or (text[0] == ":" and text[1:].isascii() and text[1:].isdecimal())


def _parsed(text: str) -> _Address | None:
    """In one form: an address of IPv4 in IPv6 is that of IPv4, and no interface of ours belongs to it."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
