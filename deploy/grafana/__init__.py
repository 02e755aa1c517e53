"""Grafana dashboards, made of Python: `python -m deploy.grafana` writes them to `dashboards/`."""
