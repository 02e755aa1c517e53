"""Restarts services behind a proxy under load, and prints what users saw: `python -m tests.proof.rolling`."""

import argparse
import asyncio
import tempfile
from pathlib import Path

from deploy.servers import run_folder
from tests.certificates import Authority
from tests.private_servers import PrivateServers, fresh_database
from tests.proof.rolling.fronted import fronted
from tests.proof.rolling.run import Rolled, rolled


async def measured(proxy: str, rounds: int, drain_s: float) -> Rolled:
    """One run, on servers of its own."""
    servers = PrivateServers()
    authority = Authority(run_folder("tls") / "certificates", "voltstream test CA")
    tls_servers = PrivateServers(authority.server("localhost"))
    try:
        url = await asyncio.to_thread(servers.url_of, servers.postgres)
        with tempfile.TemporaryDirectory(prefix="voltstream-") as folder, fresh_database(url) as database_url:
            platform = fronted(
                proxy, servers, tls_servers, authority, database_url, Path(folder), drain_s=drain_s, upstream_idle_s=5
            )
            async with platform as running:
                result = await rolled(running, rounds)
            for line in (*result.failures, *running.unexpected()):
                print(f"FAILED: {line}", flush=True)
            return result
    finally:
        tls_servers.destroy()
        servers.destroy()


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("proxy", nargs="*", default=["nginx", "traefik"])
    parser.add_argument("--rounds", type=int, default=5, help="restarts of each of the two processes")
    parser.add_argument("--drain", type=float, default=10.0, help="VOLTSTREAM_DRAIN_S")
    arguments = parser.parse_args()
    print("| restarts | request | answered | failed | longest wait, s |\n|---|---|---|---|---|", flush=True)
    for proxy in arguments.proxy:
        result = asyncio.run(measured(proxy, arguments.rounds, arguments.drain))
        print("\n".join(result.rows(f"{proxy}, {result.restarts}")), flush=True)
        print(f"{len(result.load.acknowledged)} readings acknowledged, {result.lost} lost, {result.doubled} doubled")
        print(f"ledger: {result.ledger}", flush=True)


if __name__ == "__main__":
    main()
