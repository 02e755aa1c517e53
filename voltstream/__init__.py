"""The product's face: the command line, and the composition of services into processes. Imports all other rooms."""

from importlib.metadata import version

__version__ = version("voltstream")
