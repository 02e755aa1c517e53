"""Command line and process composition. Imports all other rooms."""

from importlib.metadata import version

__version__ = version("voltstream")
