"""Imports at less cost leave the interpreter as it was."""

from __future__ import annotations

import gc
import importlib.util
import subprocess
import sys
import weakref

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


def test_garbage_of_before_and_within_is_still_found() -> None:
    """A run loads several stages: a model that the one before left in a cycle must not stay for good."""

    class Model:
        def __init__(self) -> None:
            self.itself = self

    before = weakref.ref(Model())
    with quick_imports():
        within = weakref.ref(Model())
        assert within() is not None
    gc.collect()
    assert before() is None and within() is None


def test_a_stage_loads_without_what_no_stage_uses() -> None:
    code = (
        "import sys\n"
        "from posttrain.pipeline.run import _function\n"
        "_function('sft', None)\n"
        "print('torch' in sys.modules, 'scipy.optimize' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
