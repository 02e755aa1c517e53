"""Reports are what a count written apart gives, the same in every format and in either store of documents."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any
from uuid import UUID, uuid4

import msgspec
import numpy as np
import psycopg
import pytest
from pyarrow import parquet
from pypdf import PdfReader
from structlog.testing import capture_logs

from api.reporting.reports import computing, examples, service
from api.reporting.reports.models import NewReport, Report, ReportPage
from api.reporting.reports.worker import ATTEMPTS_MAX, LEASE
from kit.errors import Unavailable
from schemas.events import Event, ReportGenerated
from schemas.reading import Status
from tests.api.reporting.reports_app import Reporting, running_reporting
from tests.waiting import eventually

PATH = "/api/v1/reports"
MINUTE = timedelta(minutes=1)
UP = [Status.AVAILABLE, Status.PREPARING, Status.CHARGING, Status.SUSPENDED_EV, Status.SUSPENDED_EVSE]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.server) for name in ("postgresql", "mongodb")])
async def reporting(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Reporting]:
    """With its documents in either store."""
    settings: dict[str, Any] = {}
    if request.param == "mongodb":
        settings["mongodb_url"] = f"{request.getfixturevalue('mongodb_url')}_{uuid4().hex[:12]}"
    async with running_reporting(database_url, **settings) as running:
        yield running


@pytest.fixture
async def plain(database_url: str) -> AsyncIterator[Reporting]:
    """With its documents in PostgreSQL."""
    async with running_reporting(database_url) as running:
        yield running


async def exclude(reporting: Reporting, start: datetime, end: datetime, **more: Any) -> Any:
    new = {"station_id": "ST-1", "from": start.isoformat(), "to": end.isoformat(), "reason": "vandalism", "note": "T-1"}
    return await reporting.ask("POST", "/api/v1/uptime/exclusions", 201, json={**new, **more})


async def test_uptime_is_what_a_count_of_minutes_gives(reporting: Reporting, seed: int) -> None:
    """A year of two ports of two stations: one registered midway, one removed midway; silences, exclusions, gaps."""
    rng = random.Random(seed)
    start, end = at("2025-04-01"), at("2026-04-01")
    ports = {("ST-1", 1): (at("2024-01-01"), end), ("ST-2", 1): (at("2025-07-10T11:07"), at("2026-01-20T03:01"))}
    minutes = int((end - start) / MINUTE)
    expected = {}
    for revision, ((station_id, number), (since, until)) in enumerate(ports.items(), 1):
        await reporting.register(station_id, number, at=since)
        if until < end:
            await reporting.register(station_id, at=until, revision=revision + 1)
        key = reporting.connector(station_id, number)
        up = np.zeros(minutes, bool)
        changes = sorted(rng.sample(range(-5_000, minutes), 300))
        stated = [(one, rng.choice([*UP, Status.UNAVAILABLE, Status.FAULTED])) for one in changes]
        reporting.statuses(key, ((start + minute * MINUTE, status) for minute, status in stated))
        for place, (minute, status) in enumerate(stated):
            following = changes[place + 1] if place + 1 < len(changes) else minutes
            up[max(minute, 0) : max(following, 0)] = status in UP
        for minute in range(1_000, minutes - 20_000, 20_000):  # silences of a station never overlap
            minute, length = minute + rng.randrange(5_000), rng.randrange(1, 3_000)
            up[minute : minute + length] = False
            reporting.silence(station_id, start + minute * MINUTE, start + (minute + length) * MINUTE)
        excluded = np.zeros(minutes, bool)
        for minute in rng.sample(range(-2_000, minutes - 1), 10):
            length = rng.randrange(1, 20_000)
            times = (start + minute * MINUTE, start + (minute + length) * MINUTE)
            await exclude(reporting, *times, station_id=station_id, connector_id=rng.choice([None, number]))
            excluded[max(minute, 0) : max(minute + length, 0)] = True
        in_service = np.zeros(minutes, bool)
        in_service[max(int((since - start) / MINUTE), 0) : int((until - start) / MINUTE)] = True
        expected[station_id] = (in_service, in_service & ~up, in_service & ~up & excluded)
    made = await reporting.report(kind="uptime", **{"from": "2026-03-01", "to": "2026-04-01"})
    assert made["state"] == "done", made
    rows = await reporting.csv(made, "uptime")
    assert [row["station_id"] for row in rows] == ["ST-1", "ST-2"]
    for row in rows:
        in_service_min, outage, excluded_min = (int(values.sum()) for values in expected[row["station_id"]])
        assert row["month"] == "2026-03"
        assert row["service_min"] == f"{in_service_min}.000"
        assert row["outage_min"] == f"{outage}.000"
        assert row["excluded_min"] == f"{excluded_min}.000"
        mpct = (525_600 - (outage - excluded_min)) * 100_000 // 525_600
        assert row["uptime_pct"] == f"{mpct // 1_000}.{mpct % 1_000:03d}"
        assert row["above_97_pct"] == str((525_600 - outage + excluded_min) * 100 > 97 * 525_600).lower()
        march = slice(int((at("2026-03-01") - start) / MINUTE), None)
        own = [int(values[march].sum()) for values in expected[row["station_id"]][1:]]
        assert [row["month_outage_min"], row["month_excluded_min"]] == [f"{minutes}.000" for minutes in own]


async def a_quarter(reporting: Reporting) -> None:
    """Two ports: one with sessions, a fault and an excluded outage, one that was never heard."""
    await reporting.register("ST-1", 1, 2, at=at("2025-12-01"))
    key = reporting.connector("ST-1", 1)
    reporting.status(key, at("2025-12-01"), Status.AVAILABLE)
    reporting.status(key, at("2026-02-03T10:00"), Status.CHARGING)
    reporting.status(key, at("2026-02-03T10:30"), Status.FAULTED, "GroundFailure")
    reporting.status(key, at("2026-02-03T14:30"), Status.AVAILABLE)
    await exclude(reporting, at("2026-02-03T12:00"), at("2026-02-03T13:00"), connector_id=1)
    reporting.session(key, at("2026-01-31T23:50"), 30, 12.5)  # ends in February
    reporting.session(key, at("2026-02-03T10:00"), 30, 8.25)  # ended by the fault
    reporting.session(key, at("2026-03-01T08:00"), 5, 0.05)  # next to nothing
    reporting.session(key, at("2025-12-31T23:00"), 30, 5)  # of the quarter before
    reporting.window(key, at("2026-02-03T10:12"), 49_500)


QUARTER = {"kind": "quarterly", "from": "2026-01-01", "to": "2026-04-01"}


async def test_a_quarter_lists_sessions_uptime_and_outages(reporting: Reporting) -> None:
    await a_quarter(reporting)
    made = await reporting.report(**QUARTER)
    assert made["state"] == "done", made
    assert [table["name"] for table in made["tables"]] == [
        "sessions", "uptime", "outages", "exclusions", "success", "fields",
    ]  # fmt: skip
    sessions = await reporting.csv(made, "sessions")
    told = [(row["ended_at"][:16], row["energy_kwh"], row["successful"], row["error_codes"]) for row in sessions]
    assert told == [
        ("2026-02-01T00:20", "12.500", "true", ""),
        ("2026-02-03T10:30", "8.250", "false", "GroundFailure"),
        ("2026-03-01T08:05", "0.050", "false", ""),
    ]
    assert [row["peak_power_kw"] for row in sessions] == ["", "49.500", ""]
    assert {row["payment_method"] for row in sessions} == {""}
    outages = await reporting.csv(made, "outages")
    assert [(row["connector_id"], row["duration_min"], row["excluded_min"], row["to"][:16]) for row in outages] == [
        ("1", "240.000", "60.000", "2026-02-03T14:30"),
        ("2", f"{90 * 1_440}.000", "0.000", ""),
    ]
    uptime = [row for row in await reporting.csv(made, "uptime") if row["connector_id"] == "1"]
    assert [(row["month"], row["outage_min"], row["excluded_min"]) for row in uptime] == [
        ("2026-01", "0.000", "0.000"),
        ("2026-02", "240.000", "60.000"),
        ("2026-03", "240.000", "60.000"),
    ]
    assert [row["success_rate_pct"] for row in await reporting.csv(made, "success")] == ["33.333"]
    (exclusion,) = await reporting.csv(made, "exclusions")
    assert (exclusion["reason"], exclusion["excluded_min"], exclusion["note"]) == ("vandalism", "60.000", "T-1")
    fields = (await reporting.answer("GET", f"{PATH}/{made['id']}?format=csv&table=fields")).text
    assert "MISSING: voltstream does not record how a driver identified or paid" in fields


async def test_a_report_is_the_same_in_every_format(reporting: Reporting) -> None:
    await a_quarter(reporting)
    made = await reporting.report(**QUARTER)
    address = f"{PATH}/{made['id']}"
    for media_type, name in (
        ("text/csv", "csv"),
        ("application/vnd.apache.parquet", "parquet"),
        ("application/pdf", "pdf"),
    ):
        by_accept = await reporting.answer("GET", address, headers={"Accept": media_type})
        by_name = await reporting.answer("GET", f"{address}?format={name}")
        assert by_accept.content == by_name.content
        assert by_accept.headers["content-type"].startswith(media_type)
        assert f"2026-04-01{'' if name == 'pdf' else '-sessions'}.{name}" in by_accept.headers["content-disposition"]
    rows = await reporting.csv(made, "outages")
    file = parquet.read_table(
        BytesIO((await reporting.answer("GET", f"{address}?format=parquet&table=outages")).content)
    )
    assert [f"{row['duration_min']}" for row in file.to_pylist()] == [row["duration_min"] for row in rows]
    assert [row["from"].isoformat(timespec="milliseconds")[:-6] + "Z" for row in file.to_pylist()] == [
        row["from"] for row in rows
    ]
    assert file.schema.metadata[b"Computed at"] == b"2026-04-02T08:00:00.000Z"
    pages = PdfReader(BytesIO((await reporting.answer("GET", f"{address}?format=pdf")).content)).pages
    text = "\n".join(page.extract_text() for page in pages)
    for expected in (
        "Computed at",
        "2026-04-02T08:00:00.000Z",
        "telemetry.status_intervals",
        "240.000",
        "49.500",
        "33.333",
    ):
        assert expected in text


async def test_operations_and_revenue_say_from_what_they_are(plain: Reporting) -> None:
    await a_quarter(plain)
    for kind, tables in (
        ("operations", ["operations", "availability", "sources"]),
        ("revenue", ["revenue", "revenue_by_time", "sources"]),
    ):
        made = await plain.report(kind=kind, group="station", **{"from": "2026-02-01", "to": "2026-03-01"})
        assert made["state"] == "done", made
        assert [table["name"] for table in made["tables"]] == tables
        await plain.answer("GET", f"{PATH}/{made['id']}?format=pdf")
        assert (await plain.csv(made, "sources"))[0]["metric"]
    made = await plain.report(kind="operations", **{"from": "2026-02-03", "to": "2026-02-04"})
    (row,) = await plain.csv(made, "availability")
    assert (row["station_id"], row["ports"], row["service_min"]) == ("ST-1", "2", "2880.000")
    assert (row["outage_min"], row["excluded_min"]) == (f"{240 + 1_440}.000", "60.000")


async def test_a_report_has_one_mean_time_to_repair_and_an_outage_from_before_it_counts_whole(plain: Reporting) -> None:
    await a_quarter(plain)
    key = plain.connector("ST-2", 1)
    await plain.register("ST-2", 1, at=at("2025-12-01"))
    plain.status(key, at("2025-12-01"), Status.AVAILABLE)
    plain.status(key, at("2026-02-01T22:00"), Status.FAULTED)
    plain.status(key, at("2026-02-03T01:00"), Status.AVAILABLE)
    await plain.service.components.rollups.run()
    made = await plain.report(kind="operations", group="station", **{"from": "2026-02-03", "to": "2026-02-04"})
    operations, availability = [await plain.csv(made, name) for name in ("operations", "availability")]
    figures = {row["station_id"]: (row["repairs"], row["repair_min_mean"]) for row in availability}
    assert figures == {"ST-1": ("1", "180.000"), "ST-2": ("1", f"{27 * 60}.000")}
    assert {row["group"]: row["repair_min_mean"] for row in operations} == {
        station: mean for station, (_, mean) in figures.items()
    }
    assert {row["station_id"]: row["outage_min"] for row in availability}["ST-2"] == "60.000"
    by_site = await plain.report(kind="operations", group="site", **{"from": "2026-02-03", "to": "2026-02-04"})
    assert await plain.csv(by_site, "availability") == availability


async def test_a_report_is_announced_once_it_can_be_fetched(plain: Reporting) -> None:
    made = await plain.report(kind="uptime", **{"from": "2026-01-01", "to": "2026-02-01"})
    with psycopg.connect(plain.url) as connection:
        bodies = connection.execute(
            "SELECT body FROM reporting.outbox WHERE routing_key = 'report.generated'"
        ).fetchall()
    (event,) = [msgspec.json.decode(body, type=Event[ReportGenerated]) for (body,) in bodies]
    assert event.payload.report_id == UUID(made["id"])
    assert event.payload.rows == {"uptime": 0, "exclusions": 0, "repairs": 0}
    assert (event.payload.from_moment, event.payload.kind) == ("2026-01-01T00:00:00.000Z", "uptime")


async def test_a_report_that_is_not_done_has_no_file(plain: Reporting) -> None:
    made = await plain.ask("POST", PATH, 202, json={"kind": "uptime", "from": "2026-01-01", "to": "2026-02-01"})
    assert (made["state"], made["tables"]) == ("queued", None)
    problem = await plain.ask("GET", f"{PATH}/{made['id']}?format=csv", 409)
    assert "queued" in problem["detail"]
    await plain.service.components.report_worker.make_waiting()
    assert (await plain.ask("GET", f"{PATH}/{made['id']}?table=nonesuch&format=csv", 404))["detail"].endswith(
        "it has uptime, exclusions, repairs"
    )
    await plain.answer("GET", f"{PATH}/{made['id']}", 406, headers={"Accept": "text/html"})
    await plain.answer("GET", f"{PATH}/{uuid4()}", 404)
    await plain.answer("GET", f"{PATH}/{made['id']}?format=pdf", headers={"Accept": "text/html"})


async def test_a_report_that_is_too_large_fails_with_the_reason(
    plain: Reporting, monkeypatch: pytest.MonkeyPatch
) -> None:
    await a_quarter(plain)
    monkeypatch.setattr(computing, "ROWS_MAX", 2)
    made = await plain.report(**QUARTER)
    assert made["state"] == "failed"
    assert "more than 2 rows: ask for less time" in made["reason"]
    assert "more than 2 rows" in (await plain.ask("GET", f"{PATH}/{made['id']}?format=csv", 409))["detail"]


async def test_an_error_of_one_report_keeps_no_other_from_being_made(
    plain: Reporting, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise KeyError("oh")

    monkeypatch.setattr(computing.ReportComputation, "_revenue", broken)
    first = await plain.ask("POST", PATH, 202, json={"kind": "revenue", "from": "2026-02-01", "to": "2026-02-02"})
    second = await plain.report(kind="uptime", **{"from": "2026-01-01", "to": "2026-02-01"})
    assert second["state"] == "done"
    failed = await plain.ask("GET", f"{PATH}/{first['id']}")
    assert (failed["state"], failed["reason"]) == ("failed", "an error of voltstream's own: KeyError")


async def test_an_outage_makes_a_report_wait_and_a_crash_makes_it_begin_anew(
    plain: Reporting, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, content = plain.service.components.report_worker, computing.ReportComputation
    real = content.tables

    async def away(*_: object) -> Any:
        raise Unavailable("it is away")

    monkeypatch.setattr(content, "tables", away)
    made = await plain.ask("POST", PATH, 202, json={"kind": "uptime", "from": "2026-01-01", "to": "2026-02-01"})
    for _ in range(ATTEMPTS_MAX + 1):  # however often: it is no fault of the report's
        with pytest.raises(Unavailable):
            await worker.make_waiting()
    assert (await plain.ask("GET", f"{PATH}/{made['id']}"))["state"] == "queued"
    # A process claims it and dies: until its lease is over nobody else begins.
    assert await worker._store.claim(plain.clock.now(), LEASE) is not None
    monkeypatch.setattr(content, "tables", real)
    await worker.make_waiting()
    assert (await plain.ask("GET", f"{PATH}/{made['id']}"))["state"] == "running"
    plain.clock.advance(LEASE.total_seconds() + 1)
    await worker.make_waiting()
    assert (await plain.ask("GET", f"{PATH}/{made['id']}"))["state"] == "done"


async def test_a_report_whose_process_dies_each_time_is_given_up(plain: Reporting) -> None:
    worker = plain.service.components.report_worker
    made = await plain.ask("POST", PATH, 202, json={"kind": "uptime", "from": "2026-01-01", "to": "2026-02-01"})
    for _ in range(ATTEMPTS_MAX):
        assert await worker._store.claim(plain.clock.now(), LEASE) is not None
        plain.clock.advance(LEASE.total_seconds() + 1)
    await worker.make_waiting()
    failed = await plain.ask("GET", f"{PATH}/{made['id']}")
    assert (failed["state"], failed["reason"]) == ("failed", f"gave up after {ATTEMPTS_MAX} attempts")


async def test_old_reports_go_with_their_content(reporting: Reporting) -> None:
    await a_quarter(reporting)
    old = await reporting.report(**QUARTER)
    reporting.clock.advance(399 * 86_400)
    new = await reporting.report(**QUARTER)
    reporting.clock.advance(2 * 86_400)
    worker, documents = reporting.service.components.report_worker, reporting.service.components.documents
    await worker.delete_old()
    await reporting.answer("GET", f"{PATH}/{old['id']}", 404)
    assert len(await reporting.csv(new, "sessions")) == 3
    left = await documents.scan("reports")
    assert {key.partition("/")[0] for key, _ in left} == {new["id"]}


async def test_reports_are_bounded_in_number(plain: Reporting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "WAITING_MAX", 2)
    new = {"kind": "uptime", "from": "2026-01-01", "to": "2026-02-01"}
    for status in (202, 202, 503):
        answer = await plain.answer("POST", PATH, status, json=new)
    assert int(answer.headers["retry-after"]) > 0


async def test_pages_of_reports_are_the_whole_list(plain: Reporting) -> None:
    made = []
    for _ in range(5):
        plain.clock.advance(1)
        made.append((await plain.report(kind="uptime", **{"from": "2026-01-01", "to": "2026-02-01"}))["id"])
    found, address = [], f"{PATH}?limit=2"
    while address:
        page = await plain.ask("GET", address)
        found += [one["id"] for one in page["reports"]]
        address = page["next"]
    assert found == made[::-1]
    assert (await plain.ask("GET", f"{PATH}?state=queued"))["reports"] == []
    assert len((await plain.ask("GET", f"{PATH}?kind=uptime&state=done"))["reports"]) == 5


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"kind": "uptime", "from": "2026-01-02", "to": "2026-02-01"}, "whole months"),
    ({"kind": "uptime", "from": "2026-04-01", "to": "2026-05-01"}, "in the future"),
    ({"kind": "revenue", "from": "2023-01-01", "to": "2026-02-01"}, "at most 24 months"),
    ({"kind": "uptime", "from": "2024-01-01", "to": "2024-02-01"}, "kept are those since 2023-04-02"),
    ({"kind": "quarterly", "from": "2026-01-01", "to": "2026-02-01"}, "three months, not 1"),
    ({"kind": "operations", "from": "2026-01-01", "to": "2026-03-03"}, "at most 31 days"),
    ({"kind": "operations", "from": "2026-01-01T01:00:00Z", "to": "2026-01-03"}, "whole days"),
    ({"kind": "uptime", "from": "2026-02-01", "to": "2026-01-01"}, "before to"),
    ({"kind": "uptime", "from": "2026-01-01", "to": "2026-02-01", "group": "site"}, "group other than station"),
    ({"kind": "uptime", "from": "2026-01-01", "to": "2026-02-01", "formats": []}, "formats"),
    ({"kind": "weather", "from": "2026-01-01", "to": "2026-02-01"}, "kind"),
]


async def test_what_cannot_be_reported_is_refused_with_the_mend(plain: Reporting) -> None:
    for new, why in REFUSED:
        assert why in (await plain.answer("POST", PATH, 422, json=new)).text


async def test_no_device_may_ask(plain: Reporting) -> None:
    await plain.answer("GET", PATH, 403, who="device")
    await plain.answer("POST", PATH, 403, who="device", json=examples.NEW)
    await plain.answer("POST", PATH, 202, who="finance", json=examples.NEW)
    await plain.answer("POST", "/api/v1/uptime/exclusions", 403, who="finance", json={})


def test_examples_are_what_the_models_say() -> None:
    for new in (examples.NEW, examples.QUARTER, examples.OPERATIONS):
        NewReport.model_validate(new)
    for one in (examples.QUEUED, examples.DONE):
        Report.model_validate(one)
    ReportPage.model_validate(examples.PAGE)


async def test_a_process_that_ends_gives_its_report_back(plain: Reporting, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job begins it beside the service's other jobs, and begins no second one meanwhile."""
    begun: list[int] = []
    running = asyncio.Event()

    async def endless(*_: object) -> Any:
        begun.append(1)
        running.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(computing.ReportComputation, "tables", endless)
    made = await plain.ask("POST", PATH, 202, json={"kind": "uptime", "from": "2026-01-01", "to": "2026-02-01"})
    worker = plain.service.components.report_worker
    await worker.begin()
    await asyncio.wait_for(running.wait(), 30)
    await worker.begin()
    assert (await plain.ask("GET", f"{PATH}/{made['id']}"))["state"] == "running"
    await worker.close()
    assert (await plain.ask("GET", f"{PATH}/{made['id']}"))["state"] == "queued"
    assert begun == [1]


