"""Requests to add customers."""

from typing import Any

from billing.customers import examples


def wanted(name: str = "Hafenlogistik GmbH", *drivers: str, **more: Any) -> dict[str, Any]:
    """A customer of these drivers, invoiced singly unless `more` says otherwise."""
    return {**examples.NEW_CUSTOMER, "name": name, "driver_ids": list(drivers), "billing": "single", **more}
