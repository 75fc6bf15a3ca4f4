"""The bubblewrap backend: each process in a fresh set of namespaces made by `bwrap`, and then locked in by itself as everywhere.

Source: bwrap(1). bwrap makes the outer wall (mounts, process ids, network, shared memory, host name); the inner one (confine.py) is
the same as without it. There is no /proc inside: it would be a handle on bwrap's own process. As root there is no user
namespace; the process gives its user up itself, because limits on processes do not bind root.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any, NoReturn

from posttrain.sandbox.inside.confine import DEVICES, Walls
from posttrain.sandbox.inside.root import WORK


def arguments(setup: Mapping[str, Any], policy: Mapping[str, Any], walls: Walls) -> list[str]:
    alone = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if walls.user is None:
        alone.append("--unshare-user")
    keep = [] if walls.user is None else ["CAP_SETUID", "CAP_SETGID"]
    if policy["scratch"] is not None:
        keep.append("CAP_SYS_ADMIN")
    mounts: list[str] = []
    for folder in above((*setup["readable"], *policy["packages"], *DEVICES)):  # bwrap makes them as closed as they are outside
        mounts += ["--perms", "0755", "--dir", folder]
    for path in (*setup["readable"], *policy["packages"]):
        mounts += ["--ro-bind-try", os.path.realpath(path), path]
    for path in DEVICES:
        mounts += ["--dev-bind-try", path, path]
    mounts += [
        "--ro-bind",
        f"{setup['place']}/inside",
        f"{setup['code']}/inside",
        "--dir",
        WORK,
        "--dir",
        "/tmp",
        "--remount-ro",
        "/",
    ]
    caps = [word for name in keep for word in ("--cap-add", name)]
    inside = {"policy": dict(policy), "walls": vars(walls)}
    return [
        setup["bwrap"],
        *alone,
        *("--die-with-parent", "--new-session", "--cap-drop", "ALL", *caps, "--clearenv"),
        *(word for name, value in os.environ.items() for word in ("--setenv", name, value)),
        *mounts,
        *("--chdir", "/", "--", *setup["inside"], json.dumps(inside)),
    ]


def above(paths: Iterable[str]) -> list[str]:
    """The folders that lead to these paths, from the top."""
    folders = {str(folder) for path in paths for folder in PurePosixPath(path).parents} - {"/"}
    return sorted(folders - set(paths))


def execute(setup: Mapping[str, Any], policy: Mapping[str, Any], walls: Walls) -> NoReturn:
    command = arguments(setup, policy, walls)
    os.execv(command[0], command)