async def test_an_error_beside_the_jobs_is_logged_and_the_next_run_goes_on(
    plain: Reporting, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = plain.service.components.report_worker
    claim = worker._store.claim

    async def broken(*_: object) -> Any:
        raise KeyError("no such thing")

    monkeypatch.setattr(worker._store, "claim", broken)
    with capture_logs() as logs:
        await worker.begin()
        await eventually(lambda: bool(logs))
    assert [(one["event"], one["log_level"]) for one in logs] == [("reports_postponed", "error")]
    monkeypatch.setattr(worker._store, "claim", claim)
    made = await plain.report(kind="uptime", **{"from": "2026-01-01", "to": "2026-02-01"})
    assert made["state"] == "done"


async def test_a_file_whose_content_is_away_is_a_503_and_not_half_a_file(
    plain: Reporting, monkeypatch: pytest.MonkeyPatch
) -> None:
    await a_quarter(plain)
    made = await plain.report(**QUARTER)

    async def away(*_: object) -> Any:
        raise Unavailable("MongoDB does not answer")

    monkeypatch.setattr(plain.service.components.documents, "scan", away)
    for name in ("csv", "parquet", "pdf"):
        await plain.answer("GET", f"{PATH}/{made['id']}?format={name}", 503)


async def test_text_is_no_formula_to_a_spreadsheet(plain: Reporting) -> None:
    await plain.register("ST-1", 1, at=at("2025-12-01"))
    await exclude(plain, at("2026-01-05"), at("2026-01-06"), note="=HYPERLINK(1)")
    made = await plain.report(kind="uptime", **{"from": "2026-01-01", "to": "2026-02-01"})
    assert [row["note"] for row in await plain.csv(made, "exclusions")] == ["'=HYPERLINK(1)"]


async def test_revisions_of_the_registry_may_come_in_any_order(plain: Reporting) -> None:
    """Removed and registered again: in service in between it was not."""
    await plain.register("ST-1", at=at("2026-01-11"), revision=2)
    await plain.register("ST-1", 1, 2, at=at("2026-01-21"), revision=3)
    await plain.register("ST-1", 0, 1, at=at("2026-01-01"), revision=1)  # 0: its main meter, which is no port
    made = await plain.report(kind="uptime", **{"from": "2026-01-01", "to": "2026-02-01"})
    rows = await plain.csv(made, "uptime")
    assert [(row["connector_id"], row["outage_min"]) for row in rows] == [
        ("1", f"{21 * 1_440}.000"),
        ("2", f"{11 * 1_440}.000"),
    ]


async def test_stations_from_before_the_service_are_in_service_since_their_first_status(plain: Reporting) -> None:
    for station_id in ("OLD-1", "NEW-1"):
        plain.execute("INSERT INTO stations.station (station_id, changed_at) VALUES (%s, now())", station_id)
        connectors = "INSERT INTO stations.connector (station_id, connector_id, changed_at) VALUES (%s, %s, now())"
        for number in (0, 1):  # 0: its main meter
            plain.execute(connectors, station_id, number)
        await plain.service.components.uptime.seed()  # once: of NEW-1 the event will come
    key = plain.connector("OLD-1", 1)
    plain.status(key, at("2026-01-11"), Status.FAULTED)
    plain.status(key, at("2026-01-12"), Status.AVAILABLE)
    plain.execute("UPDATE reporting.registration SET connectors = '{1,2}'")  # connector 2 never spoke
    made = await plain.report(kind="uptime", **{"from": "2026-01-01", "to": "2026-02-01"})
    (row,) = await plain.csv(made, "uptime")
    assert (row["station_id"], row["service_min"], row["outage_min"]) == ("OLD-1", f"{21 * 1_440}.000", "1440.000")
