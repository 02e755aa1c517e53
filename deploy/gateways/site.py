"""What differs between places where a proxy runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, get_args

from api.telemetry.live_streams import HEARTBEAT_S
from kit.settings import Settings

PORT: Final = 8080  # of a service, as the image has it
# Longer than the longest time between two pieces of an answer: heartbeats of live streams, four of which may be lost,
# and queries of 20 s (VOLTSTREAM_QUERY_S_MAX).
READ_S: Final = int(5 * HEARTBEAT_S)
HEAD_S: Final = 20  # as the services: the head, and then each piece of a body
IDLE_S: Final = 75  # of clients' connections: chargers post every few seconds to a minute
CONNECT_S: Final = 1  # to a service of the same site; then the next one is asked
# Who a client is by certificate, no client says: whichever header of these the services read.
CERTIFICATE_HEADERS: Final = (
    *filter(None, get_args(Settings.model_fields["client_certificate_header"].annotation)), "client-cert-chain",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Site:
    """Addresses, certificate, and limits of one address (of IPv6: its /64)."""

    servers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # host:port by service; else NAME:8080
    ocpp: tuple[str, ...] = ()  # host:port of WebSocket servers for chargers, under /ocpp/; none: not routed
    listen: str = "0.0.0.0:443"  # it is what a public proxy does
    certificate: str = "/etc/voltstream/tls/tls.crt"  # PEM, with its chain
    key: str = "/etc/voltstream/tls/tls.key"
    # Addresses and networks of balancers before the proxy, whose X-Forwarded-For counts; none: nobody's.
    balancers: tuple[str, ...] = ()
    # Above what one token may (2,000 a second): many chargers share the address of their network.
    requests_per_s: int = 3_000
    requests_burst: int = 6_000
    requests_at_once: int = 4_096  # live streams among them
    # An idle connection to a service is closed by the proxy, and after less than services keep them: 75 s, and while
    # they drain VOLTSTREAM_DRAIN_S. Else a request may meet the end of its connection.
    upstream_idle_s: int = 5

    def __post_init__(self) -> None:
        for name in ("balancers", "ocpp"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def servers_of(self, service: str) -> tuple[str, ...]:
        """Its processes, host:port."""
        return tuple(self.servers.get(service, (f"{service}:{PORT}",)))
