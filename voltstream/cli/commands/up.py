"""`voltstream up`."""

from typing import Annotated, Final

import typer

from kit.settings import Settings
from simulator.fleet.run import slow_rate
from voltstream.cli.options import AsJson, Check, DataDir, Host, Port, checked, duration_s
from voltstream.cli.output import print_json, print_warning
from voltstream.cli.screen import Screen, greet
from voltstream.errors import WrongUsage
from voltstream.runtime.process import Lifespan, run
from voltstream.runtime.simulated_fleet import CONNECTORS
from voltstream.runtime.up import Started, UpOptions, run_up
from voltstream.settings import load_settings

# A small town's chargers, each connector read every 2 s: a lively table, and next to no load.
_STATIONS: Final = 50
_RATE: Final = 50.0
_WORKERS_MAX: Final = 64


def up(
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    stations: Annotated[int, typer.Option(min=1, max=100_000, help="of the simulated fleet")] = _STATIONS,
    rate: Annotated[float, typer.Option(min=0.01, max=1_000_000, help="readings per second of the fleet")] = _RATE,
    simulator: Annotated[
        bool, typer.Option("--simulator/--no-simulator", help="send a simulated fleet's readings")
    ] = True,
    lasting: Annotated[str, typer.Option("--for", help="stop after this long, like 30s, 5m", show_default=False)] = "",
    workers: Annotated[
        int, typer.Option(min=1, max=_WORKERS_MAX, help="worker processes, where Kafka and Redis are set")
    ] = 1,
    check: Check = False,
    as_json: AsJson = False,
) -> None:
    """Run everything: in this process, or around the servers whose URLs are set.

    Prints the API's address and a device's and an operator's token, as lines for another shell. Ctrl-C stops it; the
    data folder survives.
    With --json the first line is {"api", "device_token", "operator_token"}, printed once everything is ready.
    """
    settings = load_settings(host=host, port=port, data_dir=data_dir)
    if workers > settings.partitions:
        raise WrongUsage(f"--workers {workers}: there is work for {settings.partitions} (VOLTSTREAM_PARTITIONS)")
    options = UpOptions(
        stations=stations if simulator else 0,
        rate=rate,
        workers=workers,
        duration_s=duration_s(lasting) if lasting else None,
        show=None if as_json else lambda url, token, clock: Screen(url, token, clock).run(),
    )
    if check:
        checked(settings, as_json)
    if simulator and (slow := slow_rate(stations * CONNECTORS, rate)):
        print_warning(slow)
    if not as_json:
        settings = _beside_a_screen(settings)

    def announce(started: Started) -> None:
        tokens = started.tokens
        if as_json:
            print_json(
                {
                    "api": started.server.url,
                    "device_token": tokens.device_token,
                    "operator_token": tokens.operator_token,
                }
            )
        else:
            greet(started.server, tokens, started.services)

    async def main(lifespan: Lifespan) -> None:
        await run_up(settings, options, lifespan, announce)

    run("voltstream", settings, main)


def _beside_a_screen(settings: Settings) -> Settings:
    """Unless a level is set, only warnings and errors are logged into the picture, by children too."""
    return (
        settings if "log_level" in settings.model_fields_set else settings.model_copy(update={"log_level": "warning"})
    )
