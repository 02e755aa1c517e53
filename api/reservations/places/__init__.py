"""Stations, connectors and bays as the registry describes them, and their status."""
