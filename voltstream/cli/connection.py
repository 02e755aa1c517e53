"""How commands reach a platform: the address of its API, an operator's token, and its database."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Final, TypeVar

import typer

from kit.database.migrations import Migrations, migrate, status
from kit.database.postgres import Database, open_database
from kit.settings import Settings
from voltstream.errors import PlatformFailed, WrongUsage
from voltstream.runtime.data_folder import platform_database, platform_url

T = TypeVar("T")

Url = Annotated[
    str | None,
    typer.Option(
        envvar="VOLTSTREAM_URL",
        help="the platform's base URL; default: the `up` of the data folder",
        show_default=False,
    ),
]
OperatorToken = Annotated[
    str | None,
    typer.Option(
        envvar="VOLTSTREAM_OPERATOR_TOKEN",
        help="an operator's; default: that of the `up` of the data folder",
        show_default=False,
    ),
]
UNAUTHORIZED_HINT: Final = "name an operator's token that is valid there: --token or VOLTSTREAM_OPERATOR_TOKEN"


def base_url_of(settings: Settings, url: str | None) -> str:
    """The platform's address: as given, or that of the data folder. Raises PlatformFailed."""
    return (url or platform_url(settings)).rstrip("/")


def no_answer(base_url: str, error: Exception) -> PlatformFailed:
    """The error where no platform answers there."""
    hint = "start `voltstream up`, or name its address: --url or VOLTSTREAM_URL"
    return PlatformFailed(f"{base_url} does not answer ({error}); {hint}")


def with_database(
    settings: Settings,
    name: str,
    work: Callable[[Database], Awaitable[T]],
    *,
    apply: Sequence[Migrations] = (),
    need: Sequence[Migrations] = (),
    role: str | None = None,
) -> T:
    """The outcome of `work` on the platform's database, where `apply` is applied before and `need` has to be.

    Raises WrongUsage where there is no platform's database or `need` is not applied, and what `work` raises.
    """

    async def run(url: str) -> T:
        database = await open_database(url, name=f"voltstream {name}", role=role, connections_max=2)
        try:
            return await work(database)
        finally:
            await database.close()

    with platform_database(settings) as url:
        if apply:
            migrate(url, apply)
        if need and not all(one.applied for one in status(url, need)):
            raise WrongUsage("the tables of this database are not of this version: run `voltstream migrate`")
        return asyncio.run(run(url))
