"""Structured logs and tracing."""
