"""Charging sessions: what uses a reservation, and what is in its way."""
