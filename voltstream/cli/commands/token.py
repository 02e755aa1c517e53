"""`voltstream token issue | list | rotate | revoke`."""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Annotated, Final, TypeVar
from uuid import UUID

import typer
from rich.markup import escape
from rich.table import Table

from kit.audit.entry import AUDIT
from kit.audit.recording import local_account
from kit.auth.scopes import KINDS, Kind, Scope, scopes_of
from kit.auth.token_lifetimes import UNBOUNDED, LifetimeTooLong, TokenLifetimes
from kit.auth.token_store import (
    ORGANISATION_CHARS_MAX,
    SUBJECT_CHARS_MAX,
    StoredToken,
    TokenStore,
    valid_organisation,
    valid_subject,
)
from kit.clock import SystemClock, format_rfc3339
from kit.settings import Settings
from kit.spelling import did_you_mean
from schemas.reading import STATION_ID_CHARS_MAX
from voltstream.cli.connection import with_database
from voltstream.cli.options import UNIT_S, AsJson, DataDir, duration_s, moment
from voltstream.cli.output import make_table, print_json, print_line, print_note, print_table
from voltstream.errors import WrongUsage
from voltstream.runtime.data_folder import platform_name
from voltstream.runtime.database import ACCESS
from voltstream.settings import load_settings

T = TypeVar("T")

_ID_CHARS: Final = 36
_KIND_CHARS: Final = max(map(len, KINDS))
_JTI_CHARS_MAX: Final = 256
_SPAN_DAYS_MAX: Final = 3_660
_OVERLAP: Final = "24h"

Expires = Annotated[
    str | None,
    typer.Option(
        help="90d, 12h, 30m from now, or a moment like 2027-01-31T00:00:00Z; default: after 365 days "
        "(VOLTSTREAM_TOKEN_LIFETIME_DAYS_MAX), a device's never",
        show_default=False,
    ),
]

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Issue, list, rotate and revoke access tokens.")


@app.command(epilog="Example: voltstream token issue --kind device --station DE*VLT*E1 --label 'car park north'")
def issue(
    kind: Annotated[str, typer.Option(help=f"the role: {', '.join(reversed(KINDS))}")] = "device",
    station: Annotated[
        list[str] | None, typer.Option(help="a station that it is for, may be repeated", show_default=False)
    ] = None,
    any_station: Annotated[bool, typer.Option("--any-station", help="a device's token for all stations")] = False,
    organisation: Annotated[
        str | None, typer.Option(help="whose stations it is for, as they are registered", show_default=False)
    ] = None,
    subject: Annotated[str | None, typer.Option(help="a driver's id", show_default=False)] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="of the role's scopes only this, may be repeated; see docs/security.md", show_default=False),
    ] = None,
    expires: Expires = None,
    label: Annotated[str, typer.Option(help="what it is for")] = "",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Issue a token. It is shown this once and never again."""
    wanted = _kind(kind)
    if any_station and (station or wanted != "device"):
        raise WrongUsage("--any-station is for a device's token that is bound to no station: leave it or --station out")
    if wanted == "device" and not station and not any_station:
        raise WrongUsage("--station names each station of the device; --any-station makes a token for all stations")
    for name in station or ():
        if not 0 < len(name) <= STATION_ID_CHARS_MAX:
            raise WrongUsage(f"--station {name!r}: a station id has 1 to {STATION_ID_CHARS_MAX} characters")
    if organisation is not None and wanted == "device":
        raise WrongUsage("--organisation is for tokens of people: a device's names its stations by --station")
    if organisation is not None and not valid_organisation(organisation):
        what = f"1 to {ORGANISATION_CHARS_MAX} printable characters"
        raise WrongUsage(f"--organisation {organisation!r}: an organisation's name has {what}")
    if (subject is None) == (wanted == "driver"):
        raise WrongUsage("--subject names the driver of a token of kind driver, which needs it; others have none")
    if subject is not None and not valid_subject(subject):
        raise WrongUsage(f"--subject {subject!r}: a driver's id has 1 to {SUBJECT_CHARS_MAX} printable characters")
    scopes = _scopes(wanted, scope) if scope else None
    expires_at = _expiry(expires)
    settings = load_settings(data_dir=data_dir)
    with _lifetime_bounded():
        token, stored = _with_store(
            settings,
            lambda store: store.issue(
                wanted, label, station or None, subject, organisation=organisation, scopes=scopes, expires_at=expires_at
            ),
        )
    ends = "" if stored.expires_at is None else f", valid until {_at(stored.expires_at)}"
    platform = platform_name(settings)
    _show_secret(f"A token of kind {wanted} for the platform of {platform}{ends}:", token, stored, as_json)


@app.command("list", epilog="Example: voltstream token list --json")
def list_(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List all tokens ever issued, each by its id; --json has every detail."""
    settings = load_settings(data_dir=data_dir)
    tokens = _with_store(settings, lambda store: store.list())
    if as_json:
        for token in tokens:
            print_json(_described(token))
        return
    print_table(tokens_table(tokens, SystemClock().now(), TokenLifetimes.of(settings)))


