"""Writes the configurations: `python -m deploy.gateways`, or for a site of yours `… --site site.yaml --to FOLDER`.

site.yaml has the fields of deploy.gateways.site.Site that differ.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import yaml

from deploy.gateways.nginx_configuration import nginx_configuration
from deploy.gateways.routing import routings
from deploy.gateways.site import Site
from deploy.gateways.traefik_configuration import traefik_configuration

FOLDER: Final = Path(__file__).parent
_TRAEFIK: Final = "/etc/traefik"  # where its image looks


def configurations(site: Site) -> Mapping[Path, str]:
    """Relative path -> text, of all proxies."""
    served = routings()
    traefik = traefik_configuration(site, served, _TRAEFIK)
    return {
        Path("nginx/nginx.conf"): nginx_configuration(site, served),
        **{Path("traefik") / name: text for name, text in traefik.items()},
    }


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(prog="python -m deploy.gateways", description=__doc__)
    parser.add_argument("--site", type=Path, help="YAML with what is different from the defaults")
    parser.add_argument("--to", type=Path, default=FOLDER, help="folder to write to")
    arguments = parser.parse_args()
    site = Site(**yaml.safe_load(arguments.site.read_text(encoding="utf-8"))) if arguments.site else Site()
    for path, text in configurations(site).items():
        file = arguments.to / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
