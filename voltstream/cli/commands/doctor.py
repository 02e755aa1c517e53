"""`voltstream doctor` and `voltstream version`: what is installed, and whether it works."""

import asyncio
import logging
import platform
from dataclasses import asdict

import typer
from rich.console import Console
from rich.text import Text

from kit.clock import SystemClock
from kit.observability.logs import setup_logging
from voltstream import __version__
from voltstream.cli.doctor_data_checks import run_all_checks
from voltstream.cli.options import AsJson, DataDir
from voltstream.cli.output import print_json, print_line
from voltstream.settings import load_settings


def doctor(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Check everything voltstream is configured with; say what is wrong and how to fix it.

    Exits with 1 if anything is wrong.
    """
    settings = load_settings(data_dir=data_dir)
    setup_logging("doctor")
    logging.disable()  # the checks describe a server that cannot be reached better than the libraries do
    checks = asyncio.run(run_all_checks(settings, SystemClock()))
    well = all(check.ok for check in checks)
    if as_json:
        print_json({"ok": well, "checks": [asdict(check) for check in checks]})
        raise typer.Exit(0 if well else 1)
    console = Console(soft_wrap=True, highlight=False)
    width = max(len(check.name) for check in checks)
    for check in checks:
        mark = Text("ok   ", style="green") if check.ok else Text("WRONG", style="bold red")
        console.print(Text.assemble(mark, f"  {check.name:{width}}  {' '.join(check.detail.split())}"))
        if not check.ok:
            console.print(Text(f"       {'':{width}}  {check.mend}", style="yellow"))
    raise typer.Exit(0 if well else 1)


def version(as_json: AsJson = False) -> None:
    """Print the version."""
    if as_json:
        print_json({"voltstream": __version__, "python": platform.python_version()})
    else:
        print_line(f"voltstream {__version__} (Python {platform.python_version()})")
