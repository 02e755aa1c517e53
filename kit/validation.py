"""Validation errors of requests, as sentences that say what to write instead."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, get_args

from pydantic import BaseModel

from kit.patterns import words_of
from kit.spelling import did_you_mean

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
COPY_IT_WHOLE: Final = "the token is malformed: copy it whole, as it was issued"


def whole_token(token: str) -> str:
    """The token, if a header can carry it. Raises ValueError, whose message does not contain the token."""
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise ValueError(COPY_IT_WHOLE)
    return token


_NO_UUID: Final = ("uuid_parsing", "uuid_type")


def explain_error(error: Mapping[str, Any], body: Any) -> str:
    """One of pydantic's errors as a sentence. `body`: the annotation of the request's body, or None."""
    if error["type"] == "extra_forbidden":
        *above, name = error["loc"]
        return f"there is no field {str(name)[:64]}{did_you_mean(str(name), _fields_at(body, above[1:]))}"
    if error["type"] == "string_pattern_mismatch":
        pattern = error.get("ctx", {}).get("pattern", "")
        text = str(error.get("input", ""))
        if not text:
            return "is empty; give it a value, or leave it out"
        if _CONTROL.search(text):
            return "has a control character, which no text may have; leave it out"
        words = words_of(pattern)
        return "is not written as it has to be" if words is None else f"is not written as it has to be: write {words}"
    if error["type"] in _NO_UUID:
        return "is no id: write the UUID that a list or another answer gives, like 9b2de8a4-8d7e-4c0c-8d61-52d0c6b7a1f3"
    return str(error["msg"]).removeprefix("Value error, ")


def _fields_at(body: Any, path: Sequence[int | str]) -> set[str]:
    """Names of the fields of the model at that path of the body; empty where it is unknown."""
    models = set(_models(body))
    for part in path:
        if isinstance(part, str):  # a number is an index into a list
            fields = [model.model_fields[part] for model in models if part in model.model_fields]
            models = {inner for field in fields for inner in _models(field.annotation)}
    return {name for model in models for name in model.model_fields}


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
