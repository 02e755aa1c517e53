"""`voltstream station list | show | release | set | connector | remove | import | export`: the registry of stations."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from api.stations.components import PATH
from api.stations.exchange.models import ExchangeFormat
from api.stations.registry.models import RATED_POWER_W_MAX
from schemas.connector import ConnectorFormat, ConnectorStandard, PowerType
from schemas.identifiers import SLASH
from schemas.reading import CONNECTOR_ID_MAX
from voltstream.cli.connection import OperatorToken, Url
from voltstream.cli.options import AsJson, DataDir, one_of
from voltstream.cli.output import make_table, print_json, print_line, print_note, print_table
from voltstream.cli.platform_api import operators_api
from voltstream.errors import WrongUsage
from voltstream.settings import load_settings

_OF_THE_ANSWER: Final = ("station_id", "connector_id", "connectors", "revision", "changed_at")  # and of no request
_UNCLAIMED: Final = "/api/v1/telemetry/unclaimed"
_EXAMPLE: Final = "Example: voltstream station show 'DE*VLT*E1'"
_LEFT_OUT, _REFUSED = 1, 2  # exit codes of an import; 2 as of any WrongUsage

StationId = Annotated[str, typer.Argument(metavar="STATION", help="as readings name it", show_default=False)]
ConnectorId = Annotated[
    int, typer.Argument(metavar="NUMBER", min=0, max=CONNECTOR_ID_MAX, help="as readings number it", show_default=False)
]

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Register stations and what they can do.", epilog=_EXAMPLE
)


def _fact(help_: str) -> Any:
    return typer.Option(help=help_, show_default=False)


@app.command("list", epilog="Example: voltstream station list --json")
def list_(
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="at most so many")] = 1_000,
    url: Url = None,
    token: OperatorToken = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List registered stations, by their ids."""
    with operators_api(load_settings(data_dir=data_dir), url, token) as api:
        page = api.get(PATH, {"limit": limit})
    if as_json:
        for station in page["stations"]:
            print_json(station)
        return
    table = make_table("station", "name", "city", "country")
    for station in page["stations"]:
        table.add_row(*(station[name] or "" for name in ("station_id", "name", "city", "country")))
    print_table(table)
    if page["next"] is not None:
        print_note("… and more: --limit")


