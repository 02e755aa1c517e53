"""Stations, connectors and bays as operators register them, and every change of them."""
