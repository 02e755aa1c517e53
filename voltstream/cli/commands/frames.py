"""`voltstream frames dead | put-back`: acknowledged frames that RabbitMQ gave up before Kafka took them."""

from typing import Final

import typer

from kit.log.dead_records import count_dead, put_back
from kit.settings import Settings
from schemas.topics import frames_queue
from voltstream.cli.options import AsJson
from voltstream.cli.output import make_table, print_json, print_table
from voltstream.errors import WrongUsage
from voltstream.settings import load_settings

_EXAMPLE: Final = "Example: voltstream frames put-back"
app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Frames of readings that are on no way to a worker: find them, and put them back.",
    epilog=_EXAMPLE,
)


@app.command(epilog="Example: voltstream frames dead --json")
def dead(as_json: AsJson = False) -> None:
    """Show how many frames are dead, by partition."""
    settings = _settings()
    counts = count_dead(settings.rabbitmq_url, [frames_queue(at) for at in range(settings.partitions)])
    _show("dead", dict(enumerate(counts)), as_json=as_json)


@app.command("put-back", epilog=_EXAMPLE)
def put_back_(as_json: AsJson = False) -> None:
    """Put dead frames back into their queues. The worker drops what it has already."""
    settings = _settings()
    counts = {at: put_back(settings.rabbitmq_url, frames_queue(at)) for at in range(settings.partitions)}
    _show("put_back", counts, as_json=as_json)


def _settings() -> Settings:
    settings = load_settings()
    if not settings.rabbitmq_url:
        raise WrongUsage("set VOLTSTREAM_RABBITMQ_URL: in one process frames are in no queue")
    return settings


def _show(what: str, counts: dict[int, int], *, as_json: bool) -> None:
    if as_json:
        for partition, count in counts.items():
            print_json({"partition": partition, what: count})
        return
    table = make_table(">partition", f">{what.replace('_', ' ')}")
    for partition, count in counts.items():
        table.add_row(str(partition), str(count))
    print_table(table)
