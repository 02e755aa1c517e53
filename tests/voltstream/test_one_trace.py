"""One trace from a charger's request to the invoice, seen by a collector; and the metrics of the same run."""

import time
from pathlib import Path
from typing import Any, Final

import pytest

from tests.otlp_receiver import OtlpReceiver, ReceivedSpan, otlp_receiver
from tests.private_servers import PrivateServers
from tests.proof.cluster import clear_brokers
from tests.voltstream.platform import ENOUGH_S, up
from tests.voltstream.shown_metrics import check_shown
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("processes")

TRACE, CLIENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
STATION: Final = "TRACE-1"
TARIFF: Final[dict[str, Any]] = {
    "currency": "EUR",
    "elements": [{"price_components": [{"type": "ENERGY", "price": 0.5, "vat": 19, "step_size": 1}]}],
}
# Each within the one before it, or beside it.
WAY: Final = (
    "POST /api/v1/telemetry",
    "frames publish",
    "streams.flush",
    "streams.commit",
    "session.completed publish",
    "billing_session_completed process",
    "invoice issue",
    "invoice.created publish",
    "notifications_invoice_created process",
)


@pytest.fixture(autouse=True)
def spans_sent_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")


async def test_one_trace_embedded_and_every_declared_metric(data_dir: Path) -> None:
    await _traced(data_dir, {}, WAY)


async def test_one_trace_distributed(data_dir: Path, database_url: str, running_servers: PrivateServers) -> None:
    """On empty brokers: a flush of frames of several traces is in none of them, and others' tests leave frames."""
    await clear_brokers(running_servers)
    await _traced(data_dir, running_servers.settings(database_url), (*WAY, "bridge"))


async def _traced(data_dir: Path, servers: dict[str, str], way: tuple[str, ...]) -> None:
    """Readings of a whole session in one request, with the trace that the charger is in."""
    settings = {"invoice_settle_s": "0", **servers}
    with otlp_receiver() as collector:
        with up(data_dir, "--no-simulator", otlp_endpoint=collector.url, **settings) as platform:
            version = {"target": {"default": True}, "time_zone": "Europe/Berlin", "tariff": TARIFF}
            assert platform.change("/api/v1/pricing", version).status_code == 201
            answer = platform.post(_session(), traceparent=f"00-{TRACE}-{CLIENT}-01")
            assert answer.status_code == 202, answer.text
            try:
                await eventually(lambda: _names(collector) >= set(way), ENOUGH_S)
            except AssertionError:
                raise AssertionError(f"missing: {set(way) - _names(collector)}\n{platform.log()}") from None
            if not servers:
                check_shown(platform.text("/metrics"))
            assert platform.stop()[0] == 0
        found = collector.of_trace(TRACE)
        _check_tree(found)
        processes = {span.process for span in found}
        assert len(processes) == (4 if servers else 1), processes


def _names(collector: OtlpReceiver) -> set[str]:
    return {span.name for span in collector.of_trace(TRACE)}


def _check_tree(spans: list[ReceivedSpan]) -> None:
    """Every span is within another of the trace, up to the charger's own."""
    known = {span.span_id: span for span in spans}
    roots = [span for span in spans if span.parent_id not in known]
    assert [(span.name, span.parent_id) for span in roots] == [(WAY[0], CLIENT)]
    (invoice,) = [span for span in spans if span.name == "invoice issue"]
    above, names = known.get(invoice.parent_id), []
    while above is not None:
        names.append(above.name)
        above = known.get(above.parent_id)
    assert names == ["billing_session_completed process", "streams.flush", "frames publish", WAY[0]]


def _session() -> list[dict[str, Any]]:
    """It begins now, when the tariff is valid."""
    start_ms = int(time.time() * 1_000)

    def reading(seq: int, status: str) -> dict[str, Any]:
        now = {"ts": start_ms + seq * 1_000, "boot": 1, "seq": seq, "energy_wh": 1_000 + 36 * seq, "status": status}
        return {"station_id": STATION, "connector_id": 1, **now}

    return [reading(0, "Available"), *(reading(seq, "Charging") for seq in range(1, 6)), reading(6, "Available")]
