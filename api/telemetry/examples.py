"""Examples of responses for OpenAPI. Tests validate them against the models."""

from typing import Any, Final

_LIVE: Final[dict[str, Any]] = {
    "station_id": "DE-VS-0001",
    "connector_id": 1,
    "ts": "2026-03-29T08:15:04.000Z",
    "received_at": "2026-03-29T08:15:04.213Z",
    "status": "Charging",
    "power_w": 10987.5,
    "voltage_v": 229.8,
    "current_a": 15.94,
    "temperature_c": 31.2,
    "soc_pct": 64.0,
    "energy_wh": 1204511.25,
    "energy_export_wh": None,
    "flags": [],
    "session": {
        "id": "7d4f0d0e-3f0c-5d5c-9c54-0f5f6a1f2b11",
        "session_id": "TX-4711",
        "started_at": "2026-03-29T07:41:00.000Z",
        "energy_wh": 6120.75,
        "energy_export_wh": 0.0,
        "estimated": False,
        "readings": 409,
    },
}

READINGS: Final[dict[str, Any]] = {
    "station_id": "DE-VS-0001",
    "interval": "raw",
    "from": "2026-03-29T08:00:00.000Z",
    "to": "2026-03-29T09:00:00.000Z",
    "rows": [
        {
            "connector_id": 1,
            "ts": "2026-03-29T08:15:04.000Z",
            "session": "7d4f0d0e-3f0c-5d5c-9c54-0f5f6a1f2b11",
            "session_id": "TX-4711",
            "boot": 3,
            "seq": 90125,
            "energy_wh": 1204511.25,
            "power_w": 10987.5,
            "voltage_v": 229.8,
            "current_a": 15.94,
            "temperature_c": 31.2,
            "soc_pct": 64.0,
            "status": "Charging",
            "session_event": "Updated",
            "flags": ["late"],
            "energy_export_wh": None,
            "in_session_wh": 45.781,
            "outside_wh": None,
            "rejected_wh": None,
            "extra": None,
        }
    ],
    "next": "/api/v1/telemetry/DE-VS-0001?interval=raw&from=2026-03-29T08%3A00%3A00.000Z"
    "&to=2026-03-29T09%3A00%3A00.000Z&cursor=laFyzwAF",
}

READINGS_CSV: Final = (
    "connector_id,ts,session,session_id,boot,seq,energy_wh,power_w,voltage_v,current_a,temperature_c,soc_pct,"
    "status,session_event,flags,energy_export_wh,in_session_wh,outside_wh,rejected_wh,extra\r\n"
    "1,2026-03-29T08:15:04.000Z,7d4f0d0e-3f0c-5d5c-9c54-0f5f6a1f2b11,TX-4711,3,90125,1204511.25,10987.5,229.8,15.94,"
    "31.2,64.0,Charging,Updated,late,,45.781,,,\r\n"
)

WINDOWS: Final[dict[str, Any]] = {
    "station_id": "DE-VS-0001",
    "interval": "1m",
    "from": "2026-03-29T08:00:00.000Z",
    "to": "2026-03-29T09:00:00.000Z",
    "rows": [
        {
            "connector_id": 1,
            "window_start": "2026-03-29T08:15:00.000Z",
            "readings": 12,
            "flagged": 1,
            "power_w_avg": 10985.333,
            "power_w_min": 10901.0,
            "power_w_max": 11020.5,
            "voltage_v_avg": 229.7,
            "voltage_v_min": 229.1,
            "voltage_v_max": 230.4,
            "current_a_avg": 15.9,
            "current_a_min": 15.8,
            "current_a_max": 16.0,
            "temperature_c_avg": 31.2,
            "temperature_c_min": 31.1,
            "temperature_c_max": 31.3,
            "soc_pct_avg": None,
            "soc_pct_min": None,
            "soc_pct_max": None,
            "energy_wh_first": 1204496.0,
            "energy_wh_last": 1204663.75,
            "energy_wh": 183.0,
            "in_session_wh": 183.0,
            "outside_wh": 0.0,
            "rejected_wh": 0.0,
            "energy_export_wh_first": None,
            "energy_export_wh_last": None,
            "energy_export_wh": None,
            "revision": 1,
        }
    ],
    "next": None,
}

