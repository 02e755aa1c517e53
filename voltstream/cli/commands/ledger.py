"""`voltstream ledger`."""

import time
from collections.abc import Mapping
from typing import Annotated, Any, Final

import httpx
import typer
from rich.console import Console
from rich.live import Live

from voltstream.cli.ledger_view import ledger_table
from voltstream.cli.options import AsJson, DataDir
from voltstream.cli.output import print_json, print_table
from voltstream.errors import Refused
from voltstream.runtime.up_tokens import operator_token
from voltstream.settings import load_settings

_PERIOD_S: Final = 1.0
_TIMEOUT_S: Final = 10.0


def ledger(
    url: Annotated[
        str | None, typer.Option(envvar="VOLTSTREAM_URL", help="the platform's base URL", show_default=False)
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="VOLTSTREAM_OPERATOR_TOKEN", help="an operator's; default: that of `up`", show_default=False
        ),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="again and again, until Ctrl-C")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show where every accepted reading is, per partition.

    accepted = stored + duplicate + quarantined + in flight. Asks the API that runs.
    """
    settings = load_settings(data_dir=data_dir)
    base_url = url or f"http://{settings.host}:{settings.port}"
    headers = {"Authorization": f"Bearer {operator_token(settings, url, token)}"}
    with httpx.Client(headers=headers, timeout=_TIMEOUT_S, trust_env=False) as client:
        document = _ask(client, base_url)
        if not watch:
            if as_json:
                print_json(document)
            else:
                print_table(ledger_table(document))
            return
        try:
            _watch(client, base_url, document, as_json)
        except KeyboardInterrupt:
            return


def _watch(client: httpx.Client, base_url: str, document: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        while True:
            print_json(document)
            time.sleep(_PERIOD_S)
            document = _ask(client, base_url)
    with Live(ledger_table(document), console=Console(), auto_refresh=False) as screen:
        while True:
            time.sleep(_PERIOD_S)
            screen.update(ledger_table(_ask(client, base_url)), refresh=True)


def _ask(client: httpx.Client, base_url: str) -> dict[str, Any]:
    try:
        response = client.get(f"{base_url.rstrip('/')}/api/v1/telemetry/ledger")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        mend = "start `voltstream up`, or name its address: --url"
        raise Refused(f"{base_url} does not answer ({error}); {mend}") from None
    if response.status_code != httpx.codes.OK:
        raise Refused(f"{base_url}: {response.status_code}: {_detail(response)}")
    document: dict[str, Any] = response.json()
    return document


def _detail(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return response.reason_phrase
