"""`voltstream events dlq list | show | replay`."""

import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

import typer

from kit.clock import format_rfc3339
from kit.database.migrations import standard_tables
from kit.messaging.dead_letters import MIGRATIONS, SCHEMA, DeadLetter, DeadLetterStore
from kit.spelling import did_you_mean
from voltstream.cli.connection import with_database
from voltstream.cli.options import AsJson, DataDir
from voltstream.cli.output import make_table, print_json, print_line, print_table
from voltstream.errors import WrongUsage
from voltstream.runtime.dead_letter_events import metadata_of
from voltstream.settings import load_settings

T = TypeVar("T")

LIST_MAX: Final = 1_000  # letters shown by default
_ERROR_CHARS: Final = 80  # of the table's last column; `show` has all

_EXAMPLE: Final = "Example: voltstream events dlq list"
app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Show events that failed, and replay them.",
    epilog=_EXAMPLE,
)
dlq = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Dead letters: events that no retry could handle.",
    epilog=_EXAMPLE,
)
app.add_typer(dlq, name="dlq")

Queue = Annotated[str | None, typer.Option(help="only of this queue, as billing_session_completed", show_default=False)]


@dlq.command("list", epilog="Example: voltstream events dlq list --queue billing_session_completed")
def list_(
    queue: Queue = None,
    replayed: Annotated[bool, typer.Option("--all", help="also those that were replayed")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="how many at most")] = LIST_MAX,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters, oldest first."""
    letters = _with_store(data_dir, lambda store: store.some(queue, limit, replayed=replayed))
    if queue is not None and not letters:
        _check_queue(queue)
    if as_json:
        for letter in letters:
            print_json(_described(letter))
        return
    table = make_table("id", "queue", "event", "died", ">attempts", "state", "error")
    for letter in letters:
        described = _described(letter)
        cells = (described["id"], letter.queue, described["event_type"], described["died_at"], str(letter.attempts))
        table.add_row(*cells, letter.state, letter.error[:_ERROR_CHARS])
    print_table(table)


@dlq.command(epilog="Example: voltstream events dlq show 0f6b1c9a-4d5e-47a8-b2c3-d4e5f6a7b8c9")
def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="as `voltstream events dlq list` shows it")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter: its error, and the event itself."""
    wanted = _uuid(letter_id)
    letter = _with_store(data_dir, lambda store: store.find(wanted))
    if letter is None:
        raise WrongUsage(f"there is no letter {wanted}; `voltstream events dlq list` shows them")
    described = _described(letter) | {"headers": letter.headers, "event": _event(letter.body)}
    if as_json:
        print_json(described)
        return
    for name in ("id", "queue", "state", "attempts", "died_at", "replayed_at", "exchange", "routing_key", "error"):
        print_line(f"{name}: {described[name] if described[name] is not None else '-'}")
    print_line(json.dumps(described["event"], indent=2, ensure_ascii=False))


@dlq.command(epilog="Example: voltstream events dlq replay --queue billing_session_completed")
def replay(
    queue: Queue = None,
    letter_id: Annotated[
        list[str] | None, typer.Option("--id", help="this letter; may be repeated", show_default=False)
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Send dead letters back to the queue that failed, each to that one only, once.

    They go out when voltstream runs; one that fails again is a new dead letter.
    """
    if queue is None and not letter_id:
        raise WrongUsage("say which: --queue NAME for all of one queue, or --id ID")
    ids = [_uuid(text) for text in letter_id] if letter_id else None
    letters = _with_store(data_dir, lambda store: _replay(store, ids, queue))
    if queue is not None and not letters:
        _check_queue(queue)
    missing = sorted(map(str, set(ids or ()) - {letter.id for letter in letters}))
    if missing:
        raise WrongUsage(
            f"{len(letters)} replayed; not among the dead letters: {', '.join(missing)}. "
            "`voltstream events dlq list --all` shows their state"
        )
    if as_json:
        for letter in letters:
            print_json({"replayed": str(letter.id), "queue": letter.queue, "event_id": letter.event_id})
    else:
        print_line(f"{len(letters)} will be replayed; `voltstream events dlq list` shows those that were not yet")


async def _replay(store: DeadLetterStore, ids: list[UUID] | None, queue: str | None) -> list[DeadLetter]:
    return [letter async for some in store.replay(ids, queue) for letter in some]


def _check_queue(queue: str) -> None:
    """Raises WrongUsage where no service consumes from such a queue."""
    from voltstream.services import all_services, queue_of  # here: it imports all of them

    known = [queue_of(service, consumes) for service in all_services() for consumes in service.consumes]
    if queue not in known:
        raise WrongUsage(f"no service has a queue {queue}{did_you_mean(queue, known)}")


def _with_store(data_dir: DataDir, work: Callable[[DeadLetterStore], Awaitable[T]]) -> T:
    settings = load_settings(data_dir=data_dir)
    tables = (standard_tables(SCHEMA), MIGRATIONS)
    return with_database(settings, "events", lambda database: work(DeadLetterStore(database)), apply=tables)


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise WrongUsage(f"{text!r} is no letter's id; `voltstream events dlq list` shows them") from None


def _described(letter: DeadLetter) -> dict[str, Any]:
    metadata = metadata_of(letter.body)
    return {
        "id": str(letter.id),
        "queue": letter.queue,
        "state": letter.state,
        "event_id": letter.event_id,
        "event_type": metadata.type if metadata else letter.routing_key,
        "attempts": letter.attempts,
        "error": letter.error,
        "died_at": format_rfc3339(letter.died_at),
        "replayed_at": None if letter.replayed_at is None else format_rfc3339(letter.replayed_at),
        "exchange": letter.exchange,
        "routing_key": letter.routing_key,
    }


def _event(body: bytes) -> Any:
    """The body as JSON where it is JSON, else as text."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body.decode("utf-8", "backslashreplace")