LIVE_STATION: Final[dict[str, Any]] = {"station_id": "DE-VS-0001", "connectors": [_LIVE]}

LIVE_FLEET: Final[dict[str, Any]] = {
    "total": {
        "stations": 2,
        "connectors": 3,
        "by_status": {"Charging": 1, "Available": 2},
        "power_w": 10987.5,
    },
    "truncated": True,
    "silent": ["DE-VS-0404"],
    "connectors": [_LIVE],
}

STREAM: Final = (
    'id: 7\nevent: snapshot\ndata: {"connectors":[{"station_id":"DE-VS-0001","connector_id":1,"power_w":10987.5}]}\n\n'
    ": heartbeat\n\n"
    'id: 8\nevent: change\ndata: {"connectors":[{"station_id":"DE-VS-0001","connector_id":1,"power_w":0.0}]}\n\n'
)

_ENTRY: Final = {
    "accepted": 1000,
    "stored": 970,
    "duplicate": 20,
    "quarantined": 4,
    "replayed": 1,
    "in_windows": 960,
    "in_flight": 6,
    "closed": False,
}
LEDGER: Final[dict[str, Any]] = {"total": _ENTRY, "partitions": [{"partition": 0, **_ENTRY}]}

QUARANTINE: Final[dict[str, Any]] = {
    "items": [
        {
            "id": 17,
            "partition": 0,
            "received_at": "2026-03-29T08:15:04.213Z",
            "station_id": "DE-VS-0001",
            "connector_id": None,
            "reason": "absurd_value",
            "detail": "power_w is 1e99; a charger's is between -1e7 and 1e7",
            "raw": '{"station_id": "DE-VS-0001", "power_w": 1e99}',
            "raw_encoding": "utf-8",
            "replayed_at": None,
            "replayed_by": None,
            "replay_correlation_id": None,
        }
    ],
    "next": None,
}
QUARANTINED: Final[dict[str, Any]] = QUARANTINE["items"][0]
RELEASED: Final[dict[str, Any]] = {"station_id": "DE-VS-0001", "released": 5_000, "left": 211}

_ENERGY: Final[dict[str, Any]] = {
    "rise_wh": 43120.0,
    "in_sessions_wh": 43100.0,
    "outside_wh": 20.0,
    "rejected_wh": 0.0,
    "rejected_by_reason_wh": {"register_leapt": 0.0},
}
ENERGY: Final[dict[str, Any]] = {
    "station_id": "DE-VS-0001",
    "from": "2026-03-29T00:00:00Z",
    "to": "2026-03-30T00:00:00Z",
    "total": _ENERGY,
    "connectors": [_ENERGY | {"connector_id": 1}],
    "main_meter": None,
}

STATUS_INTERVALS: Final[dict[str, Any]] = {
    "station_id": "DE-VS-0001",
    "from": "2026-03-22T09:00:00Z",
    "to": "2026-03-29T09:00:00Z",
    "intervals": [
        {
            "connector_id": 1,
            "since": "2026-03-29T08:41:07Z",
            "until": None,
            "status": "Faulted",
            "error_code": "GroundFailure",
            "vendor_error_code": "0x1F",
        },
        {
            "connector_id": 1,
            "since": "2026-03-29T07:58:00Z",
            "until": "2026-03-29T08:41:07Z",
            "status": "Charging",
            "error_code": None,
            "vendor_error_code": None,
        },
    ],
    "next": None,
}

UPTIME: Final[dict[str, Any]] = {
    "station_id": "DE-VS-0001",
    "from": "2026-03-22T09:00:00Z",
    "to": "2026-03-29T09:00:00Z",
    "connectors": [
        {
            "connector_id": 1,
            "time_ms": {"Available": 561_600_000, "Charging": 42_067_000, "Faulted": 1_133_000},
            "up_ms": 603_667_000,
            "down_ms": 1_133_000,
            "unknown_ms": 0,
            "uptime_pct": "99.8126",
        }
    ],
}

UNCLAIMED: Final[dict[str, Any]] = {
    "stations": [
        {
            "station_id": "DE-VS-0909",
            "connectors": [1, 2],
            "first_reading_at": "2026-03-28T16:20:00Z",
            "last_reading_at": "2026-03-29T08:59:50Z",
            "readings_last_day": 11980,
            "last_quarantined_at": None,
        }
    ],
    "next": None,
}
