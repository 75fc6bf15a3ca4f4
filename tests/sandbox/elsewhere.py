"""A driver of hostile programs in a process of its own: as this user, as another one, or without namespaces."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from require import require

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NO_NAMESPACES = (
    "exec setpriv --reuid 54321 --regid 54321 --clear-groups unshare --user --map-root-user sh -c "
    '\'echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set=-all --inh-caps=-all "$0" "$@"\' "$@"'
)


def driven(
    files: Sequence[str], arguments: Sequence[str], user: str, folder: Path, more: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What the driver, the first of the `files`, printed. Another user gets a copy of what he may not be able to read."""
    command, script, paths = [sys.executable], HERE / files[0], f"{ROOT}:{HERE}"
    if user != "this user":
        command = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups", str(require("other-user"))]
        if user == "no namespaces":
            command = ["sh", "-c", NO_NAMESPACES, "sh", str(require("other-user"))]
        for part in ("core", "sandbox"):
            shutil.copytree(ROOT / "posttrain" / part, folder / "posttrain" / part, dirs_exist_ok=True)
        shutil.copy(ROOT / "posttrain" / "__init__.py", folder / "posttrain")
        for name in files:
            shutil.copy(HERE / name, folder)
        for place in (folder, *folder.parents):
            if place.stat().st_uid == os.getuid() and str(place).startswith("/tmp/"):
                place.chmod(place.stat().st_mode | 0o055)
        script, paths = folder / files[0], str(folder)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": paths, "LANG": "C.UTF-8", **(more or {})}
    done = subprocess.run(
        [*command, str(script), *arguments], capture_output=True, text=True, env=environment, cwd="/", check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))
