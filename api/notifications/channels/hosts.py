"""Hosts of webhooks: which names and addresses there may be. Pure; names are resolved where a webhook is sent."""

import re
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NUMBER: Final = r"(?:[0-9]+|0x[0-9a-f]*)"  # no last label: the name would be a misspelt address
_NAME: Final = re.compile(rf"(?=.{{1,253}}$)(?:{_LABEL}\.)*(?!{_NUMBER}$){_LABEL}")
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")  # RFC 4291: all else is reserved, local, multicast or carries IPv4
_NAT64: Final = IPv6Network("64:ff9b::/96")
_NOT_PUBLIC: Final = (
    ip_network("192.0.0.0/24"),  # protocol assignments, and metadata of a cloud
    ip_network("192.88.99.0/24"),  # relays of 6to4
    ip_network("3fff::/20"),  # documentation
)


def host_problem(url: str, *, allow_private: bool) -> str | None:
    """Why nothing can be sent to that URL's host, as far as it can be told without resolving it; None: nothing."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower().removesuffix(".")
    address = _literal(host)
    if address is None or ("[" in parts.netloc and ":" not in address):  # brackets are for IPv6
        if _NAME.fullmatch(host) and "[" not in parts.netloc:
            return None
        return "its host is no host name; write one like example.com"
    if not allow_private and not is_public(address):
        return "its host is a private address; webhooks go to public addresses only"
    return None


def _literal(host: str) -> str | None:
    """The address that the host is, in any spelling that the system reads: 2130706433 and 0x7f.1 are 127.0.0.1."""
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        pass
    try:
        return str(ip_address(host))
    except ValueError:
        return None


def is_public(address: str) -> bool:
    """Whether it is a unicast address of the public internet; of one that carries an IPv4 address, that one counts."""
    ip = _carried(ip_address(address.partition("%")[0]))
    if ip.version == 6 and ip not in _GLOBAL_UNICAST:
        return False
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _NOT_PUBLIC)


def _carried(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(ip, IPv4Address):
        return ip
    if ip in _NAT64:
        return IPv4Address(ip.packed[12:])
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None) or ip
