"""`voltstream gateway | api | bridge | worker | relay`: one service in this process."""

from kit.settings import load_settings
from voltstream.cli.options import AsJson, Check, HealthPort, Host, Port, Supervised, checked, need
from voltstream.cli.output import print_json, print_line
from voltstream.runtime.process import Lifespan, run
from voltstream.services import NEEDS, PORTS, service


def gateway(
    host: Host = None, port: Port = None, check: Check = False, as_json: AsJson = False, supervised: Supervised = False
) -> None:
    """Take readings over HTTP and from the bus; 202 once RabbitMQ has them."""
    _run("gateway", host, port, check, as_json, supervised)


def api(
    host: Host = None, port: Port = None, check: Check = False, as_json: AsJson = False, supervised: Supervised = False
) -> None:
    """Serve the operators' queries: history, live, sessions, ledger."""
    _run("api", host, port, check, as_json, supervised)


def bridge(
    host: Host = None,
    port: HealthPort = None,
    check: Check = False,
    as_json: AsJson = False,
    supervised: Supervised = False,
) -> None:
    """Move frames from RabbitMQ's queues to the Kafka topic."""
    _run("bridge", host, port, check, as_json, supervised)


def worker(
    host: Host = None,
    port: HealthPort = None,
    check: Check = False,
    as_json: AsJson = False,
    supervised: Supervised = False,
) -> None:
    """Turn frames from Kafka into stored readings, windows and sessions; run as many as there are partitions."""
    _run("worker", host, port, check, as_json, supervised)


def relay(
    host: Host = None,
    port: HealthPort = None,
    check: Check = False,
    as_json: AsJson = False,
    supervised: Supervised = False,
) -> None:
    """Publish the outbox's events to RabbitMQ."""
    _run("relay", host, port, check, as_json, supervised)


def _run(name: str, host: str | None, port: int | None, check: bool, as_json: bool, supervised: bool) -> None:
    settings = load_settings(host=host, port=port if name not in PORTS else None)
    need(settings, name, *NEEDS[name])
    if check:
        checked(settings, as_json)
    listen = settings.port if name not in PORTS else PORTS[name] if port is None else port

    def announce(url: str) -> None:
        if as_json:
            print_json({"service": name, "url": url})
        else:
            print_line(f"voltstream {name}: {url}/ready, {url}/metrics")

    async def main(lifespan: Lifespan) -> None:
        if supervised:
            lifespan.stop_with_stdin()
        await service(name)(settings, listen, lifespan, announce)

    run(name, settings, main)
