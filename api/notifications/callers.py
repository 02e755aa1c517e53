"""Who asks, and whose notifications are meant: a driver's own; an operator's own, or of any subject."""

from typing import Annotated, Final

from fastapi import Depends, Query

from api.notifications.models import Subject
from api.notifications.notices.consumers import driver_subject
from kit.auth.authenticator import require_kinds
from kit.auth.token_store import Principal
from kit.web.errors import Forbidden

FORBIDDEN: Final = {403: "The token is of another kind, or the subject is not the driver's own"}
Caller = Annotated[Principal, Depends(require_kinds("operator", "driver"))]
Operator = Annotated[Principal, Depends(require_kinds("operator"))]
SubjectInQuery = Annotated[Subject | None, Query(description="whose; default: the caller's own")]


def subject_of(caller: Principal, subject: str | None) -> str:
    """Whose notifications are meant. Raises Forbidden."""
    if caller.kind == "operator":
        return subject or caller.name
    own = driver_subject(caller.driver_id)
    if subject not in (None, own):
        raise Forbidden("a driver has only their own notifications; leave subject out")
    return own
