"""`voltstream quarantine list | show | replay`: refused items, and taking them after all."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final
from uuid import uuid4

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from kit.clock import format_rfc3339
from voltstream.cli.connection import OperatorToken, Url
from voltstream.cli.options import MOMENT, MOMENT_HELP, AsJson, DataDir, period
from voltstream.cli.output import make_table, print_json, print_line, print_note, print_table
from voltstream.cli.platform_api import PlatformApi, operators_api
from voltstream.errors import WrongUsage
from voltstream.settings import load_settings

PATH: Final = "/api/v1/telemetry/quarantine"
_LIST_MAX: Final = 1_000  # items shown by default
_PAGE: Final = 500
_IDS_AT_ONCE: Final = 1_000  # of one request
_DETAIL_CHARS: Final = 80  # of the table's last column; `show` has all
_RAW_CHARS: Final = 4_096  # of what was received, on a screen
_REFUSED_SHOWN_MAX: Final = 20

_EXAMPLE: Final = "Example: voltstream quarantine replay --reason ts_future --dry-run"
app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Show refused items, and take them after all.", epilog=_EXAMPLE
)

Reason = Annotated[str | None, typer.Option(help="only of this reason, as ts_future", show_default=False)]
Station = Annotated[str | None, typer.Option(help="only of this station, where it could be read", show_default=False)]
From = Annotated[str | None, typer.Option("--from", metavar=MOMENT, help=f"received since then{MOMENT_HELP}")]
To = Annotated[str | None, typer.Option("--to", metavar=MOMENT, help="received before then")]


@app.command("list", epilog="Example: voltstream quarantine list --reason ts_future --from 2026-03-29")
def list_(
    reason: Reason = None,
    station: Station = None,
    start: From = None,
    end: To = None,
    every: Annotated[bool, typer.Option("--all", help="also those that were replayed")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="how many at most")] = _LIST_MAX,
    url: Url = None,
    token: OperatorToken = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List refused items, newest first."""
    asked = _conditions(reason, station, start, end) | {"waiting": "false" if every else "true"}
    table = make_table("id", "received", "station", "reason", "replayed", "detail")
    with operators_api(load_settings(data_dir=data_dir), url, token) as api:
        for item in _items(api, asked, limit):
            if as_json:
                print_json(item)
                continue
            detail = item["detail"][:_DETAIL_CHARS]
            cells = (item["received_at"], item["station_id"] or "-", item["reason"], item["replayed_at"] or "-", detail)
            table.add_row(str(item["id"]), *cells)
    if not as_json:
        print_table(table)


def _items(api: PlatformApi, asked: Mapping[str, object], limit: int) -> Iterator[Mapping[str, Any]]:
    page = api.get(PATH, {**asked, "limit": min(limit, _PAGE)})
    while True:
        yield from page["items"][:limit]
        limit -= len(page["items"])
        if limit <= 0 or page["next"] is None:
            return
        page = api.get(page["next"])


