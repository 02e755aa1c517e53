"""Charts for Kubernetes, and what in them follows from the code: `python -m deploy.helm` writes it."""
