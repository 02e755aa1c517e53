"""Options that several commands have, and the settings they give."""

import re
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer

from kit.errors import ConfigError
from kit.instants import parse_instant_or_date
from kit.settings import Settings
from voltstream.cli.output import print_json, print_line
from voltstream.errors import WrongUsage

E = TypeVar("E", bound=StrEnum)

_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|d)?", re.ASCII)
UNIT_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}

AsJson = Annotated[bool, typer.Option("--json", help="print JSON, one document per line")]
Check = Annotated[bool, typer.Option("--check", help="validate the settings and exit; nothing is connected to")]
Host = Annotated[str | None, typer.Option(help="address to listen on (VOLTSTREAM_HOST, 127.0.0.1)", show_default=False)]
Port = Annotated[
    int | None,
    typer.Option(min=0, max=65_535, help="port to listen on; 0: any free (VOLTSTREAM_PORT, 8080)", show_default=False),
]
HealthPort = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=65_535,
        help="port of /healthz, /ready and /metrics; 0: any free (bridge 8082, worker 8083, relay 8084)",
        show_default=False,
    ),
]
DataDir = Annotated[
    Path | None, typer.Option(help="folder of the embedded database (VOLTSTREAM_DATA_DIR, .data)", show_default=False)
]
MOMENT: Final = "MOMENT"
MOMENT_HELP: Final = "; RFC 3339 or a date, which is the start of that day, UTC"
Supervised = Annotated[bool, typer.Option(hidden=True, help="stop when stdin closes: the supervisor is gone")]


def one_of(option: str, choices: type[E]) -> Callable[[str], E]:
    """The parser of an option that takes one of these values. Raises WrongUsage."""

    def parse(text: str) -> E:
        if text not in list(choices):
            *others, last = choices
            raise WrongUsage(f"{option} {text!r}: write {', '.join(others)} or {last}")
        return choices(text)

    return parse


def duration_s(text: str, *, may_be_zero: bool = False) -> float:
    """`30s`, `5m`, `2h`, `1d`, `250ms`, or bare seconds. Raises WrongUsage."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or not (float(match[1]) or may_be_zero):
        raise WrongUsage(f"{text!r} is no duration: write it as 30s, 5m, 2h or 1d")
    return float(match[1]) * UNIT_S[match[2] or "s"]


def moment(option: str, text: str) -> datetime:
    """What `--from` or `--to` names: RFC 3339, a date (the start of that day, UTC) or epoch ms. Raises WrongUsage."""
    try:
        return parse_instant_or_date(text)
    except ValueError as error:
        raise WrongUsage(f"{option} {text!r} {error}") from None


def period(start: str | None, end: str | None) -> tuple[datetime | None, datetime | None]:
    """The half-open interval of `--from` and `--to`, either of which may be left out. Raises WrongUsage."""
    since = None if start is None else moment("--from", start)
    until = None if end is None else moment("--to", end)
    if since is not None and until is not None and since >= until:
        raise WrongUsage(f"--from {start} is not before --to {end}")
    return since, until


def need(settings: Settings, service: str, *names: str) -> None:
    """Raises ConfigError naming the settings that a process of its own cannot do without."""
    missing = [f"VOLTSTREAM_{name.upper()}" for name in names if not getattr(settings, name)]
    if missing:
        raise ConfigError(
            f"`voltstream {service}` meets the other services outside of its process: set {', '.join(missing)}. "
            "`voltstream up` needs none of them"
        )


def checked(settings: Settings, as_json: bool) -> None:
    """Print that the settings are valid, for `--check`; wrong ones were refused before. Ends the command."""
    if as_json:
        print_json({"ok": True, "settings": settings.describe()})
    else:
        for name, value in settings.describe().items():
            print_line(f"VOLTSTREAM_{name.upper()}={value}")
        print_line("The settings are valid.")
    raise typer.Exit
