"""Charging sessions: what streams makes of readings, what drivers ask for, and which belongs to which."""
