"""Rivals: the same task without voltstream, measured on the same servers."""
