"""Reverse proxies before the services: configurations of nginx and Traefik, derived from the one list of services."""
