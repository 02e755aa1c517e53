"""Uptime by 23 CFR 680.116, and what is counted beside it: outages, repairs, successful charges."""
