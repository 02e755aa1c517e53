"""Rivals: what one would write without voltstream, measured on the same servers."""
