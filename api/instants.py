"""Moments as query parameters (see kit/instants)."""

from kit.web.instants import EARLIEST, LATEST, Instant, floor_to, parse_instant

__all__ = ["EARLIEST", "LATEST", "Instant", "floor_to", "parse_instant"]
