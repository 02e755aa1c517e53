"""Stations and their connectors: where they are, and what they can do."""
