"""`voltstream serve NAME…`: any services in one process of its own."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer

from kit.service import Service
from kit.settings import Settings
from voltstream.cli.options import AsJson, Check, HealthPort, Host, Supervised, checked, need
from voltstream.cli.output import print_json, print_line
from voltstream.runtime.composition import serve as run_services
from voltstream.runtime.process import Lifespan, run
from voltstream.services import SERVICES, SUBSETS, named, servers_needed
from voltstream.settings import load_settings

_NAMES: Final = ", ".join((*SERVICES, *(f"{name} (= {' '.join(members)})" for name, members in SUBSETS.items())))
_BROKERS: Final = frozenset({"rabbitmq_url", "kafka_url"})


def serve(
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help=f"services: {_NAMES}", show_default=False)],
    host: Host = None,
    port: HealthPort = None,
    check: Check = False,
    as_json: AsJson = False,
    supervised: Supervised = False,
) -> None:
    """Serve these services in one process, which meets the others over the servers whose URLs are set.

    It answers /healthz, /ready and /metrics beside its own routes. `voltstream up` is all of them.
    """
    services = named(names)
    name = "+".join(service.name for service in services)
    api = any(service.router is not None for service in services)
    settings = load_settings(host=host, port=port if api else None)
    need(settings, f"serve {' '.join(names)}", *urls_needed(services))
    if check:
        checked(settings, as_json)

    def announce(url: str) -> None:
        if as_json:
            print_json({"service": name, "url": url})
        else:
            print_line(f"voltstream serve {' '.join(names)}: {url}/ready, {url}/metrics")

    async def main(lifespan: Lifespan) -> None:
        if supervised:
            lifespan.stop_with_stdin()
        await run_services(services, settings, health_port_of(services, settings, port), lifespan, announce)

    run(name, settings, main)


def urls_needed(services: Sequence[Service[Any]]) -> list[str]:
    """The settings that name the servers of these services, as their declarations have it."""
    needed = [name for service in services for name in servers_needed(service)]
    if _BROKERS & set(needed):
        needed += sorted(_BROKERS)  # the settings want both or neither
    return list(dict.fromkeys(needed))


def health_port_of(services: Sequence[Service[Any]], settings: Settings, given: int | None = None) -> int:
    """What serves no routes has a port of its own for its health, so that one machine can run one of each."""
    if any(service.router is not None for service in services):
        return settings.port
    return services[0].health_port if given is None else given
