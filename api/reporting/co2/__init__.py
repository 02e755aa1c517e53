"""Factors of CO2e by country and year, in versions."""
