"""Every route that may change something says what the audit keeps of it; a new one cannot be forgotten."""

import ast
from collections.abc import Iterator
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import compile_path

import voltstream
from ingest.gateway import PATH
from voltstream.architecture_tables import SECURITY_PAGE, audit_tables, written
from voltstream.audited_routes import RECORDED, REQUEST_ONLY, Operation
from voltstream.services import all_services

ROOT = Path(voltstream.__file__).parents[1]
SERVICES = all_services()
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_RECORDING = frozenset({"record", "record_all", "record_credit", "AuditedChange"})


def _declared() -> set[Operation]:
    """The routes of all services."""
    declared = {("POST", PATH)}  # the gateway makes its routes when it is opened
    for service in SERVICES:
        if isinstance(service.router, APIRouter):
            app = FastAPI()
            app.include_router(service.router)
            for route in iter_route_contexts(app.routes):
                path = compile_path(str(route.path))[1]  # without converters
                if path.startswith("/api/"):
                    declared |= {(method, path) for method in route.methods or set()}
    return declared


def test_every_route_that_changes_something_says_what_is_recorded() -> None:
    assert RECORDED.keys() & REQUEST_ONLY.keys() == set()
    named, declared = RECORDED.keys() | REQUEST_ONLY.keys(), _declared()
    assert named <= declared
    assert named >= {operation for operation in declared if operation[0] not in _READING}
    assert all(RECORDED.values())
    assert all(REQUEST_ONLY.values())


def _texts(call: ast.Call) -> Iterator[str]:
    """Actions that a call records: literal, or with a part that is computed as *."""
    for argument in call.args[:2]:
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            yield argument.value
        elif isinstance(argument, ast.JoinedStr):
            yield "".join(str(one.value) if isinstance(one, ast.Constant) else "*" for one in argument.values)


def _recorded_in_code() -> set[str]:
    found: set[str] = set()
    for room in ("api", "billing", "ingest"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                    if name in _RECORDING:
                        found |= {text for text in _texts(node) if "." in text and "/" not in text}
    return found


def test_every_action_is_recorded_somewhere_and_every_one_that_is_recorded_is_of_a_route() -> None:
    declared = {action for actions in RECORDED.values() for action in actions}
    code = _recorded_in_code()
    kinds = {action.partition(".")[0] for action in code if action.endswith("*")}
    results = {action.partition(".")[2] for action in code if action.startswith("*")}
    literal = {action for action in code if "*" not in action}

    def is_recorded(action: str) -> bool:
        kind, _, result = action.partition(".")
        return action in literal or kind in kinds or result in results

    assert {action for action in declared if not is_recorded(action)} == set()
    assert literal - declared == set()


def test_the_tables_in_the_documentation_are_those_of_the_list() -> None:
    page = SECURITY_PAGE.read_text(encoding="utf-8")
    assert page == written(page, audit_tables()), "run `python -m voltstream.architecture_tables`"
