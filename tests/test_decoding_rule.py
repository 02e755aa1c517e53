"""A rule of the code, over all of it: whoever decodes bytes of others catches all that decoding raises.

msgspec's own errors are not all: text that is no UTF-8 is a UnicodeDecodeError, and what nests too deeply a
RecursionError. `except (ValueError, RecursionError)` has all of them.
"""

import ast
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
ROOMS: Final = ("schemas", "kit", "ingest", "streams", "billing", "api", "simulator", "voltstream", "deploy")
_PARTIAL: Final = {"MsgspecError", "DecodeError", "JSONDecodeError", "UnicodeDecodeError"}
# Only text that was decoded before, or no document at all.
_ALLOWED: Final = {
    "api/telemetry/service.py",
    "api/stations/exchange/service.py",
    "kit/secrets/files.py",
    "kit/secrets/text.py",
    "kit/web/json_body.py",
}


def _caught(handler: ast.ExceptHandler) -> set[str]:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return {kind.attr if isinstance(kind, ast.Attribute) else getattr(kind, "id", "") for kind in kinds if kind}


def test_no_part_of_what_decoding_raises_is_caught_alone() -> None:
    found = []
    for room in ROOMS:
        for file in sorted((ROOT / room).rglob("*.py")):
            name = str(file.relative_to(ROOT))
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.ExceptHandler) and _caught(node) & _PARTIAL and name not in _ALLOWED:
                    found.append(f"{name}:{node.lineno}")
    assert found == []
