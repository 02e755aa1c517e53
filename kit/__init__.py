"""Infrastructure that is independent of EV charging. Imports nothing in-house."""
