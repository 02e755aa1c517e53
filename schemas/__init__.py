"""Schemas shared by all services: readings, frames, tariffs, events and topic names. Imports nothing in-house."""
