"""Who asks, and whose notifications are meant: a driver's own; an operator's own, or of any subject."""

from typing import Annotated, Final

from fastapi import Depends, Query

from api.notifications.models import Subject
from api.notifications.notices.consumers import driver_subject
from kit.auth.requirements import require_scope
from kit.auth.token_store import Principal
from kit.web.errors import BadQuery, Forbidden

FORBIDDEN: Final = {403: "A token without the scope, or the subject is not the driver's own"}
Reader = Annotated[Principal, Depends(require_scope("notifications:read"))]
Sender = Annotated[Principal, Depends(require_scope("notifications:send"))]
DeliveriesReader = Annotated[Principal, Depends(require_scope("deliveries:read"))]
PreferencesReader = Annotated[Principal, Depends(require_scope("preferences:read"))]
PreferencesEditor = Annotated[Principal, Depends(require_scope("preferences:write"))]
TemplatesReader = Annotated[Principal, Depends(require_scope("templates:read"))]
TemplatesEditor = Annotated[Principal, Depends(require_scope("templates:write"))]
SubjectInQuery = Annotated[Subject | None, Query(description="whose; default: the caller's own")]


def subject_of(caller: Principal, subject: str | None) -> str:
    """Whose notifications are meant. Raises BadQuery, Forbidden."""
    if caller.kind != "driver":
        if subject is None and caller.kind != "operator":
            raise BadQuery("query/subject: say whose, as driver/D1; a token of this role is no recipient")
        return subject or caller.name
    own = driver_subject(caller.driver_id)
    if subject not in (None, own):
        raise Forbidden("a driver has only their own notifications; leave subject out")
    return own
