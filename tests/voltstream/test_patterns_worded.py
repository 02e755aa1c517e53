"""A text that is refused is told in words how to write it: every pattern in a request has some."""

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, FastAPI

from billing.credits.models import _AMOUNT
from billing.customers.models import OptionalText
from kit.patterns import words_of
from schemas import tariff
from schemas.identifiers import PRINTABLE
from voltstream.services import all_services

# What is not so has a control character or is empty, and both are said; or the type's own check has the words.
SAID_OTHERWISE = {
    *(PRINTABLE, OptionalText, _AMOUNT, "^[0-9]{1,13}$"),
    *(tariff._TIME, tariff._DATE, tariff._COUNTRY, tariff._PARTY, tariff._CURRENCY),
}


def patterns_in(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        for inner in schema.values():
            yield from patterns_in(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from patterns_in(inner)


def test_every_pattern_has_words() -> None:
    app = FastAPI()
    for service in all_services():
        if isinstance(service.router, APIRouter):
            app.include_router(service.router)
    found = {*patterns_in(app.openapi())}
    assert len(found) > 10
    assert {one for one in found - SAID_OTHERWISE if words_of(one) is None} == set()
