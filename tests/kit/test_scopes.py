"""The table of roles and scopes."""

import pytest

from kit.auth.scopes import KINDS, SCOPES, Kind, kinds_with, scopes_of
from voltstream.architecture_tables import SECURITY_PAGE, security_tables, written


def test_an_admin_has_every_scope_and_every_scope_is_of_somebody_else_or_of_audit() -> None:
    assert scopes_of("admin") == set(SCOPES)
    for scope in SCOPES:
        assert len(kinds_with(scope)) > 1, scope


@pytest.mark.parametrize("kind", ["support", "auditor"])
def test_those_who_look_change_nothing(kind: Kind) -> None:
    assert {scope.partition(":")[2] for scope in scopes_of(kind)} <= {"read", "read_all"}


def test_an_auditor_reads_whatever_anybody_reads() -> None:
    reads = {scope for kind in KINDS for scope in scopes_of(kind) if scope.endswith((":read", ":read_all"))}
    assert scopes_of("auditor") == reads


def test_a_limit_takes_scopes_away_and_gives_none() -> None:
    for kind in KINDS:
        assert scopes_of(kind, []) == frozenset()
        assert scopes_of(kind, SCOPES) == scopes_of(kind)
        for scope in SCOPES:
            assert scopes_of(kind, [scope]) == ({scope} if scope in scopes_of(kind) else set())


def test_the_page_on_security_has_roles_personal_data_and_retention_as_they_are() -> None:
    page = SECURITY_PAGE.read_text(encoding="utf-8")
    assert page == written(page, security_tables()), "run `python -m voltstream.architecture_tables`"
