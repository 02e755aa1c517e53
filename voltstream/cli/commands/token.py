"""`voltstream token issue | list | revoke`."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar
from uuid import UUID

import typer

from kit.auth.token_store import KINDS, SUBJECT_CHARS_MAX, Kind, StoredToken, TokenStore, valid_subject
from kit.clock import format_rfc3339
from kit.database.migrations import migrate
from kit.database.postgres import open_database
from kit.settings import Settings
from schemas.reading import STATION_ID_CHARS_MAX
from voltstream.cli.options import AsJson, DataDir
from voltstream.cli.output import make_table, print_json, print_line, print_table
from voltstream.errors import Usage
from voltstream.runtime.database import ACCESS, any_database
from voltstream.settings import load_settings

T = TypeVar("T")

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Issue, list and revoke access tokens.")


@app.command(epilog="Example: voltstream token issue --kind device --station DE*VLT*E1 --label 'car park north'")
def issue(
    kind: Annotated[str, typer.Option(help="device (posts readings), operator, finance, or driver")] = "device",
    station: Annotated[
        list[str] | None, typer.Option(help="a device's station, may be repeated; default: all", show_default=False)
    ] = None,
    subject: Annotated[str | None, typer.Option(help="a driver's id", show_default=False)] = None,
    label: Annotated[str, typer.Option(help="what it is for")] = "",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Issue a token. It is shown this once and never again."""
    wanted = _kind(kind)
    if station and wanted != "device":
        raise Usage(f"--station binds a device's token; one of kind {wanted} is bound to no station")
    for name in station or ():
        if not 0 < len(name) <= STATION_ID_CHARS_MAX:
            raise Usage(f"--station {name!r}: a station id has 1 to {STATION_ID_CHARS_MAX} characters")
    if (subject is None) == (wanted == "driver"):
        raise Usage("--subject names the driver of a token of kind driver, which needs it; others have none")
    if subject is not None and not valid_subject(subject):
        raise Usage(f"--subject {subject!r}: a driver's id has 1 to {SUBJECT_CHARS_MAX} printable characters")
    settings = load_settings(data_dir=data_dir)
    token, stored = _with_store(settings, lambda store: store.issue(wanted, label, station or None, subject))
    if as_json:
        print_json({"token": token, **_described(stored)})
    else:
        print_line(token)


@app.command("list", epilog="Example: voltstream token list --json")
def list_(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List every token there ever was, but for the token itself."""
    tokens = _with_store(load_settings(data_dir=data_dir), lambda store: store.list())
    if as_json:
        for token in tokens:
            print_json(_described(token))
        return
    table = make_table("id", "kind", "label", "stations", "subject", "created", "revoked")
    for token in tokens:
        described = _described(token)
        stations = "all" if token.stations is None else ", ".join(token.stations)
        created, revoked = described["created_at"], described["revoked_at"] or ""
        subject = token.subject or ""
        table.add_row(str(token.token_id), token.kind, token.label, stations, subject, str(created), str(revoked))
    print_table(table)


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
        raise Usage(f"{token_id!r} is no token's id; `voltstream token list` shows them") from None
    if not _with_store(load_settings(data_dir=data_dir), lambda store: store.revoke(wanted)):
        raise Usage(f"there is no valid token {wanted}; `voltstream token list` shows them")
    if as_json:
        print_json({"revoked": str(wanted)})
    else:
        print_line(f"revoked {wanted}")


def _kind(text: str) -> Kind:
    for kind in KINDS:
        if text == kind:
            return kind
    raise Usage(f"--kind {text}: write one of {', '.join(KINDS)}")


def _with_store(settings: Settings, work: Callable[[TokenStore], Awaitable[T]]) -> T:
    async def run(url: str) -> T:
        database = await open_database(url, name="voltstream token", connections_max=1)
        try:
            return await work(TokenStore(database))
        finally:
            await database.close()

    with any_database(settings) as url:
        migrate(url, [ACCESS])
        return asyncio.run(run(url))


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
