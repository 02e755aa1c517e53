"""Secrets that a process is given, and what is read again when they change."""
