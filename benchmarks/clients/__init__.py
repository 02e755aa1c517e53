"""Clients of the gateway and of the live view that stages run, each made for one question."""