@app.command(epilog=_EXAMPLE)
def show(
    station: StationId, url: Url = None, token: OperatorToken = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Show a station and its connectors."""
    with operators_api(load_settings(data_dir=data_dir), url, token) as api:
        found = api.find(_place(station))
    if found is None:
        raise WrongUsage(f"{station} is not registered: `voltstream station set {station} --city …`")
    _print(found, as_json)


@app.command(epilog="Example: voltstream station release 'DE*VLT*E1'")
def release(
    station: StationId, url: Url = None, token: OperatorToken = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Take the readings that a station sent before it was registered, where these were quarantined."""
    released = 0
    with operators_api(load_settings(data_dir=data_dir), url, token) as api:
        while True:
            answer = api.post(f"{_UNCLAIMED}/{quote(station, safe='')}/release")
            released += answer["released"]
            if not answer["released"] or not answer["left"]:
                break
    if as_json:
        print_json({**answer, "released": released})
        return
    print_line(f"{released:,} readings of {answer['station_id']} are on their way; {answer['left']:,} are left")


@app.command("set", epilog="Example: voltstream station set 'DE*VLT*E1' --address 'Kai 1' --city Hamburg --country DEU")
def set_(
    station: StationId,
    name: Annotated[str | None, _fact("as drivers read it")] = None,
    address: Annotated[str | None, _fact("street and number")] = None,
    city: Annotated[str | None, _fact("of the address")] = None,
    postal_code: Annotated[str | None, _fact("of the address")] = None,
    country: Annotated[str | None, _fact("ISO 3166-1 alpha-3, like DEU")] = None,
    latitude: Annotated[str | None, _fact("degrees, WGS 84")] = None,
    longitude: Annotated[str | None, _fact("degrees, WGS 84")] = None,
    time_zone: Annotated[str | None, _fact("IANA, like Europe/Berlin")] = None,
    url: Url = None,
    token: OperatorToken = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Register a station, or change what is known of it: what no option names stays, and an empty text is forgotten.

    OCPI CDRs need address, city, country and position.
    """
    given = {
        **{"name": name, "address": address, "city": city, "postal_code": postal_code, "country": country},
        **{"latitude": latitude, "longitude": longitude, "time_zone": time_zone},
    }
    _set(station, None, given, url, token, data_dir, as_json)


@app.command(epilog="Example: voltstream station connector 'DE*VLT*E1' 1 --rated-power-w 22000")
def connector(
    station: StationId,
    number: ConnectorId,
    rated_power_w: Annotated[str | None, _fact(f"the most it can deliver, 1 to {RATED_POWER_W_MAX:,}")] = None,
    standard: Annotated[str | None, _fact(f"of the plug: {ConnectorStandard.IEC_62196_T2}, …, as OCPI has it")] = None,
    format_: Annotated[str | None, typer.Option("--format", help=" or ".join(ConnectorFormat))] = None,
    power_type: Annotated[str | None, _fact(", ".join(PowerType))] = None,
    evse_id: Annotated[str | None, _fact("ISO 15118, like DE*VLT*E1*1")] = None,
    url: Url = None,
    token: OperatorToken = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Register a connector, or change what is known of it: what no option names stays, and an empty text is forgotten.

    Readings are plausible up to the rated power; OCPI CDRs need all the rest. Connector 0 is the station's main meter
    and has a rated power only.
    """
    for option, text, choices in (("--format", format_, ConnectorFormat), ("--power-type", power_type, PowerType)):
        if text:  # an empty one is forgotten
            one_of(option, choices)(text)
    if rated_power_w and not rated_power_w.isdecimal():
        raise WrongUsage(f"--rated-power-w {rated_power_w!r}: write whole watts, like 22000")
    given: dict[str, str | int | None] = {
        **{"standard": standard, "format": format_, "power_type": power_type, "evse_id": evse_id},
        "rated_power_w": int(rated_power_w) if rated_power_w else rated_power_w,
    }
    _set(station, number, given, url, token, data_dir, as_json)


@app.command(epilog="Example: voltstream station remove 'DE*VLT*E1' --connector 2")
def remove(
    station: StationId,
    connector: Annotated[
        int | None, typer.Option(min=0, max=CONNECTOR_ID_MAX, help="only this one", show_default=False)
    ] = None,
    url: Url = None,
    token: OperatorToken = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Retire a station with its connectors, or remove one of them. Its history, readings and charges stay."""
    place = _place(station) if connector is None else f"{_place(station)}/connectors/{connector}"
    with operators_api(load_settings(data_dir=data_dir), url, token) as api:
        registered = api.find(_place(station))
        api.delete(place, version=None if registered is None else registered["revision"])
    if as_json:
        print_json({"station_id": station, "connector_id": connector, "removed": True})
    else:
        print_line("removed")


@app.command("import", epilog="Example: voltstream station import stations.csv --dry-run")
def import_(
    file: Annotated[Path, typer.Argument(help="CSV, or OCPI Locations as .json", show_default=False)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would change")] = False,
    partial: Annotated[bool, typer.Option("--partial", help="take the others where some stations are refused")] = False,
    url: Url = None,
    token: OperatorToken = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Register or change the stations of a file: all of them or none, unless --partial. The same file again changes
    nothing; stations that are not in it stay.

    The list of a station's connectors is whole: one that the file leaves out is removed. An empty cell of CSV erases
    the fact; what has no column stays.

    Ends with 2 where nothing is or would be imported, with 1 where --partial leaves out stations.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise WrongUsage(f"{file}: {error.strerror}") from None
    format_, media_type = ("ocpi", "application/json") if file.suffix.lower() == ".json" else ("csv", "text/csv")
    asked = {"format": format_, "dry_run": dry_run, "partial": partial}
    with operators_api(load_settings(data_dir=data_dir), url, token) as api:
        try:
            result = api.post_file(f"{PATH}/import", content, media_type, asked)
        except WrongUsage as error:
            raise WrongUsage(str(error).replace("partial=true", "--partial")) from None
    if as_json:
        print_json(result)
    else:
        _print_imported(result)
    if result["refused"]:
        raise typer.Exit(_LEFT_OUT if result["written"] else _REFUSED)


def _print_imported(result: Mapping[str, Any]) -> None:
    if result["stations"]:
        table = make_table("line", "station", "", "what")
        for one in result["stations"]:
            said = [*one["changes"], *(f"not kept: {name}" for name in one["not_taken"])]
            table.add_row(str(one["line"]), one["station_id"], one["outcome"], one["reason"] or ", ".join(said))
        print_table(table)
    counted = ", ".join(f"{result[name]} {name}" for name in ("created", "changed", "unchanged", "refused"))
    if result["written"]:
        print_line(f"{'would be' if result['dry_run'] else 'done'}: {counted}")
    else:
        print_line(
            f"nothing would be imported: {result['refused']} refused; correct them, or import the others: --partial"
        )


@app.command(epilog="Example: voltstream station export --format ocpi --out locations.json")
def export(
    out: Annotated[str, typer.Option(help="the file; - for stdout")] = "-",
    format_: Annotated[ExchangeFormat, typer.Option("--format")] = ExchangeFormat.CSV,
    url: Url = None,
    token: OperatorToken = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Write all stations into a file, by their ids; `station import` reads it. OCPI leaves out stations and connectors
    without a fact that it requires."""
    with operators_api(load_settings(data_dir=data_dir), url, token) as api:
        pages = list(api.pages(f"{PATH}/export", {"format": format_}))
    if format_ is ExchangeFormat.CSV:
        header, _, first = pages[0].partition("\n")
        text = "\n".join((header, first + "".join(page.partition("\n")[2] for page in pages[1:])))
    else:
        text = json.dumps([one for page in pages for one in json.loads(page)], ensure_ascii=False) + "\n"
    if out == "-":
        sys.stdout.write(text)
        return
    try:
        Path(out).write_text(text, encoding="utf-8")
    except OSError as error:
        raise WrongUsage(f"{out}: {error.strerror}") from None
    if as_json:
        print_json({"file": out, "format": format_})
    else:
        print_line(f"written: {out}")


def _set(
    station: str,
    number: int | None,
    given: Mapping[str, Any],
    url: str | None,
    token: str | None,
    data_dir: Any,
    as_json: bool,
) -> None:
    """PUT what is known already with what is given: an empty text is a fact that is forgotten. Of a station, or of its
    connector of that number."""
    place = _place(station) if number is None else f"{_place(station)}/connectors/{number}"
    with operators_api(load_settings(data_dir=data_dir), url, token) as api:
        registered = api.find(_place(station)) or {}
        known = registered if number is None else _connector_of(registered, number)
        facts = {name: value for name, value in known.items() if name not in _OF_THE_ANSWER}
        facts |= {name: value for name, value in given.items() if value is not None}
        facts = {name: value for name, value in facts.items() if value not in (None, "")}
        changed = api.put(place, facts, version=registered["revision"] if known else None)
    _print(changed, as_json)


def _connector_of(station: Mapping[str, Any], number: int) -> Mapping[str, Any]:
    return next((one for one in station.get("connectors", ()) if one["connector_id"] == number), {})


def _print(found: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        if name == "connectors":
            for one in value:
                print_line(f"connector {one['connector_id']}: {_facts(one)}")
        elif value not in (None, []):
            print_line(f"{name}: {value}")


def _facts(connector: Mapping[str, Any]) -> str:
    known = {name: value for name, value in connector.items() if name not in _OF_THE_ANSWER and value not in (None, [])}
    return ", ".join(f"{name} {value}" for name, value in known.items()) or "nothing is known"


def _place(station: str) -> str:
    if not station.strip():
        raise WrongUsage("the station's id is empty: write it as its readings name it")
    if "/" in station:
        raise WrongUsage(f"{station}: {SLASH}")
    return f"{PATH}/{quote(station, safe='')}"
