"""Deployment files, and private real servers for tests and for trying the distributed mode."""
