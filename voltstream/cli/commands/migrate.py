"""`voltstream migrate`."""

from voltstream.cli.options import AsJson, Check, DataDir, checked
from voltstream.cli.output import print_json, print_line
from voltstream.runtime.database import any_database, bring_up_to_date, statuses, with_partitions
from voltstream.settings import load_settings


def migrate(data_dir: DataDir = None, check: Check = False, as_json: AsJson = False) -> None:
    """Bring the database's tables up to date. Does nothing where they are."""
    settings = load_settings(data_dir=data_dir)
    if check:
        checked(settings, as_json)
    with any_database(settings) as url:
        applied = bring_up_to_date(url, with_partitions(settings, url).partitions)
        there = [migration.id for migration in statuses(url) if migration.applied]
    if as_json:
        print_json({"applied": applied, "there": there})
        return
    for name in there:
        print_line(f"{name}  {'applied now' if name in applied else 'was there'}")
