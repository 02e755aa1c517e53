"""Reservations of connectors and parking bays: who may use what when, and how each reservation ends."""
