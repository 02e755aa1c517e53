"""The declaration of the service that replays items of the quarantine."""

from pathlib import Path
from typing import Final

from ingest.reingest.components import Reingest, open_reingest
from ingest.reingest.routes import router
from ingest.reingest.store import ITEMS, LAST, MARK
from ingest.settings import IngestSettings
from kit.service import Service

SERVICE: Final = Service(
    name="reingest",
    summary="items of the quarantine become readings after all",
    open=open_reingest,
    components=Reingest,
    router=router,
    migrations=Path(__file__).parent / "migrations",
    reads=(ITEMS, LAST, MARK),
    settings=IngestSettings,
    backends=frozenset({"live", "log_writer"}),
)
