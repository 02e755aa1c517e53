"""Examples of the answers for OpenAPI. Tests hold them to the models."""

from typing import Any, Final

INVOICE: Final[dict[str, Any]] = {
    "id": "4f1c2b7e-9a58-4a53-b1f0-7b0d5f3c6e21",
    "number": "2026-0000017",
    "kind": "invoice",
    "status": "open",
    "version": 1,
    "session_id": "7d4f0d0e-3f0c-5d5c-9c54-0f5f6a1f2b11",
    "reservation_id": None,
    "driver_id": "driver-42",
    "station_id": "DE-VS-0001",
    "currency": "EUR",
    "total_excl_vat": "2.163206",
    "total_incl_vat": "2.571279",
    "payable_excl_vat": "2.16",
    "payable": "2.57",
    "rounding": "payable: the total, once, half up to 0.01 EUR",
    "credits": None,
    "replaces": None,
    "reason": "",
    "issued_at": "2026-03-29T09:12:34Z",
}
_LINES: Final[list[dict[str, Any]]] = [
    {
        "dimension": "ENERGY",
        "element": 0,
        "volume": "5.044000",
        "unit": "kWh",
        "quantity": 5_044_000,
        "quantity_unit": "mWh",
        "quantity_added_by_step": 617,
        "price": "0.3456",
        "vat_pct": "21",
        "amount_excl_vat": "1.743206",
        "vat": "0.366073",
        "amount_incl_vat": "2.109279",
    },
    {
        "dimension": "TIME",
        "element": 0,
        "volume": "0.350000",
        "unit": "h",
        "quantity": 1_260_000,
        "quantity_unit": "ms",
        "quantity_added_by_step": 5_167,
        "price": "1.2",
        "vat_pct": "10",
        "amount_excl_vat": "0.420000",
        "vat": "0.042000",
        "amount_incl_vat": "0.462000",
    },
]
PAGE: Final[dict[str, Any]] = {"invoices": [INVOICE], "next": None}
DETAIL: Final[dict[str, Any]] = {
    **INVOICE,
    "lines": _LINES,
    "charge": {
        "cdr_id": "e13894ec-18be-4046-a9e8-4bdfc8e16baf",
        "started_at": "2026-03-29T07:41:00Z",
        "ended_at": "2026-03-29T09:12:30Z",
        "end_reason": "ended",
        "connector_id": 1,
        "device_session_id": "TX-4711",
        "energy_kwh": "5.043383",
        "estimated": False,
        "revision": 1,
        "tariff_version": "11111111-1111-4111-8111-111111111111",
        "time_zone": "Europe/Berlin",
    },
    "payments": [],
}
EXPLANATION: Final[dict[str, Any]] = {
    "invoice_id": INVOICE["id"],
    "number": INVOICE["number"],
    "kind": "invoice",
    "status": "open",
    "remark": "",
    "credits": None,
    "credited_by": None,
    "superseded_by": None,
    "version": 1,
    "computed_from": "readings",
    "agrees": True,
    "differences": [],
    "tariff_version": "11111111-1111-4111-8111-111111111111",
    "tariff": {
        "currency": "EUR",
        "elements": [
            {
                "price_components": [
                    {"type": "ENERGY", "price": "0.3456", "vat": "21", "step_size": 1},
                    {"type": "TIME", "price": "1.2", "vat": "10", "step_size": 60},
                ]
            }
        ],
    },
    "time_zone": "Europe/Berlin",
    "readings": 23,
    "periods": [
        {
            "start": "2026-03-29T07:41:00Z",
            "end": "2026-03-29T07:42:29.157000Z",
            "kind": "CHARGING",
            "power_w": "9376.262",
            "current_a": "12.122",
            "energy_kwh": "0.232210",
        }
    ],
    "periods_left_out": 0,
    "left_out": [
        {
            "ts": "2026-03-29T07:53:50.376000Z",
            "seq": 20,
            "reason": "register_zero",
            "energy_kwh": "0.000000",
            "power_w": None,
            "flags": ["placeholder_zero"],
        }
    ],
    "consumption": [
        {"element": 0, "dimension": "ENERGY", "volume": 5_043_383, "since": "2026-03-29T07:41:00Z", "step_size": True},
        {"element": 0, "dimension": "TIME", "volume": 1_254_833, "since": "2026-03-29T07:41:00Z", "step_size": True},
    ],
    "lines": _LINES,
    "roundings": [
        {
            "what": "0 ENERGY step_size",
            "numerator": "5043383",
            "denominator": "1000",
            "result": "5044",
            "unit": "Wh",
            "rule": "up",
        },
        {
            "what": "payable",
            "numerator": "2571279",
            "denominator": "10000",
            "result": "257",
            "unit": "minor unit",
            "rule": "half up",
        },
    ],
    "currency": "EUR",
    "total_excl_vat": "2.163206",
    "total_incl_vat": "2.571279",
    "payable": "2.57",
}
CREDIT_NOTE: Final[dict[str, Any]] = {
    **INVOICE,
    "id": "4c18fc18-4414-43ec-aa8c-9bf0a7c82174",
    "number": "2026-0000018",
    "kind": "credit_note",
    "status": "settled",
    "total_excl_vat": "-2.163206",
    "total_incl_vat": "-2.571279",
    "payable_excl_vat": "-2.16",
    "payable": "-2.57",
    "credits": INVOICE["id"],
    "reason": "meter was found to be faulty",
    "issued_at": "2026-03-30T10:00:00Z",
}
