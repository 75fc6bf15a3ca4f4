"""Role "repository": pytest over trusted test files, while the package under test lives in the worker.

The tests import the package as ever; what they get stands in for it (remote.py), so this process never loads a file that a model
wrote, and the report is pytest's own. Needs pytest among the packages. Fails for tests that patch the package, derive
from its classes, or hand functions to it.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from posttrain.sandbox.inside.program import write_files
from posttrain.sandbox.inside.remote import Link, stand_in
from posttrain.sandbox.inside.tester import ANSWERS, QUESTIONS, WHY, give
from posttrain.sandbox.inside.values import Channel, Gone

ARGUMENTS = [
    "-q",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:faulthandler",
    "--rootdir=.",
    "--import-mode=importlib",
    "--continue-on-collection-errors",
]


class Report:
    """A pytest plugin that keeps each test's outcome by its id."""

    def __init__(self) -> None:
        self.outcomes: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        before = self.outcomes.get(report.nodeid, {"outcome": "passed"})
        outcome = "xfail" if hasattr(report, "wasxfail") else report.outcome
        if before["outcome"] == "passed":
            why = "" if outcome == "passed" else str(report.longrepr or "")[-WHY:]
            self.outcomes[report.nodeid] = {"outcome": outcome, "why": why}

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.outcomes[report.nodeid] = {"outcome": "collection failed", "why": str(report.longrepr)[-WHY:]}


def repository(payload: Mapping[str, Any], ready: Callable[[], None]) -> None:
    write_files(payload["files"])
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.path.append(os.getcwd())
    link = Link(Channel(ANSWERS, QUESTIONS), objects=True)
    pytest = importlib.import_module("pytest")
    ready()
    try:
        link.loaded()
    except Gone as gone:
        give({"tests": [], "loaded": str(gone)})
    stand_in(link, payload["modules"])
    report = Report()
    chosen = [
        test for test in payload["tests"] if os.path.isdir(test) or (test.endswith(".py") and not test.endswith("conftest.py"))
    ]
    pytest.main([*ARGUMENTS, *chosen], plugins=[report])
    give(
        {
            "tests": [
                {"name": name, "passed": each["outcome"] == "passed", "why": each["why"] or each["outcome"]}
                for name, each in report.outcomes.items()
            ]
        }
    )
