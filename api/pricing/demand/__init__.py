"""Demand rules: how far demand moves the ENERGY prices of a tariff."""
