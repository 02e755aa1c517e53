"""Reserving, confirming, cancelling and reading."""
