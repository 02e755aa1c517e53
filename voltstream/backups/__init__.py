"""Backups of a platform: taking, checking and restoring them (docs/adr/0028)."""
