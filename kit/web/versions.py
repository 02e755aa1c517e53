"""Optimistic concurrency (RFC 9110, section 13.1.1): a change says, in If-Match, which version it is made to."""

import re
from typing import Annotated, Final

from fastapi import Header

from kit.web.errors import BadQuery, ServiceError

_ETAG: Final = re.compile(r'"([1-9][0-9]{0,8})"', re.ASCII)
NOT_GIVEN: Final = 0
"""The version of a request without If-Match."""

IfMatch = Annotated[
    str | None,
    Header(alias="If-Match", max_length=100, description="ETag of the version that the change is made to; * for any"),
]
ETAG: Final = {"ETag": {"description": "the version, for If-Match", "schema": {"type": "string"}}}
"""The header of an answer, for OpenAPI."""


class VersionNeeded(ServiceError):
    """A change that does not say which version of the resource it is made to (RFC 6585)."""

    status = 428


class VersionChanged(ServiceError):
    """The resource has another version than the one that the change was made to (RFC 9110, section 13.1.1)."""

    status = 412


def version_of(if_match: str | None) -> int | None:
    """The version that is named; None: any; NOT_GIVEN without the header. Raises BadQuery."""
    if if_match is None:
        return NOT_GIVEN
    if if_match.strip() == "*":
        return None
    match = _ETAG.fullmatch(if_match.strip())
    if match is None:
        raise BadQuery('If-Match is the ETag of what you have read, with its quotes, like "3"; * for any')
    return int(match[1])


def check_version(what: str, given: int | None, current: int | None) -> None:
    """`what`: the resource's name for people; `current`: None where there is none yet, which If-Match must not name.

    Raises VersionNeeded, VersionChanged.
    """
    if current is None:
        if given != NOT_GIVEN:
            raise VersionChanged(f"{what} does not exist: leave If-Match out to create it")
    elif given == NOT_GIVEN:
        raise VersionNeeded('say which version you have read: If-Match with its ETag, like "3"; * for any')
    elif given is not None and given != current:
        raise VersionChanged(f"{what} is at version {current}, not {given}: read it again and redo the change")


def etag(version: int) -> dict[str, str]:
    """The header of an answer."""
    return {"ETag": f'"{version}"'}
