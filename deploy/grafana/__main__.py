"""`python -m deploy.grafana` writes the dashboards' JSON, and removes that of dashboards that are no more."""

from pathlib import Path
from typing import Final

from deploy.grafana.operation_boards import EVENTS, SLO, STORES
from deploy.grafana.product_boards import API, INGESTION, MONEY, STATIONS, STREAM

DASHBOARDS: Final = (API, INGESTION, STREAM, MONEY, EVENTS, STORES, STATIONS, SLO)
FOLDER: Final = Path(__file__).parent / "dashboards"


def documents() -> dict[str, str]:
    """Name of the file -> its JSON."""
    return {f"{board.uid}.json": board.json() for board in DASHBOARDS}


if __name__ == "__main__":
    for old in FOLDER.glob("*.json"):
        old.unlink()
    for name, text in documents().items():
        (FOLDER / name).write_text(text)