@app.command(epilog="Example: voltstream token rotate 0f6b1c9a-4d5e-47a8-b2c3-d4e5f6a7b8c9 --overlap 24h")
def rotate(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="as `voltstream token list` shows it")],
    overlap: Annotated[str, typer.Option(help="how long the old secret is valid too: 24h, 30m, 0m")] = _OVERLAP,
    expires: Expires = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Give a token a new secret. Its id, scopes and stations stay; a secret from before the last rotation ends."""
    wanted, span, expires_at = _id(token_id), _span(overlap, "--overlap"), _expiry(expires)
    settings = load_settings(data_dir=data_dir)
    with _lifetime_bounded():
        made = _with_store(settings, lambda store: store.rotate(wanted, span, expires_at))
    if made is None:
        raise WrongUsage(f"there is no valid token {wanted}; `voltstream token list` shows them")
    token, stored = made
    until = stored.previous_expires_at
    ends = "" if until is None else f" The old one is valid until {_at(until)}."
    _show_secret(f"The new secret of {wanted}.{ends}", token, stored, as_json)


@app.command(
    epilog="Example: voltstream token revoke 0f6b1c9a-4d5e-47a8-b2c3-d4e5f6a7b8c9, or of signed ones: "
    "voltstream token revoke --subject D1 --before 2026-12-01T00:00:00Z"
)
def revoke(
    token_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="as `voltstream token list` shows it")] = None,
    jti: Annotated[str | None, typer.Option(help="a signed token's `jti`", show_default=False)] = None,
    subject: Annotated[str | None, typer.Option(help="a signed token's `sub`: all of them", show_default=False)] = None,
    before: Annotated[
        str | None, typer.Option(help="with --subject: those issued before (`iat`); default: now", show_default=False)
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a token, or signed ones of an identity provider, for good; they pass for at most 5 s more."""
    if sum(given is not None for given in (token_id, jti, subject)) != 1:
        raise WrongUsage("say which: an ID, or --jti, or --subject")
    if before is not None and subject is None:
        raise WrongUsage("--before is of the tokens of a subject: name it by --subject")
    settings = load_settings(data_dir=data_dir)
    days = settings.jwt_lifetime_days_max
    lifetime_max = timedelta(days=days) if days else None
    if token_id is not None:
        wanted = _id(token_id)
        if not _with_store(settings, lambda store: store.revoke(wanted)):
            raise WrongUsage(f"there is no valid token {wanted}; `voltstream token list` shows them")
        told: dict[str, object] = {"revoked": str(wanted)}
        line = f"revoked {wanted}"
    elif jti is not None:
        if not 0 < len(jti) <= _JTI_CHARS_MAX or not jti.isprintable():
            raise WrongUsage(f"--jti: 1 to {_JTI_CHARS_MAX} printable characters")
        _with_store(settings, lambda store: store.revoke_signed(jti=jti, lifetime_max=lifetime_max))
        told, line = {"jti": jti}, f"revoked the signed token {jti}"
    else:
        if not valid_subject(subject or ""):
            raise WrongUsage(f"--subject {subject!r}: 1 to {SUBJECT_CHARS_MAX} printable characters")
        issued_before = SystemClock().now() if before is None else moment("--before", before)
        _with_store(
            settings,
            lambda store: store.revoke_signed(subject=subject, issued_before=issued_before, lifetime_max=lifetime_max),
        )
        told = {"subject": subject, "issued_before": format_rfc3339(issued_before)}
        line = f"revoked all signed tokens of {subject} that were issued before {_at(issued_before)}"
    if as_json:
        print_json(told)
    else:
        print_line(line)


