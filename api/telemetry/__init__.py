"""Operators' queries of stored and live telemetry: history, live view, the ledger of readings, quarantine."""
