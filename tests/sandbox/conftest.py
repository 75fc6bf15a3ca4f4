"""One pool of each backend for all tests of this folder; a backend that this machine lacks is a skip by name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from require import require

from posttrain.sandbox.backends import choose
from posttrain.sandbox.pool import Pool


@pytest.fixture(scope="package", params=["embedded", "bubblewrap"])
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    require({"embedded": "landlock", "bubblewrap": "bwrap"}[request.param])
    pool = Pool.of(choose(request.param), size=2)
    yield pool
    pool.close()


@pytest.fixture(scope="package")
def embedded() -> Iterator[Pool]:
    """For what is slow and the same in both backends: `make sandbox-soak` runs it in both."""
    require("landlock")
    pool = Pool.of(choose("embedded"), size=2)
    yield pool
    pool.close()
