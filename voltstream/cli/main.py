"""The command `voltstream`. Commands are imported when they are called: most need only a part of the product."""

import os
import sys
from dataclasses import dataclass
from importlib import import_module
from itertools import zip_longest
from typing import Annotated, Any, Final, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_command

from kit.errors import ConfigError, KitError, Unavailable
from kit.settings import CLIENT_VARIABLES
from voltstream.cli.output import print_error
from voltstream.errors import VoltstreamError, WrongUsage
from voltstream.services import SERVICES, SUBSETS

_TROUBLE, _WRONG, _INTERRUPTED = 1, 2, 130  # exit codes: a dependency; settings or options; Ctrl-C
_DEBUG: Final = "--debug"
_SENDERS: Final = ("simulate", "replay")
_ERROR_ROOTS: Final = {
    "billing.errors": "BillingError",
    "ingest.errors": "IngestError",
    "kit.web.errors": "ServiceError",
    "simulator.errors": "SimulatorError",
    "streams.errors": "StreamsError",
}


@dataclass(frozen=True, slots=True)
class _Command:
    """Where a command is (a function, or a Typer of several), and an example of its use."""

    place: str
    example: str = ""


_COMMANDS: Final = {
    "up": _Command("voltstream.cli.commands.up:up", "voltstream up --stations 200 --rate 500 --for 5m"),
    "doctor": _Command(
        "voltstream.cli.commands.doctor:doctor", "VOLTSTREAM_REDIS_URL=redis://localhost voltstream doctor"
    ),
    "ledger": _Command("voltstream.cli.commands.ledger:ledger", "voltstream ledger --watch"),
    "token": _Command("voltstream.cli.commands.token:app"),
    "audit": _Command("voltstream.cli.commands.audit:app"),
    "privacy": _Command("voltstream.cli.commands.privacy:app"),
    "station": _Command("voltstream.cli.commands.stations:app"),
    "events": _Command("voltstream.cli.commands.events:app"),
    "frames": _Command("voltstream.cli.commands.frames:app"),
    "quarantine": _Command("voltstream.cli.commands.quarantine:app"),
    "simulate": _Command("simulator.cli:simulate", "voltstream simulate --stations 1000 --faults duplicate=0.05"),
    "replay": _Command("simulator.cli:replay", "voltstream replay readings.csv --map power_w=h --speed 60"),
    "rate": _Command(
        "voltstream.cli.commands.rate:rate", "voltstream rate --tariff tariff.json --usage usage.json --json"
    ),
    "billing": _Command("voltstream.cli.commands.billing:app"),
    "lake": _Command("voltstream.cli.commands.lake:app"),
    "backup": _Command("voltstream.cli.commands.backup:backup", "voltstream backup backups/2026-03-01"),
    "restore": _Command(
        "voltstream.cli.commands.backup:restore", "voltstream restore backups/2026-03-01 --data-dir .restored"
    ),
    "verify": _Command("voltstream.cli.commands.backup:verify", "voltstream verify --json"),
    "migrate": _Command("voltstream.cli.commands.migrate:migrate", "voltstream migrate --json"),
    "serve": _Command("voltstream.cli.commands.serve:serve", "voltstream serve worker relay --json"),
    "version": _Command("voltstream.cli.commands.doctor:version", "voltstream version --json"),
}


class _Group(TyperGroup):
    """Commands by the table above."""

    def list_commands(self, ctx: Any) -> list[str]:
        """See click."""
        return list(_COMMANDS)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """`voltstream worker` is short for `voltstream serve worker`."""
        short = args[0] in {*SERVICES, *SUBSETS} and args[0] not in _COMMANDS
        return super().resolve_command(ctx, ["serve", *args] if short else args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """See click."""
        command = _COMMANDS.get(cmd_name)
        if command is None:
            return None
        module, _, name = command.place.partition(":")
        found = getattr(import_module(module), name)
        if isinstance(found, typer.Typer):
            app = found
        else:
            app = typer.Typer(add_completion=False)
            app.command(cmd_name, epilog=f"Example: {command.example}")(found)
        made = get_command(app)
        made.name = cmd_name
        return made


app = typer.Typer(
    cls=_Group,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Settings are VOLTSTREAM_* variables, or a TOML file that VOLTSTREAM_CONFIG names. Example: voltstream up",
)


@app.callback()
def _voltstream(
    debug: Annotated[bool, typer.Option(_DEBUG, help="show the traceback of an error; may stand anywhere")] = False,
) -> None:
    """Telemetry of EV chargers in, exact metrics and sessions out, live."""


def main() -> NoReturn:
    """The console script. An expected error is one clear line and a non-zero exit code, without a traceback."""
    arguments = sys.argv[1:]
    debug = _DEBUG in arguments
    if debug:
        arguments = [_DEBUG, *(argument for argument in arguments if argument != _DEBUG)]
    if _value_of("--data-dir", arguments) is not None:
        # An option beats the environment: the platform of the folder named here, not the one that was exported.
        for variable in CLIENT_VARIABLES:
            os.environ.pop(variable, None)
    try:
        app(arguments, prog_name="voltstream", default_map=_defaults(arguments))
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:
        sys.exit(_TROUBLE)  # the reader of our output closed it
    except Exception as error:
        if debug or not _is_ours(error):
            raise
        wrong = isinstance(error, ConfigError | WrongUsage)
        print_error(str(error) if wrong else " ".join(str(error).split()) + _hint(error))
        sys.exit(_WRONG if wrong else _TROUBLE)
    sys.exit(0)


def _defaults(arguments: list[str]) -> dict[str, dict[str, str]]:
    """What `simulate` and `replay` use where nothing else is given: address and token of the `up` of the data folder,
    the token on this machine only."""
    command = next((argument for argument in arguments if not argument.startswith("-")), "")
    if command not in _SENDERS or "--help" in arguments:
        return {}
    # Imported here: the other commands are faster without.
    from voltstream.runtime.data_folder import platform_url
    from voltstream.runtime.up_tokens import is_own, read_tokens
    from voltstream.settings import load_settings

    settings = load_settings(data_dir=_value_of("--data-dir", arguments))
    url = _value_of("--url", arguments) or os.environ.get("VOLTSTREAM_URL")
    defaults = {} if url else {"url": platform_url(settings)}
    if is_own(url) and (tokens := read_tokens(settings)):
        defaults["token"] = tokens.device_token
    return {command: defaults}


def _value_of(option: str, arguments: list[str]) -> str | None:
    """As the command will read it: `--url X` or `--url=X`."""
    for argument, following in zip_longest(arguments, arguments[1:]):
        if argument == option:
            return following
        if argument.startswith(f"{option}="):
            return argument.removeprefix(f"{option}=")
    return None


def _hint(error: Exception) -> str:
    return "; `voltstream doctor` says what is wrong and how to fix it" if isinstance(error, Unavailable) else ""


def _is_ours(error: Exception) -> bool:
    """Whether its message is written for the user of the command."""
    ours: list[type[Exception]] = [KitError, VoltstreamError]
    for module, root in _ERROR_ROOTS.items():
        if module in sys.modules:  # a room that was never imported has raised nothing
            ours.append(getattr(sys.modules[module], root))
    return isinstance(error, tuple(ours))
