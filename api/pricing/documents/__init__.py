"""Tariff documents: what can be published, and how it is read and stored."""
