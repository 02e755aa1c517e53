"""`voltstream privacy export | erase`: all that is held of a driver, and erasing it."""

import sys
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from voltstream.cli.connection import Url
from voltstream.cli.options import AsJson, DataDir
from voltstream.cli.output import make_table, print_json, print_line, print_table
from voltstream.cli.platform_api import PlatformApi, admins_api
from voltstream.errors import WrongUsage
from voltstream.settings import load_settings

_PATH: Final = "/api/v1/privacy"
_EXAMPLE: Final = "Example: voltstream privacy export driver-42 --json > driver-42.json"

Subject = Annotated[str, typer.Argument(metavar="SUBJECT", help="the driver's id", show_default=False)]
AdminToken = Annotated[
    str | None,
    typer.Option("--token", envvar="VOLTSTREAM_ADMIN_TOKEN", help="of an administrator", show_default=False),
]

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Export and erase data of drivers.", epilog=_EXAMPLE)


@app.command("export", epilog=_EXAMPLE)
def export_(
    subject: Subject,
    url: Url = None,
    token: AdminToken = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show what is held of a driver; --json has all of it."""
    with admins_api(load_settings(data_dir=data_dir), url, token) as api:
        document = api.get(_address(subject))
    if as_json:
        print_json(document)
        return
    table = make_table("kind", "service", ">records", "what")
    for part in document["data"]:
        table.add_row(part["kind"], part["service"], f"{len(part['records']):,}", part["summary"])
    print_table(table)


@app.command("erase", epilog="Example: voltstream privacy erase driver-42")
def erase_(
    subject: Subject,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    url: Url = None,
    token: AdminToken = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Erase a driver, and say what stays and until when. It cannot be undone."""
    with admins_api(load_settings(data_dir=data_dir), url, token) as api:
        if not yes and not _confirmed(subject):
            raise WrongUsage("nothing was erased")
        done = _erased(api, subject)
    if as_json:
        print_json(done)
        return
    table = make_table("kind", "", "what")
    for part in done["erased"]:
        table.add_row(part["kind"], f"{part['records']:,} erased", part["summary"])
    for part in done["kept"]:
        until = f"kept until {part['until']}" if part["until"] else "kept"
        table.add_row(part["kind"], until, f"{part['summary']}: {part['reason']}")
    print_table(table)
    if not done["erased"] and not done["kept"]:
        print_line("Nothing is held.")


def _erased(api: PlatformApi, subject: str) -> Any:
    return api.delete(_address(subject))


def _confirmed(subject: str) -> bool:
    """Whether whoever is at the terminal says so. Raises WrongUsage where nobody is."""
    if not sys.stdin.isatty():
        raise WrongUsage("nobody is there to be asked: say --yes if the driver is to be erased")
    return typer.confirm(f"Erase all of driver {subject} that the law lets go? It cannot be undone", err=True)


def _address(subject: str) -> str:
    if not subject or subject != subject.strip() or not subject.isprintable():
        raise WrongUsage("SUBJECT: a driver's id has printable characters only, and no space at either end")
    return f"{_PATH}/{quote(subject)}"
