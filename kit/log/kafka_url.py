"""The setting for Kafka: `host:port[,host:port]`, over TLS `ssl://host:port[,…]`, and with a login
`sasl_ssl://user:password@host:port[,…]`, to which `?mechanism=SCRAM-SHA-512` may be added.
"""

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from kit.secrets.urls import is_login

_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_FORM: Final = (
    "write host:port, several with commas between; ssl://host:port for TLS, sasl_ssl://user:password@host:port for TLS "
    "with a login"
)


@dataclass(frozen=True, slots=True)
class KafkaUrl:
    """The parts of the setting."""

    servers: tuple[str, ...]  # host:port
    scheme: str = ""  # "ssl", "sasl_ssl"; empty: neither TLS nor a login
    user: str = ""
    password: str = field(default="", repr=False)
    mechanism: str = _MECHANISMS[0]

    @property
    def address(self) -> str:
        """Its servers, without the login: for logs."""
        return ",".join(self.servers)


def parse_kafka_url(text: str) -> KafkaUrl:
    """Raises ValueError, in which no password is."""
    text, _, query = text.partition("?")
    scheme, login, servers = None, "", []
    for part in (part.strip() for part in text.split(",")):
        head, mark, rest = part.rpartition("://")
        own_login, at, server = rest.rpartition("@")
        if not part or (mark and scheme not in (None, head)) or (at and login not in ("", own_login)):
            raise ValueError(f"{_FORM}; the scheme and the login are the same for all")
        if not is_login(own_login):
            raise ValueError(f"{_FORM}; percent-encode special characters in both")
        scheme, login = (head if mark else scheme or ""), own_login or login
        servers.append(_server(server))
    user, _, password = login.partition(":")
    if scheme not in ("", "ssl", "sasl_ssl") or (scheme == "sasl_ssl") != bool(user and password):
        raise ValueError(_FORM)
    return KafkaUrl(tuple(servers), scheme or "", unquote(user), unquote(password), _mechanism(scheme or "", query))


def _server(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not (host and colon and port.isdecimal() and 0 < int(port) <= 65_535) or "/" in host:
        raise ValueError(_FORM)
    return text


def _mechanism(scheme: str, query: str) -> str:
    if not query:
        return _MECHANISMS[0]
    name, _, value = query.partition("=")
    if scheme != "sasl_ssl" or name != "mechanism" or value not in _MECHANISMS:
        raise ValueError(f"after the servers of sasl_ssl:// may stand ?mechanism= and one of {', '.join(_MECHANISMS)}")
    return value