def tokens_table(tokens: Iterable[StoredToken], now: datetime, lifetimes: TokenLifetimes = UNBOUNDED) -> Table:
    """A line a token. Of 80 columns the first four take 63; what the token is for is cut where it does not fit."""
    table = make_table("id", "kind", "expires", "used", "for")
    widths = (_ID_CHARS, _KIND_CHARS, len("expires"), len("used"), None)
    for column, width in zip(table.columns, widths, strict=True):
        column.no_wrap, column.overflow, column.width = True, "ellipsis", width
    table.expand, table.columns[-1].ratio = True, 1  # it has what the others leave
    for token in tokens:
        is_idle = lifetimes.is_idle(token.kind, now, token.unused_since)
        expired = token.expires_at is not None and token.expires_at <= now
        over = "revoked" if token.revoked_at else "expired" if expired else "idle" if is_idle else ""
        left = "" if token.expires_at is None else _short(token.expires_at - now)
        stations = "" if token.stations is None else ", ".join(token.stations)
        scopes = "" if token.scopes is None else " ".join(token.scopes)
        table.add_row(
            str(token.token_id),
            token.kind,
            over or left,
            "" if token.last_used_at is None else _short(now - token.last_used_at),
            escape("; ".join(filter(None, (token.subject, token.organisation, stations, scopes, token.label)))),
            style="dim" if over else "",
        )
    return table


def _short(span: timedelta) -> str:
    """The span in days, hours or minutes, whichever is the largest that it has."""
    left_s = max(int(span.total_seconds()), 0)
    for unit in ("d", "h", "m"):
        if left_s >= UNIT_S[unit]:
            return f"{left_s // int(UNIT_S[unit])} {unit}"
    return "0 m"


def _kind(text: str) -> Kind:
    for kind in KINDS:
        if text == kind:
            return kind
    raise WrongUsage(f"--kind {text}: write one of {', '.join(KINDS)}")


def _scopes(kind: Kind, given: Iterable[str]) -> list[Scope]:
    allowed = {str(scope): scope for scope in scopes_of(kind)}
    for text in given:
        if text not in allowed:
            near = did_you_mean(text, set(allowed)) or f"; it has {', '.join(sorted(allowed))}"
            raise WrongUsage(f"--scope {text}: the role {kind} has no such scope{near}")
    return [allowed[text] for text in given]


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise WrongUsage(f"{text!r} is no token's id; `voltstream token list` shows them") from None


def _span(text: str, option: str) -> timedelta:
    """`24h` as a span of time."""
    try:
        span = timedelta(seconds=duration_s(text, may_be_zero=True))
    except WrongUsage as error:
        raise WrongUsage(f"{option}: {error}") from None
    if span > timedelta(days=_SPAN_DAYS_MAX):
        raise WrongUsage(f"{option} {text}: at most {_SPAN_DAYS_MAX} days")
    return span


def _expiry(text: str | None) -> datetime | None:
    """When a token expires: after a span of time, or at a moment that is to come."""
    if text is None:
        return None
    now = SystemClock().now()
    expires_at = moment("--expires", text) if "-" in text else now + _span(text, "--expires")
    if expires_at <= now:
        raise WrongUsage(f"--expires {text}: that is past; name a moment that is to come")
    return expires_at


@contextmanager
def _lifetime_bounded() -> Iterator[None]:
    """Within the block, an expiry that is too late is a wrong option."""
    try:
        yield
    except LifetimeTooLong as error:
        raise WrongUsage(f"--expires: {error}") from None


def _at(when: datetime) -> str:
    return format_rfc3339(when)


def _show_secret(note: str, token: str, stored: StoredToken, as_json: bool) -> None:
    if as_json:
        print_json({"token": token, **_described(stored)})
    else:
        print_note(note)
        print_line(token)


def _with_store(settings: Settings, work: Callable[[TokenStore], Awaitable[T]]) -> T:
    who = local_account()
    lifetimes = TokenLifetimes.of(settings)
    return with_database(
        settings, "token", lambda database: work(TokenStore(database, who, lifetimes)), apply=[AUDIT, ACCESS]
    )


def _described(token: StoredToken) -> dict[str, object]:
    moments = ("created_at", "expires_at", "last_used_at", "revoked_at", "previous_expires_at")
    return {
        "id": str(token.token_id),
        "kind": token.kind,
        "label": token.label,
        "stations": None if token.stations is None else list(token.stations),
        "organisation": token.organisation,
        "subject": token.subject,
        "scopes": sorted(scopes_of(token.kind, token.scopes)),
        **{name: None if (at := getattr(token, name)) is None else format_rfc3339(at) for name in moments},
    }
