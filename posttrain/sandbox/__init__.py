"""Runs model-written code: it reads nothing, reaches nothing, outlives nothing, and cannot forge its own verdict.

    outcome = run("print(2 + 2)")                      # in a sandbox that has proven itself, or SandboxUnavailable
    outcome = await run_async(source, stdin="3 4", limits=Limits(cpu_s=2))

docs/sandbox.md says what is contained, what is not, and how to check.
"""

from __future__ import annotations

from posttrain.sandbox.backends import Backend, choose
from posttrain.sandbox.limits import Limits, Outcome
from posttrain.sandbox.run import close, run, run_async, shared_pool

__all__ = ["Backend", "Limits", "Outcome", "choose", "close", "run", "run_async", "shared_pool"]
