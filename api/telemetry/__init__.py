"""The operators' queries of the telemetry spine: history, live view, ledger, quarantine."""
