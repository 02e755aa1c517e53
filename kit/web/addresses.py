"""Addresses of clients, as they are counted and kept."""

from ipaddress import IPv6Address, ip_address
from typing import Final

from starlette.types import Scope

_NETWORK_BITS: Final = 64  # of an IPv6 address: what one client may choose from freely is the rest
_HOST_CHARS_MAX: Final = 64  # of what is no address


def address_of(scope: Scope) -> str:
    """The address that a request came from; empty where that is not known."""
    client = scope.get("client")
    return client[0] if client else ""


def network_of(host: str) -> str:
    """An address; of IPv6 the network, so that nobody has many."""
    if ":" not in host:
        return host[:_HOST_CHARS_MAX]
    try:
        address = ip_address(host)
    except ValueError:
        return host[:_HOST_CHARS_MAX]
    if not isinstance(address, IPv6Address) or address.is_loopback:
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    kept = int(address) >> (128 - _NETWORK_BITS) << (128 - _NETWORK_BITS)
    return f"{IPv6Address(kept)}/{_NETWORK_BITS}"
