"""`voltstream simulate` and `voltstream replay`, as functions that voltstream/cli/main.py mounts.

Exit codes: 0 done (also Ctrl-C in a live simulation), 1 the platform refused or stayed away, 2 a wrong option or
file, 130 a replay that Ctrl-C stopped; the next run takes it up.
"""

import json
import re
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from kit.clock import SystemClock
from kit.errors import KitError
from kit.masking import mask_url
from kit.validation import whole_token
from simulator.cli_runs import UNAUTHORIZED_HINT, Destination, LoadRun, ReplayRun, RunOutcome, SimulationRun
from simulator.encode import Format
from simulator.errors import SimulatorError
from simulator.fleet.faults import FaultPlan
from simulator.fleet.run import slow_rate
from simulator.fleet.spec import FleetSpec
from simulator.load.bodies import LoadSpec
from simulator.load.load import Load
from simulator.replay.columns import Columns
from simulator.replay.ordering import Ordering
from simulator.replay.replay import Replay, ReplaySpec
from simulator.transports import Encoding

_DAY_MS: Final = 86_400_000
_PERIOD_LIVE_S: Final = 10.0  # a connector's readings, where no rate is given: as chargers are commonly set
_PERIOD_PAST_S: Final = 60.0
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_UNIT_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}

_USAGE_CODE: Final = 2

Url = Annotated[
    str,
    typer.Option(
        envvar="VOLTSTREAM_URL",
        help="base URL of the platform; default: the `up` of the data folder; amqp://… sends events",
    ),
]
Token = Annotated[
    str,
    typer.Option(
        envvar="VOLTSTREAM_DEVICE_TOKEN",
        help="a device's, vsd_…; default: that of the `up` of the data folder",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON document, no progress bar")]
BatchSize = Annotated[int, typer.Option(min=1, max=100_000, help="readings per request")]
Form = Annotated[Format, typer.Option("--format", help="how bodies are written")]


def simulate(
    url: Url = "http://127.0.0.1:8080",
    token: Token = "",
    stations: Annotated[int, typer.Option(min=1, max=1_000_000)] = 100,
    connectors: Annotated[int, typer.Option(min=1, max=100, help="of each station")] = 2,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="readings/s of the whole fleet (default: each connector every 10 s)")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 1,
    days: Annotated[
        float, typer.Option(min=0, max=1_830, help="first send this many past days, as fast as it goes")
    ] = 0,
    live_after: Annotated[bool, typer.Option("--live", help="go on live after the past days")] = False,
    lasting: Annotated[
        str, typer.Option("--for", help="stop after this long, like 30s, 5m, 2h", show_default=False)
    ] = "",
    faults: Annotated[str, typer.Option(help="like drop=0.01,duplicate=0.05; see simulator/README.md")] = "",
    load: Annotated[bool, typer.Option("--load", help="as many readings as one core can write, or --rate")] = False,
    connections: Annotated[int, typer.Option(min=1, max=1_000, help="HTTP connections")] = 4,
    pipeline: Annotated[int, typer.Option(min=1, max=1_000, help="load: requests under way on each connection")] = 2,
    batch: BatchSize = 100,
    form: Form = Format.JSON,
    encoding: Annotated[Encoding, typer.Option(help="Content-Encoding")] = Encoding.IDENTITY,
    prefix: Annotated[str, typer.Option(help="station ids are PREFIX-000000 and on")] = "SIM",
    as_json: AsJson = False,
) -> None:
    """Send the readings of a simulated fleet: live, of past days, or as load."""
    clock = SystemClock()
    with _explained():
        whole_token(token)
        duration_s = _duration_s(lasting) if lasting else None
        if load:
            if duration_s is None:
                raise ValueError("--load needs an end: add --for 30s")
            _need_token(url, token)
            load_spec = LoadSpec(
                url, token, duration_s, stations, connectors, batch, connections, pipeline, form, rate, prefix
            )
            _finish(LoadRun(Load(load_spec, clock), quiet=as_json).run(), as_json)
        period_s = _PERIOD_PAST_S if days and not live_after else _PERIOD_LIVE_S
        now_ms = clock.now_ms()
        spec = FleetSpec(
            seed=seed,
            start_ms=now_ms - round(days * _DAY_MS),
            stations=stations,
            connectors=connectors,
            rate=rate or stations * connectors / period_s,
            prefix=prefix,
        )
        live = live_after or not days
        target = Destination(url, token, clock, encoding, connections)
        run = SimulationRun(
            spec=spec,
            faults=FaultPlan.parse(faults),
            target=target,
            form=form,
            batch=batch,
            past_until_ms=now_ms if days else None,
            live=live,
            duration_s=duration_s,
            quiet=as_json,
        )
        _need_token(url, token)
        if live and (slow := slow_rate(stations * connectors, spec.rate)):
            Console(stderr=True).print(slow, style="yellow", markup=False, soft_wrap=True)
        _finish(run.run(), as_json)


def replay(
    file: Annotated[Path, typer.Argument(help="CSV, NDJSON (also .gz, .zst) or Parquet; columns named as a reading's")],
    url: Url = "http://127.0.0.1:8080",
    token: Token = "",
    maps: Annotated[list[str] | None, typer.Option("--map", help="power_w=h: the file's column h is power_w")] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="connector_id=1, station_id=X-{session_id[:4]}: written for every row"),
    ] = None,
    ignore: Annotated[list[str] | None, typer.Option(help="a column of the file to leave out")] = None,
    speed: Annotated[
        float, typer.Option(min=0, help="1 = as it was, 60 = one hour per minute, 0 = as fast as possible")
    ] = 0,
    sort: Annotated[bool, typer.Option("--sort", help="send in order of ts, not of the file")] = False,
    shuffle_s: Annotated[float, typer.Option(min=0, help="rows nearer than this in ts change places")] = 0,
    resend_pct: Annotated[float, typer.Option(min=0, max=100, help="this share of the rows is sent twice")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="of shuffle and re-sends")] = 1,
    batch: BatchSize = 1_000,
    connections: Annotated[int, typer.Option(min=1, max=1_000, help="requests under way")] = 4,
    form: Form = Format.JSON,
    encoding: Annotated[Encoding, typer.Option(help="Content-Encoding")] = Encoding.IDENTITY,
    data_dir: Annotated[Path, typer.Option(envvar="VOLTSTREAM_DATA_DIR", help="keeps the progress")] = Path(".data"),
    restart: Annotated[bool, typer.Option("--restart", help="from the first row, whatever was sent before")] = False,
    as_json: AsJson = False,
) -> None:
    """Send a file of readings; go on where an earlier run stopped."""
    clock = SystemClock()
    with _explained():
        whole_token(token)
        spec = ReplaySpec(
            file=file,
            target=mask_url(url),
            progress_dir=data_dir / "replay",
            columns=Columns.parse(maps or (), sets or (), ignore or ()),
            ordering=Ordering(sort, shuffle_s, resend_pct, seed),
            form=form,
            batch=batch,
            in_flight=connections,
            speed=speed,
            restart=restart,
        )
        target = Destination(url, token, clock, encoding, connections)
        run = ReplayRun(Replay(spec, clock), target, quiet=as_json)
        _need_token(url, token)
        _finish(run.run(), as_json)


