"""The declaration of the config service."""

from pathlib import Path
from typing import Final

from api.config.components import ConfigComponents, open_config
from api.config.routes import router
from kit.service import Contract, Service
from schemas.topics import CONFIG_UPDATED

SERVICE: Final = Service(
    name="config",
    summary="settings and feature flags that operators change while everything runs",
    open=open_config,
    components=ConfigComponents,
    router=router,
    migrations=Path(__file__).parent / "migrations",
    contracts=(
        Contract("config.snapshot", "all that operators have set, at one revision; for every process that follows it"),
    ),
    reads=("stations.station_overview",),
    publishes=(CONFIG_UPDATED,),
    backends=frozenset({"config"}),
)
