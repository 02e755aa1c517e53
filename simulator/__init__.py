"""A fleet of chargers that never was, and files of readings that were: both speak only voltstream's public wire."""
