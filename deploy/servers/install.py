"""Installs the servers: Debian packages as root, the jars of Kafka and MongoDB by Maven, the OpenID provider by npm.

Prometheus and Alertmanager, which the alerts are tested with, come with them."""

import os
import shutil
import subprocess
from collections.abc import Callable
from typing import Final

from deploy.servers.errors import ServerUnavailable
from deploy.servers.postgres import find_binaries, installed_binaries
from deploy.servers.registry import KAFKA_JARS, MONGODB_JARS, OIDC_PACKAGES

# RUNLEVEL=1 keeps apt from starting the packages' own services; one that runs nevertheless is not touched.
_APT_ENVIRONMENT: Final = {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}


def install() -> dict[str, str]:
    """Install missing servers. Returns, for each that is not available, its name and the reason in one line."""
    wanted: dict[str, tuple[list[str], Callable[[], bool]]] = {
        "postgres": (["postgresql"], lambda: installed_binaries() is not None),
        "rabbitmq": (["rabbitmq-server"], lambda: shutil.which("rabbitmq-server") is not None),
        "redis": (["redis-server"], lambda: shutil.which("redis-server") is not None),
        "kafka": (["default-jre-headless", "maven"], lambda: _has("java", "mvn")),
        "mongodb": (["default-jdk-headless", "maven"], lambda: _has("java", "javac", "mvn")),
        "oidc": (["nodejs", "npm"], lambda: _has("node", "npm")),
        "promtool": (["prometheus"], lambda: _has("promtool", "prometheus")),
        "alertmanager": (["prometheus-alertmanager"], lambda: _has("prometheus-alertmanager", "amtool")),
        "nginx": (["nginx"], lambda: _has("nginx")),
    }
    missing = {name: packages for name, (packages, present) in wanted.items() if not present()}
    reason = _apt([package for packages in missing.values() for package in packages]) if missing else ""
    failed = {name: f"{name}: {reason or 'not installed'}" for name in missing if not wanted[name][1]()}
    if "postgres" in failed and _has_postgres():
        del failed["postgres"]  # the embedded mode's binaries are used
    for name, files in (("kafka", KAFKA_JARS), ("mongodb", MONGODB_JARS), ("oidc", OIDC_PACKAGES)):
        if name not in failed:
            try:
                files.install()
            except ServerUnavailable as error:
                failed[name] = str(error)
    return failed


def _has(*programs: str) -> bool:
    return all(shutil.which(program) for program in programs)


def _has_postgres() -> bool:
    try:
        find_binaries()
    except ServerUnavailable:
        return False
    return True


def _apt(packages: list[str]) -> str:
    """Install packages by apt-get. Returns the reason in one line if that fails, else an empty string."""
    apt = shutil.which("apt-get")
    if apt is None:
        return f"no apt-get on this machine; install {' '.join(packages)} or equivalents yourself"
    if os.geteuid() != 0:
        return f"not root; run: sudo apt-get install {' '.join(packages)}"
    for command in ([apt, "-qq", "update"], [apt, "-qq", "-y", "install", "--no-install-recommends", *packages]):
        done = subprocess.run(
            command, env=os.environ | _APT_ENVIRONMENT, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if line.startswith("E:")]
            return f"{' '.join(command[:3])} failed: {lines[0] if lines else done.returncode}"
    return ""
