"""Charges that are not invoiced before somebody has looked: found."""
