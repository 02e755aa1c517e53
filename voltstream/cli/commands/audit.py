"""`voltstream audit list | verify`: who did what, and whether somebody changed it since."""

from dataclasses import asdict
from typing import Annotated, Any, Final

import typer

from api.audit.sealing import Verification, verify
from kit.audit.entry import AUDIT
from voltstream.cli.connection import OperatorToken, Url, with_database
from voltstream.cli.options import MOMENT, MOMENT_HELP, AsJson, DataDir, period
from voltstream.cli.output import make_table, print_json, print_line, print_table
from voltstream.cli.platform_api import operators_api
from voltstream.errors import PlatformFailed, WrongUsage
from voltstream.settings import load_settings

_PATH: Final = "/api/v1/audit"
_EXAMPLE: Final = "Example: voltstream audit verify"
_LIST_MAX: Final = 100
_PAGE_MAX: Final = 500  # of the API
_HASH_CHARS: Final = 64
app = typer.Typer(add_completion=False, no_args_is_help=True, help="Show and check who did what.", epilog=_EXAMPLE)


@app.command("list", epilog="Example: voltstream audit list --actor finance/ada --from 2026-03-01")
def list_(
    actor: Annotated[str | None, typer.Option(help="as entries name it", show_default=False)] = None,
    action: Annotated[str | None, typer.Option(help="as token.issued", show_default=False)] = None,
    endpoint: Annotated[str | None, typer.Option(help="a route's template", show_default=False)] = None,
    status: Annotated[int | None, typer.Option(help="of the answer", show_default=False)] = None,
    entity: Annotated[str | None, typer.Option(help="what was changed", show_default=False)] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar=MOMENT, help=f"then or later{MOMENT_HELP}", show_default=False)
    ] = None,
    end: Annotated[str | None, typer.Option("--to", metavar=MOMENT, help="before", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="how many at most")] = _LIST_MAX,
    url: Url = None,
    token: OperatorToken = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List entries of a running platform, newest first; --json has every detail."""
    since, until = period(start, end)
    wanted = {
        "actor": actor,
        "action": action,
        "endpoint": endpoint,
        "status": status,
        "entity": entity,
        "from": since and since.isoformat(),
        "to": until and until.isoformat(),
    }
    table, left = make_table("at", "actor", "action", "what", ">status", "from"), limit
    with operators_api(load_settings(data_dir=data_dir), url, token) as api:
        page = api.get(_PATH, {**wanted, "limit": min(limit, _PAGE_MAX)})
        while True:
            for entry in page["entries"][:left]:
                if as_json:
                    print_json(entry)
                else:
                    table.add_row(*_shown(entry))
            left -= len(page["entries"])
            if left <= 0 or page["next"] is None:
                break
            page = api.get(page["next"])
    if not as_json:
        print_table(table)


@app.command("verify", epilog=_EXAMPLE)
def verify_(
    block: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NUMBER=HASH",
            help="a block that was logged (audit_block_sealed) must be there; may be repeated",
            show_default=False,
        ),
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Compute the chain of all entries again. Exits with 1 where anything was changed, and says what."""
    logged = dict(map(_logged, block or ()))
    settings = load_settings(data_dir=data_dir)
    found = with_database(settings, "audit verify", lambda database: verify(database, logged), need=[AUDIT])
    if as_json:
        print_json(_described(found))
    else:
        _print(found)
    if found.faults:
        raise PlatformFailed(
            f"the audit was changed after it was sealed: {len(found.faults) + found.faults_omitted} faults"
        )


def _logged(text: str) -> tuple[int, bytes]:
    number, _, hash_ = text.partition("=")
    try:
        if len(hash_) == _HASH_CHARS:
            return int(number), bytes.fromhex(hash_)
    except ValueError:
        pass
    raise WrongUsage(f"--block {text!r}: write NUMBER=HASH, as the log line audit_block_sealed has them")


def _print(found: Verification) -> None:
    for fault in found.faults:
        block = f"block {fault.block}" if fault.block else ""  # 0: the entry is in none
        entry = "" if fault.entry_id is None else f"entry {fault.entry_id}"
        print_line(f"{', '.join(filter(None, (block, entry)))}: {fault.what}")
    print_line(
        f"{found.entries:,} entries in {found.blocks:,} blocks are as they were sealed, "
        f"{found.forgotten_entries:,} are past retention, {found.unsealed:,} are not sealed yet"
        if not found.faults
        else f"{found.entries:,} entries in {found.blocks:,} blocks are as they were sealed"
    )
    if found.forgotten_days_min is not None:
        print_line(f"what is past retention was deleted at an age of {found.forgotten_days_min:,} days or more")
    print_line(f"last block: {found.head.number}={found.head.hash.hex()}")


def _described(found: Verification) -> dict[str, Any]:
    document = asdict(found)
    head = document.pop("head")
    return {"ok": not found.faults, "last_block": head["number"], "hash": head["hash"].hex(), **document}


def _shown(entry: dict[str, Any]) -> tuple[str, ...]:
    what = entry["entity"] or f"{entry['method'] or ''} {entry['endpoint'] or ''}".strip()
    times = f" ×{entry['requests']}" if entry["requests"] > 1 else ""  # a sign of multiplication
    status = "" if entry["status"] is None else str(entry["status"])
    return entry["at"][:19], entry["actor"], entry["action"] + times, what, status, entry["address"]
