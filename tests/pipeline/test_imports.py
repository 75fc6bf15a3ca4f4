"""Imports at less cost leave the interpreter as it was."""

from __future__ import annotations

import gc
import importlib.util
import subprocess
import sys

import pytest

from posttrain.core.imports import quick_imports


def test_what_is_hidden_is_back_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "scipy", raising=False)
    with quick_imports():
        assert importlib.util.find_spec("scipy") is None
        assert not gc.isenabled()
    assert importlib.util.find_spec("scipy") is not None
    assert gc.isenabled()


def test_what_was_loaded_before_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    marker = type(sys)("scipy")
    monkeypatch.setitem(sys.modules, "scipy", marker)
    with quick_imports():
        assert sys.modules["scipy"] is marker


def test_an_error_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "scipy", raising=False)
    with pytest.raises(ValueError), quick_imports():
        raise ValueError
    assert "scipy" not in sys.modules and gc.isenabled()


def test_a_stage_loads_without_what_no_stage_uses() -> None:
    code = (
        "import sys\n"
        "from posttrain.pipeline.run import _function\n"
        "_function('sft', None)\n"
        "print('torch' in sys.modules, 'scipy.optimize' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
