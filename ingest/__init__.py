"""Ingestion: readings arrive over HTTP and the event bus, are checked item by item, and leave as durable frames."""
