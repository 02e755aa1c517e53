"""Examples of requests and responses for OpenAPI. Tests validate them against the models."""

from typing import Any, Final

from api.reporting.reports.kinds import FACTS, ReportKind

NEW: Final[dict[str, Any]] = {"kind": "uptime", "from": "2026-01-01", "to": "2026-04-01"}
QUARTER: Final[dict[str, Any]] = {
    "kind": "quarterly",
    "from": "2026-01-01",
    "to": "2026-04-01",
    "stations": ["DE-VS-0001"],
    "formats": ["csv", "pdf"],
}
OPERATIONS: Final[dict[str, Any]] = {"kind": "operations", "from": "2026-03-01", "to": "2026-04-01", "group": "site"}
QUEUED: Final[dict[str, Any]] = {
    "id": "5b0c1f3a-9d0e-4a66-8f7e-3a1c55f0b7de",
    "kind": "uptime",
    "title": FACTS[ReportKind.UPTIME].title,
    "definition": FACTS[ReportKind.UPTIME].definition,
    "sources": list(FACTS[ReportKind.UPTIME].sources),
    "state": "queued",
    "reason": None,
    "from": "2026-01-01T00:00:00Z",
    "to": "2026-04-01T00:00:00Z",
    "group": "station",
    "stations": None,
    "formats": ["csv", "parquet", "pdf"],
    "requested_at": "2026-04-02T08:00:00Z",
    "requested_by": "operator/6f1d2f0e-8a3f-4f0e-9c1e-2b6f6f1f7d11",
    "computed_at": None,
    "tables": None,
}
DONE: Final[dict[str, Any]] = {
    **QUEUED,
    "state": "done",
    "computed_at": "2026-04-02T08:00:01Z",
    "tables": [
        {
            "name": "uptime",
            "title": "Uptime by port and month",
            "description": "",
            "rows": 6,
            "columns": [
                {"name": "station_id", "type": "text", "description": ""},
                {"name": "connector_id", "type": "integer", "description": ""},
                {"name": "month", "type": "text", "description": "UTC"},
                {"name": "uptime_pct", "type": "thousandths", "description": ""},
            ],
        }
    ],
}
PAGE: Final[dict[str, Any]] = {"reports": [DONE], "next": None}
CSV: Final = (
    "# Report: Uptime of charging ports\r\n"
    "station_id,connector_id,month,outage_min,excluded_min,uptime_pct,above_97_pct\r\n"
    "DE-VS-0001,1,2026-01,812.500,510.000,99.942,true\r\n"
)
