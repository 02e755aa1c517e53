"""`voltstream token issue | list | revoke`."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Final, TypeVar
from uuid import UUID

import typer
from rich.markup import escape
from rich.table import Table

from kit.audit.entry import AUDIT
from kit.audit.recording import local_account
from kit.auth.token_store import KINDS, SUBJECT_CHARS_MAX, Kind, StoredToken, TokenStore, valid_subject
from kit.clock import format_rfc3339
from kit.settings import Settings
from schemas.reading import STATION_ID_CHARS_MAX
from voltstream.cli.connection import with_database
from voltstream.cli.options import AsJson, DataDir
from voltstream.cli.output import make_table, print_json, print_line, print_note, print_table
from voltstream.errors import WrongUsage
from voltstream.runtime.data_folder import platform_name
from voltstream.runtime.database import ACCESS
from voltstream.settings import load_settings

T = TypeVar("T")

_ID_CHARS: Final = 36
_KIND_CHARS: Final = max(map(len, KINDS))
_DATE_CHARS: Final = 10  # of 2026-01-31T…

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Issue, list and revoke access tokens.")


@app.command(epilog="Example: voltstream token issue --kind device --station DE*VLT*E1 --label 'car park north'")
def issue(
    kind: Annotated[str, typer.Option(help="device (posts readings), operator, finance, or driver")] = "device",
    station: Annotated[
        list[str] | None, typer.Option(help="a device's station, may be repeated", show_default=False)
    ] = None,
    any_station: Annotated[bool, typer.Option("--any-station", help="a device's token for all stations")] = False,
    subject: Annotated[str | None, typer.Option(help="a driver's id", show_default=False)] = None,
    label: Annotated[str, typer.Option(help="what it is for")] = "",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Issue a token. It is shown this once and never again."""
    wanted = _kind(kind)
    if station and wanted != "device":
        raise WrongUsage(f"--station binds a device's token; one of kind {wanted} is bound to no station")
    if any_station and (station or wanted != "device"):
        raise WrongUsage("--any-station is for a device's token that is bound to no station: leave it or --station out")
    if wanted == "device" and not station and not any_station:
        raise WrongUsage("--station names each station of the device; --any-station makes a token for all stations")
    for name in station or ():
        if not 0 < len(name) <= STATION_ID_CHARS_MAX:
            raise WrongUsage(f"--station {name!r}: a station id has 1 to {STATION_ID_CHARS_MAX} characters")
    if (subject is None) == (wanted == "driver"):
        raise WrongUsage("--subject names the driver of a token of kind driver, which needs it; others have none")
    if subject is not None and not valid_subject(subject):
        raise WrongUsage(f"--subject {subject!r}: a driver's id has 1 to {SUBJECT_CHARS_MAX} printable characters")
    settings = load_settings(data_dir=data_dir)
    token, stored = _with_store(settings, lambda store: store.issue(wanted, label, station or None, subject))
    if as_json:
        print_json({"token": token, **_described(stored)})
    else:
        print_note(f"A token of kind {wanted} for the platform of {platform_name(settings)}:")
        print_line(token)


@app.command("list", epilog="Example: voltstream token list --json")
def list_(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List all tokens ever issued, each by its id; --json has every detail."""
    tokens = _with_store(load_settings(data_dir=data_dir), lambda store: store.list())
    if as_json:
        for token in tokens:
            print_json(_described(token))
        return
    print_table(tokens_table(tokens))


@app.command(epilog="Example: voltstream token revoke 0f6b1c9a-4d5e-47a8-b2c3-d4e5f6a7b8c9")
def revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="as `voltstream token list` shows it")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a token for good; it passes for at most 5 s more."""
    try:
        wanted = UUID(token_id)
    except ValueError:
        raise WrongUsage(f"{token_id!r} is no token's id; `voltstream token list` shows them") from None
    if not _with_store(load_settings(data_dir=data_dir), lambda store: store.revoke(wanted)):
        raise WrongUsage(f"there is no valid token {wanted}; `voltstream token list` shows them")
    if as_json:
        print_json({"revoked": str(wanted)})
    else:
        print_line(f"revoked {wanted}")


def _kind(text: str) -> Kind:
    for kind in KINDS:
        if text == kind:
            return kind
    raise WrongUsage(f"--kind {text}: write one of {', '.join(KINDS)}")


def tokens_table(tokens: Iterable[StoredToken]) -> Table:
    """A line a token. Of 80 columns the first three take 58; what the token is for is cut where it does not fit."""
    table = make_table("id", "kind", "issued", "for")
    for column, width in zip(table.columns, (_ID_CHARS, _KIND_CHARS, _DATE_CHARS, None), strict=True):
        column.no_wrap, column.overflow, column.min_width = True, "ellipsis", width
    for token in tokens:
        stations = "" if token.stations is None else ", ".join(token.stations)
        purpose = "; ".join(filter(None, (token.subject, stations, token.label)))
        issued = "revoked" if token.revoked_at else format_rfc3339(token.created_at)[:_DATE_CHARS]
        style = "dim" if token.revoked_at else ""
        table.add_row(str(token.token_id), token.kind, issued, escape(purpose), style=style)
    return table


def _with_store(settings: Settings, work: Callable[[TokenStore], Awaitable[T]]) -> T:
    who = local_account()
    return with_database(settings, "token", lambda database: work(TokenStore(database, who)), apply=[AUDIT, ACCESS])


def _described(token: StoredToken) -> dict[str, object]:
    return {
        "id": str(token.token_id),
        "kind": token.kind,
        "label": token.label,
        "stations": None if token.stations is None else list(token.stations),
        "subject": token.subject,
        "created_at": format_rfc3339(token.created_at),
        "revoked_at": None if token.revoked_at is None else format_rfc3339(token.revoked_at),
    }