def _need_token(url: str, token: str) -> None:
    """Raises ValueError where the platform would refuse everything: HTTP needs a token, a broker has its own login."""
    if not token and url.startswith(("http://", "https://")):
        raise ValueError(f"a device's token is needed for {mask_url(url)}: {UNAUTHORIZED_HINT}")


def _duration_s(text: str) -> float:
    match = _DURATION.fullmatch(text.strip())
    if match is None or not float(match[1]):
        raise ValueError(f"--for {text}: write a duration as 30s, 5m, 2h or 1d")
    return float(match[1]) * _UNIT_S[match[2] or "s"]


@contextmanager
def _explained() -> Iterator[None]:
    """A wrong option or file is one line and exit code 2."""
    try:
        yield
    except (ValueError, SimulatorError, KitError) as error:
        Console(stderr=True).print(str(error), style="red", markup=False, soft_wrap=True)
        raise typer.Exit(_USAGE_CODE) from error


def _finish(running: Coroutine[Any, Any, RunOutcome], as_json: bool) -> NoReturn:
    outcome = uvloop.run(running)
    if as_json:
        typer.echo(json.dumps({**outcome.summary, "error": outcome.error}))
    else:
        table = Table(show_header=False, box=None)
        for name, value in outcome.summary.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            table.add_row(name, f"{value:,}" if number else str(value))
        Console().print(table)
        if outcome.error:
            Console(stderr=True).print(outcome.error, style="red", markup=False, soft_wrap=True)
    raise typer.Exit(outcome.code)
