"""Plumbing that knows no EV word. Imports nothing in-house."""
