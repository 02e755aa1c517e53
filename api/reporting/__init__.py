"""Figures for operators and authorities: metrics, reports, charts."""
