"""Stations as files: CSV, and OCPI 2.2.1 Locations."""
