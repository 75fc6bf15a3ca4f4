"""Whether the files of a model directory can be read at all, before a library says so in its own way.

It opens every file and parses the JSON ones; whether they mean something is for the libraries that load them to say.
"""

from __future__ import annotations

import json
from pathlib import Path

from posttrain.core.errors import UserError

PATTERNS = ("*.json", "*.jinja", "*.safetensors")


def require_readable(folder: Path) -> None:
    """Raises UserError for a file that may not be read or is no JSON."""
    for file in (file for pattern in PATTERNS for file in sorted(folder.glob(pattern))):
        try:
            with file.open("rb") as opened:
                if file.suffix == ".json":
                    json.load(opened)
        except OSError as error:
            why = error.strerror or error
            raise UserError(f"cannot be read: {why}.", place=str(file), fix="Check its permissions.") from error
        except ValueError as error:
            raise UserError(f"is no JSON: {error}.", place=str(file), fix="Save the model again.") from error
