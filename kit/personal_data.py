"""What a service holds of drivers: declared by the service whose schema has it, asked for by the service `privacy`.

A service with personal data says of each kind what it is, in which columns it stands, what becomes of it when the
driver is erased, what stays and for how long. Its schema publishes three functions, granted to `privacy` alone:

- `<schema>.personal_data_export(subject)`: rows (kind, record as JSON);
- `<schema>.personal_data_open(subject, moment)`: rows (kind, what), of what keeps the driver from being erased now. It
  also takes the locks under which that stays true until the transaction ends;
- `<schema>.personal_data_erase(subject, pseudonym)`: rows (kind, how many records were changed or deleted, the moment
  of the newest record that stays; null: none does).

`subject` is a driver's id, the subject of the driver's tokens. The declarations are apart from the services', in
modules `personal_data`, because `privacy` reads all of them and imports no other service.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final, Literal

Erased = Literal["pseudonym", "removed", "deleted", "stays"]
"""What becomes of a record: a pseudonym stands for the driver; nobody does; the record is gone; it stays as it is."""

YEAR_DAYS: Final = 365.25
PSEUDONYM_PREFIX: Final = "erased-"  # then a random UUID, which nothing connects to the driver


@dataclass(frozen=True, slots=True)
class PersonalData:
    """One kind of data of drivers."""

    kind: str
    summary: str
    columns: tuple[str, ...]  # schema.table.column: all of a driver's own, or with a driver's id in it
    erased: Erased
    stays: str = ""  # what of it stays where the driver is erased, and why
    retention: str = ""  # the adjustable setting, or what else says, after which it ends
    retention_unit: Literal["", "d", "y", "calendar years"] = ""  # of what stays; empty: without an end

    def __post_init__(self) -> None:
        if self.erased == "stays" and not self.stays:
            raise ValueError(f"{self.kind}: say why it stays")

    def kept_until(self, newest: datetime, setting: int) -> date | None:
        """The first day on which nothing of it is kept; `setting`: the value of `retention`. None: no day is set."""
        if self.retention_unit == "calendar years":
            return date(newest.year + setting + 1, 1, 1)
        days = {"d": 1.0, "y": YEAR_DAYS}.get(self.retention_unit)
        return None if days is None else (newest + timedelta(days=setting * days)).date() + timedelta(days=1)


def functions_of(schema: str) -> dict[str, str]:
    """The three functions, with their argument types, and what each answers."""
    return {
        f"{schema}.personal_data_export(text)": "all that is held of a driver",
        f"{schema}.personal_data_open(text, timestamp with time zone)": "what keeps a driver from being erased now",
        f"{schema}.personal_data_erase(text, text)": "puts a pseudonym for a driver, or nobody; what stays",
    }


def in_standard_tables(schema: str) -> tuple[PersonalData, ...]:
    """What the standard tables of a schema hold of drivers (kit/database/standard_tables)."""
    return (
        PersonalData(
            "responses",
            "responses that repeated requests get again (Idempotency-Key)",
            (f"{schema}.idempotency.principal", f"{schema}.idempotency.body", f"{schema}.idempotency.location"),
            "deleted",
            retention="api.idempotency_retention",
        ),
        PersonalData(
            "events",
            "events on their way to the bus",
            (f"{schema}.outbox.body", f"{schema}.outbox.headers"),
            "pseudonym",
            retention="once they are published",
        ),
    )
