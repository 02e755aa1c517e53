"""A seeded fleet of charging stations, its readings, and faults as wrappers around them."""
