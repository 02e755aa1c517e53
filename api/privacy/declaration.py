"""The declaration of the privacy service."""

from pathlib import Path
from typing import Final

from api.privacy.components import SCHEMAS, Privacy, open_privacy
from api.privacy.personal_data import PERSONAL_DATA
from api.privacy.routes import router
from kit.personal_data import functions_of
from kit.service import Service

_NAME: Final = "privacy"

SERVICE: Final = Service(
    name=_NAME,
    summary="drivers as subjects: what all services hold of one, and erasing it",
    open=open_privacy,
    components=Privacy,
    router=router,
    migrations=Path(__file__).parent / "migrations",
    personal_data=PERSONAL_DATA,
    reads=tuple(name for service, schema in SCHEMAS.items() if service != _NAME for name in functions_of(schema)),
)
