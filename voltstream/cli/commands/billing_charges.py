"""`voltstream billing charges | approve | correct | void`: what waits for a person, and what they decide."""

from collections.abc import Mapping
from typing import Annotated, Any, Final
from urllib.parse import quote
from uuid import uuid4

import typer

from voltstream.cli.commands.billing_rows import Only, money, print_end, print_list
from voltstream.cli.connection import Url
from voltstream.cli.options import AsJson, DataDir
from voltstream.cli.output import print_json, print_line
from voltstream.cli.platform_api import FinanceToken, finance_api
from voltstream.settings import load_settings

_PATH: Final = "/api/v1/billing/charges"
CHARGES_EXAMPLE: Final = "Example: voltstream billing charges --reason register_leapt"
APPROVE_EXAMPLE: Final = "Example: voltstream billing approve 5d0c… --why 'meter was read on site'"
CORRECT_EXAMPLE: Final = "Example: voltstream billing correct 5d0c… --energy-wh 12400 --why 'display showed 12.4 kWh'"
VOID_EXAMPLE: Final = "Example: voltstream billing void 5d0c… --why 'test charge of the installer'"

ChargeId = Annotated[str, typer.Argument(metavar="CHARGE", help="a charge's id, or its session's", show_default=False)]
Why = Annotated[str, typer.Option(help="is kept with the decision", show_default=False)]


def charges(
    status: Annotated[
        str | None, typer.Option(help="settling, void, nothing_owed, …; default: all that wait for a person")
    ] = None,
    station: Annotated[str | None, typer.Option(help="only of this station")] = None,
    driver: Annotated[str | None, typer.Option(help="only of this driver")] = None,
    reason: Annotated[str | None, typer.Option(help="only with this one of its reasons")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="at most so many")] = 100,
    only: Only = None,
    url: Url = None,
    token: FinanceToken = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List charges that are not invoiced before somebody has looked, oldest first."""
    wanted = {"status": status, "station_id": station, "driver_id": driver, "reason": reason, "limit": limit}
    with finance_api(load_settings(data_dir=data_dir), url, token) as api:
        page = api.get(_PATH, wanted)
    found = page["charges"]

    def show() -> None:
        for charge in found:
            print_line(_line(charge))
        print_end(found, more=page["next"] is not None)

    print_list(found, only, as_json, show)


def approve(
    charge: ChargeId,
    why: Why,
    url: Url = None,
    token: FinanceToken = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Release a charge as it was computed: it is invoiced at once."""
    _decide(charge, "approve", {"why": why}, url, token, data_dir, as_json)


def correct(
    charge: ChargeId,
    why: Why,
    energy_wh: Annotated[str, typer.Option(help="that was delivered, to the thousandth", show_default=False)],
    started_at: Annotated[str | None, typer.Option(metavar="MOMENT", help="default: of the charge")] = None,
    ended_at: Annotated[str | None, typer.Option(metavar="MOMENT", help="default: of the charge")] = None,
    url: Url = None,
    token: FinanceToken = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Release a charge with the energy, and perhaps the times, that you give: priced by the same tariff, invoiced at
    once."""
    times = {"started_at": started_at, "ended_at": ended_at}
    given = {name: value for name, value in times.items() if value is not None}
    _decide(charge, "correct", {"why": why, "energy_wh": energy_wh, **given}, url, token, data_dir, as_json)


def void(
    charge: ChargeId,
    why: Why,
    url: Url = None,
    token: FinanceToken = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Say that nothing is owed for a charge."""
    _decide(charge, "void", {"why": why}, url, token, data_dir, as_json)


def _decide(
    charge: str, kind: str, body: Mapping[str, str], url: str | None, token: str | None, data_dir: Any, as_json: bool
) -> None:
    with finance_api(load_settings(data_dir=data_dir), url, token) as api:
        decided = api.post(f"{_PATH}/{quote(charge, safe='')}/{kind}", body, key=str(uuid4()))
    if as_json:
        print_json(decided)
        return
    print_line(f"{decided['status']}: {decided['station_id']}, {decided['energy_wh']} Wh, {money(decided)}")


def _line(charge: Mapping[str, Any]) -> str:
    """Not a row: the id alone is half of a narrow screen."""
    place = charge["station_id"] if charge["driver_id"] is None else f"{charge['station_id']}, {charge['driver_id']}"
    why = ", ".join(charge["reasons"]) or charge["reason"]
    figures = f"{charge['energy_wh']} Wh, {money(charge)}"
    return f"{charge['id']}  {charge['status']}  {place}  {figures}" + (f"  {why}" if why else "")