@app.command(epilog="Example: voltstream quarantine show 17")
def show(
    item_id: Annotated[int, typer.Argument(metavar="ID", min=1, help="as `voltstream quarantine list` shows it")],
    url: Url = None,
    token: OperatorToken = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show one refused item: why, what was received, and whether it was replayed."""
    with operators_api(load_settings(data_dir=data_dir), url, token) as api:
        item = api.get(f"{PATH}/{item_id}")
    if as_json:
        print_json(item)
        return
    for name, value in item.items():
        text = "-" if value is None else str(value)
        print_line(f"{name}: {text[:_RAW_CHARS]}{' …' if len(text) > _RAW_CHARS else ''}")


@app.command(epilog=_EXAMPLE)
def replay(
    item_id: Annotated[
        list[int] | None, typer.Option("--id", min=1, help="this item; may be repeated", show_default=False)
    ] = None,
    reason: Reason = None,
    station: Station = None,
    start: From = None,
    end: To = None,
    every: Annotated[bool, typer.Option("--all", help="all that wait")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would become of them")] = False,
    url: Url = None,
    token: OperatorToken = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Take refused items after all, by today's rules: what was refused because a clock was wrong can be a reading now.

    You vouch for them, and the items say so. What is refused again stays; what was replayed before is left alone.
    """
    asked: dict[str, object] = dict(_conditions(reason, station, start, end))
    if item_id:
        asked["ids"] = sorted(set(item_id))
    if not asked and not every:
        raise WrongUsage("say which: --id, --reason, --station, --from or --to, or --all")
    if not asked:
        asked["from"] = format_rfc3339(0)
    asked["dry_run"] = dry_run
    with operators_api(load_settings(data_dir=data_dir), url, token) as api, _progress() as shown:
        answers = _replayed(api, asked, shown, as_json)
    if not as_json:
        _print_sums(answers, dry_run)


def _progress() -> Progress:
    columns = (TextColumn("replaying"), MofNCompleteColumn(), TextColumn("items"), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _replayed(api: PlatformApi, asked: dict[str, object], shown: Progress, as_json: bool) -> list[Mapping[str, Any]]:
    """The answers to one request after the other, until nothing is left."""
    task = shown.add_task("items", total=None)
    answers: list[Mapping[str, Any]] = []
    for some in _requests(asked):
        asked_next: dict[str, object] | None = some
        while asked_next is not None:
            answer = api.post(f"{PATH}/replay", asked_next, key=str(uuid4()))
            asked_next = None if answer["next"] is None else {**some, "cursor": answer["next"]}
            shown.advance(task, answer["replayed"])
            if as_json:
                print_json(answer)
            answers.append({**answer, "refused": answer["refused"][:_REFUSED_SHOWN_MAX], "_of": _reasons(answer)})
    return answers


def _requests(asked: dict[str, object]) -> Iterator[dict[str, object]]:
    """The same, with as many ids as one request may have."""
    ids = asked.get("ids")
    if not isinstance(ids, list):
        yield asked
        return
    for at in range(0, len(ids), _IDS_AT_ONCE):
        yield {**asked, "ids": ids[at : at + _IDS_AT_ONCE]}


def _reasons(answer: Mapping[str, Any]) -> Counter[str]:
    reasons = Counter(one["reason"] for one in answer["refused"])
    reasons["and others"] += answer["refused_omitted"]
    return +reasons


def _print_sums(answers: list[Mapping[str, Any]], dry_run: bool) -> None:
    replayed, readings = (sum(one[name] for one in answers) for name in ("replayed", "readings"))
    would = "would be " if dry_run else ""
    print_line(f"{replayed:,} {would}replayed, with {readings:,} readings")
    reasons = sum((one["_of"] for one in answers), Counter[str]())
    if reasons:
        table = make_table("id", "refused again", "detail")
        shown = [one for answer in answers for one in answer["refused"]][:_REFUSED_SHOWN_MAX]
        for one in shown:
            table.add_row(str(one["id"]), one["reason"], one["detail"][:_DETAIL_CHARS])
        print_table(table)
        print_line(f"{reasons.total():,} {would}refused again: {', '.join(f'{n:,} {r}' for r, n in reasons.items())}")
    missing = [one for answer in answers for one in answer["not_waiting"]]
    if missing:
        listed = ", ".join(map(str, missing[:_REFUSED_SHOWN_MAX]))
        more = " …" if len(missing) > _REFUSED_SHOWN_MAX else ""
        print_note(f"not waiting (unknown, replayed before, or being replayed): {listed}{more}")


def _conditions(reason: str | None, station: str | None, start: str | None, end: str | None) -> dict[str, object]:
    since, until = period(start, end)
    given = {
        "reason": reason,
        "station_id": station,
        "from": None if since is None else format_rfc3339(since),
        "to": None if until is None else format_rfc3339(until),
    }
    return {name: value for name, value in given.items() if value is not None}
