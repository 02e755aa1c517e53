"""`voltstream version`."""

import platform

from voltstream import __version__
from voltstream.cli.options import AsJson
from voltstream.cli.output import print_json, print_line


def version(as_json: AsJson = False) -> None:
    """Print the version."""
    if as_json:
        print_json({"voltstream": __version__, "python": platform.python_version()})
    else:
        print_line(f"voltstream {__version__} (Python {platform.python_version()})")
