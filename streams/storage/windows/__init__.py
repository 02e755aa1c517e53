"""Coarse windows: the relations that show them, and what is kept of them when finer ones end."""
