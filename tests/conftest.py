"""Models for the tests: a toy made here, and the real SmolLM2-135M where a test says why it needs it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from posttrain.models.load import Loaded, load
from posttrain.models.toy import make_toy

torch.set_num_threads(1)  # tiny operations on two threads wait for each other on a busy machine


@pytest.fixture(scope="session")
def toy_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy(tmp_path_factory.mktemp("toy") / "model", size="tiny")


@pytest.fixture
def toy(toy_path: Path) -> Loaded:
    """A fresh toy model in fp32, so that sums can be compared exactly."""
    return load(str(toy_path), dtype=torch.float32)


@pytest.fixture(scope="session")
def smollm2() -> Loaded:
    """The real model in bf16. Shared: a test must not change it."""
    return load("smollm2-135m-instruct")
