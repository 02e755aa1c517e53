"""Secrets by file: every setting whose value is displayed masked can be given as the path of a file that holds it,
`VOLTSTREAM_<NAME>_FILE` or `<name>_file` in the TOML file. Kubernetes and Vault mount secrets so.
"""

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from kit.secrets.text import read_secret


def masked(field: FieldInfo | None) -> str:
    """How a field's value is displayed: "url" (its password masked), "whole" (masked), or empty: as it is."""
    extra = field.json_schema_extra if field is not None else None
    found = extra.get("masked") if isinstance(extra, dict) else None
    return str(found or "")


def file_names(fields: Mapping[str, FieldInfo]) -> dict[str, str]:
    """`<name>_file` -> name of every secret."""
    return {f"{name}_file": name for name, field in fields.items() if masked(field)}


@dataclass(slots=True)
class FromFiles:
    """What one source of the settings (the environment, the TOML file) has by file."""

    values: dict[str, Any] = field(default_factory=dict)
    paths: dict[str, Path] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)  # what to mend, one line each

    def add(self, name: str, of: FieldInfo, path: str, shown: str) -> None:
        """Read one; `shown`: how its source writes it."""
        try:
            text = read_secret(Path(path))
            self.values[name] = text if of.annotation is str else json.loads(text)
            self.paths[name] = Path(path).absolute()
        except json.JSONDecodeError:
            self.wrong.append(f"{shown}={path}: is not JSON")
        except ValueError as error:
            self.wrong.append(f"{shown}={path}: {error}; name a file that holds the secret and that this account reads")


@dataclass(frozen=True, slots=True)
class SecretFiles:
    """What both sources have."""

    environment: FromFiles
    toml: dict[str, Any]  # by name: the file's own values, and of its secrets' files
    by_toml: FromFiles

    @property
    def paths(self) -> dict[str, Path]:
        """The file of each secret that is from one; the environment's before the TOML file's."""
        return self.by_toml.paths | self.environment.paths

    @property
    def wrong(self) -> list[str]:
        """What to mend, one line each."""
        return self.environment.wrong + self.by_toml.wrong


def read_files(fields: Mapping[str, FieldInfo], prefix: str, toml: str | None, given: frozenset[str]) -> SecretFiles:
    """The files that variables of this prefix name, and the TOML file with those that it names. A file is not read
    where its secret comes from elsewhere: of `given` ones from the command line, of the TOML file's from the
    environment.

    Raises OSError and ValueError where it is no TOML.
    """
    environment, set_there = _of_environment(fields, prefix, given)
    values, by_toml = _of_toml(fields, Path(toml), given | set_there) if toml else ({}, FromFiles())
    return SecretFiles(environment, values | by_toml.values, by_toml)


def _of_environment(
    fields: Mapping[str, FieldInfo], prefix: str, given: frozenset[str]
) -> tuple[FromFiles, frozenset[str]]:
    """What is by file, and the names of all secrets that it has, however it has them."""
    found, names = FromFiles(), file_names(fields)
    variables = {key.upper(): value for key, value in os.environ.items()}
    set_there = set[str]()
    for file_name, name in names.items():
        variable, plain = f"{prefix}{file_name.upper()}", f"{prefix}{name.upper()}"
        if plain in variables:
            set_there.add(name)
        if not variables.get(variable):
            continue
        set_there.add(name)
        if variables.get(plain):
            found.wrong.append(f"{plain} and {variable} are both set: unset one of them")
        elif name not in given:
            found.add(name, fields[name], variables[variable], variable)
    return found, frozenset(set_there)


def _of_toml(
    fields: Mapping[str, FieldInfo], file: Path, overridden: frozenset[str]
) -> tuple[dict[str, Any], FromFiles]:
    values = tomllib.loads(file.read_text(encoding="utf-8"))
    found = FromFiles()
    for file_name, name in file_names(fields).items():
        path = values.pop(file_name, None)
        if not path:
            continue
        if name in values:
            found.wrong.append(f"{name} and {file_name} are both in {file}: take one of them out")
        elif not isinstance(path, str):
            found.wrong.append(f"{file_name} in {file}: write the path of a file")
        elif name not in overridden:
            found.add(name, fields[name], path, file_name)
    return values, found
