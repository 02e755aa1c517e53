"""Laws of load mode: every reading valid and unique, and what it calls acknowledged was acknowledged."""

import asyncio
import json
from itertools import islice

import numpy as np
import pytest

from ingest.admission import AdmissionRules, admit_arrow, admit_json, admit_ndjson
from kit.clock import ManualClock, SystemClock
from kit.errors import ConfigError
from simulator.encode import Format
from simulator.errors import Rejected
from simulator.load.bodies import LoadSpec, bodies
from simulator.load.load import Load
from tests.simulator.fleets import admitted_columns
from tests.simulator.http_sink import LOST, Sink, serving


def a_spec(url: str = "http://127.0.0.1:1", **more: object) -> LoadSpec:
    return LoadSpec(**{"url": url, "token": "vsd_x", "duration_s": 0.3, "stations": 50, **more})  # type: ignore[arg-type]  # named fields


@pytest.mark.parametrize("form", list(Format))
@pytest.mark.parametrize("batch", [1, 7, 100, 1_500])
def test_every_reading_is_valid_unique_and_of_now(form: Format, batch: int) -> None:
    clock = ManualClock()
    rules = AdmissionRules(now_ms=clock.now_ms(), age_ms_max=0, future_ms_max=0, readings_max=100_000)
    admit = {Format.JSON: admit_json, Format.NDJSON: admit_ndjson, Format.ARROW: admit_arrow}[form]
    seen: set[tuple[object, ...]] = set()
    count = max(3, 600 // batch)
    for body in islice(bodies(a_spec(batch=batch, form=form), clock), count):
        answer = admit(body, rules)
        assert answer.refused == []
        assert answer.accepted == batch
        rows = admitted_columns(answer)
        columns = [rows[name].to_pylist() for name in ("station_id", "connector_id", "boot", "seq")]
        seen |= set(zip(*columns, strict=True))
    assert len(seen) == count * batch


def test_registers_only_grow_and_seq_has_no_hole() -> None:
    rows = [row for body in islice(bodies(a_spec(), ManualClock()), 30) for row in json.loads(body)]
    assert len(rows) == 3_000
    for connector in {(row["station_id"], row["connector_id"]) for row in rows}:
        own = [row for row in rows if (row["station_id"], row["connector_id"]) == connector]
        assert set(np.diff([row["seq"] for row in own])) == {1}
        assert (np.diff([row["energy_wh"] for row in own]) > 0).all()


@pytest.mark.parametrize("batch", [1, 100])
async def test_acknowledged_is_what_the_server_acknowledged(batch: int) -> None:
    async with serving(Sink()) as sink:
        report = await Load(a_spec(sink.url, batch=batch), SystemClock()).run()
        acknowledged = sink.acknowledged()
    assert report.requests == len(acknowledged) == len(set(acknowledged))
    assert report.acknowledged == report.sent == batch * len(acknowledged)
    assert sink.headers[0]["authorization"] == "Bearer vsd_x"
    assert report.summary()["unacknowledged"] == 0


async def test_nothing_is_left_out_when_answers_fail_and_connections_break() -> None:
    async with serving(Sink(script=[202, 503, LOST, 202, 503, LOST, LOST, 429] * 3)) as sink:
        report = await Load(a_spec(sink.url, pipeline=3, duration_s=0.5), SystemClock()).run()
        acknowledged, every = sink.acknowledged(), set(sink.bodies)
    assert set(acknowledged) == every
    assert report.acknowledged == report.sent == 100 * len(every)
    assert report.retried > 0


async def test_rate_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that only naps move: what a machine that stands still is late with at the end is left out."""
    clock, turn = ManualClock(), asyncio.sleep

    async def nap(seconds: float) -> None:
        until_s = clock.monotonic_s() + seconds
        await turn(0)
        clock.advance(max(0.0, until_s - clock.monotonic_s()))

    monkeypatch.setattr("simulator.load.load.asyncio.sleep", nap)
    async with serving(Sink()) as sink:
        report = await Load(a_spec(sink.url, rate=5_000.0, duration_s=0.5), clock).run()
    assert report.sent == 2_500
    assert clock.monotonic_s() == pytest.approx(0.48)  # when the last of 25 requests is due


async def test_a_refusal_ends_the_run() -> None:
    async with serving(Sink(script=[401])) as sink:
        with pytest.raises(Rejected, match="401"):
            await Load(a_spec(sink.url), SystemClock()).run()


def test_load_speaks_plain_http_only() -> None:
    with pytest.raises(ConfigError, match="http://"):
        Load(a_spec("https://example.org"), ManualClock())
