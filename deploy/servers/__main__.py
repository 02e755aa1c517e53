"""The standing private servers of this checkout, for trying the distributed mode by hand."""

import json
import shlex
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import typer

from deploy.servers import install as installation
from deploy.servers.base import Server
from deploy.servers.errors import ServerError
from deploy.servers.registry import ROOT, SERVERS, alone, environment, sweep

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
_STANDING = ROOT / "standing"


def _standing() -> list[Server]:
    return [make(_STANDING) for make in SERVERS.values()]


def _start(server: Server) -> str | None:
    """Start it; the reason if that fails, else None."""
    try:
        server.start()
    except ServerError as error:
        return str(error)
    return None


@app.command("install")
def install_command() -> None:
    """Install what is missing. Exits with 1 where a server cannot be had; tests that need it skip."""
    with alone():
        failed = installation.install()
    for reason in failed.values():
        typer.echo(reason, err=True)
    raise typer.Exit(1 if failed else 0)


@app.command()
def up() -> None:
    """Start all of them (those that run are left alone) and print the settings that make voltstream use them."""
    with alone(), ThreadPoolExecutor(len(SERVERS)) as pool:
        sweep()
        failed = [reason for reason in pool.map(_start, _standing()) if reason is not None]
    for reason in failed:
        typer.echo(reason, err=True)
    if failed:
        raise typer.Exit(1)
    env()


@app.command()
def down(keep: Annotated[bool, typer.Option(help="Keep their data for the next `up`.")] = False) -> None:
    """Stop all of them and remove their data."""
    with alone(), ThreadPoolExecutor(len(SERVERS)) as pool:
        list(pool.map(Server.stop if keep else Server.destroy, _standing()))
        if not keep:
            shutil.rmtree(_STANDING, ignore_errors=True)


@app.command()
def env() -> None:
    """Print the settings of those that run, as lines for the shell."""
    for name, value in environment(server for server in _standing() if server.running).items():
        typer.echo(f"export {name}={shlex.quote(value)}")


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Say which of them run, and where."""
    states = {server.name: server.url if server.running else None for server in _standing()}
    if as_json:
        typer.echo(json.dumps(states))
        return
    for name, url in states.items():
        typer.echo(f"{name:10} {url or 'stopped'}")


if __name__ == "__main__":
    app()
