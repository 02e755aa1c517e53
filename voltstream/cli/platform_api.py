"""The platform's API as commands ask it: one line for whatever goes wrong."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Final

import httpx
import typer

from kit.settings import Settings
from voltstream.cli.connection import UNAUTHORIZED_HINT, base_url_of, no_answer
from voltstream.errors import PlatformFailed, WrongUsage
from voltstream.runtime.up_tokens import operator_token

_TIMEOUT_S: Final = 30.0
_FINANCE_HINT: Final = (
    "name a token that may: `export VOLTSTREAM_FINANCE_TOKEN=$(voltstream token issue --kind finance)`, or --token"
)
_ADMIN_HINT: Final = (
    "name an administrator's token: `export VOLTSTREAM_ADMIN_TOKEN=$(voltstream token issue --kind admin)`, or --token"
)
# Of what was asked, not of the platform: the message says what to write instead.
_ASKED_WRONGLY: Final = frozenset((400, 404, 409, 412, 422, 428))

FinanceToken = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar=["VOLTSTREAM_FINANCE_TOKEN", "VOLTSTREAM_OPERATOR_TOKEN"],
        help="finance's, or an operator's, who may not move money; default: that of the `up` of the data folder",
        show_default=False,
    ),
]


class PlatformApi:
    """A running platform, asked with one token."""

    def __init__(self, client: httpx.Client, base_url: str, hint: str) -> None:
        """`hint`: what to do about a token that is refused."""
        self._client, self._base_url, self._hint = client, base_url, hint

    def get(self, path: str, params: Mapping[str, object] | None = None) -> Any:
        """The JSON of an answer; parameters of None are left out. Raises PlatformFailed, WrongUsage."""
        given = {name: str(value) for name, value in (params or {}).items() if value is not None}
        return self._ask("GET", path, params=given)

    def post(self, path: str, body: object = None, *, key: str | None = None) -> Any:
        """The same. `key`: with which the request may be repeated, and counts once."""
        headers = {} if key is None else {"Idempotency-Key": key}
        return self._ask("POST", path, json=body, headers=headers)

    def post_file(self, path: str, content: bytes, media_type: str, params: Mapping[str, object]) -> Any:
        """The same, of a file."""
        given = {name: str(value) for name, value in params.items()}
        return self._ask("POST", path, content=content, params=given, headers={"Content-Type": media_type})

    def pages(self, path: str, params: Mapping[str, object]) -> Iterator[str]:
        """The texts of an answer and of those that its `Link` headers name as next."""
        address = f"{path}?{httpx.QueryParams({name: str(value) for name, value in params.items()})}"
        while address:
            response = self._answer("GET", address)
            yield response.text
            address = response.links.get("next", {}).get("url", "")

    def put(self, path: str, body: object, *, version: int | None = None) -> Any:
        """The same. `version`: of the resource, as it was read; None: there was none."""
        return self._ask("PUT", path, json=body, headers=_if_match(version))

    def delete(self, path: str, *, version: int | None = None) -> Any:
        """The same; None where the answer is empty."""
        return self._ask("DELETE", path, headers=_if_match(version))

    def find(self, path: str) -> Any:
        """The JSON of an answer; None: there is no such thing. Raises PlatformFailed, WrongUsage."""
        return self._ask("GET", path, absent_is_none=True)

    def _ask(self, method: str, path: str, *, absent_is_none: bool = False, **more: Any) -> Any:
        response = self._answer(method, path, absent_is_none=absent_is_none, **more)
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        return response.json() if response.content else None

    def _answer(self, method: str, path: str, *, absent_is_none: bool = False, **more: Any) -> httpx.Response:
        try:
            response = self._client.request(method, f"{self._base_url}{path}", **more)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise no_answer(self._base_url, error) from None
        if response.is_success or (absent_is_none and response.status_code == httpx.codes.NOT_FOUND):
            return response
        if response.status_code in _ASKED_WRONGLY:
            raise WrongUsage(_detail(response))
        refused = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)
        hint = f"; {self._hint}" if response.status_code in refused else ""
        raise PlatformFailed(f"{self._base_url}: {response.status_code}: {_detail(response)}{hint}")


@contextmanager
def operators_api(settings: Settings, url: str | None, token: str | None) -> Iterator[PlatformApi]:
    """With an operator's token. Raises PlatformFailed, WrongUsage."""
    with _opened(settings, url, token, UNAUTHORIZED_HINT) as api:
        yield api


@contextmanager
def finance_api(settings: Settings, url: str | None, token: str | None) -> Iterator[PlatformApi]:
    """With finance's token, or an operator's, which may read and decide. Raises PlatformFailed, WrongUsage."""
    with _opened(settings, url, token, _FINANCE_HINT) as api:
        yield api


@contextmanager
def admins_api(settings: Settings, url: str | None, token: str | None) -> Iterator[PlatformApi]:
    """With an administrator's token. Raises PlatformFailed, WrongUsage."""
    with _opened(settings, url, token, _ADMIN_HINT) as api:
        yield api


@contextmanager
def _opened(settings: Settings, url: str | None, token: str | None, hint: str) -> Iterator[PlatformApi]:
    base_url = base_url_of(settings, url)
    headers = {"Authorization": f"Bearer {operator_token(settings, url, token)}"}
    with httpx.Client(headers=headers, timeout=_TIMEOUT_S, trust_env=False) as client:
        yield PlatformApi(client, base_url, hint)


def _if_match(version: int | None) -> dict[str, str]:
    return {} if version is None else {"If-Match": f'"{version}"'}


def _detail(response: httpx.Response) -> str:
    """What the problem document says, or the status where there is none."""
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return response.reason_phrase
