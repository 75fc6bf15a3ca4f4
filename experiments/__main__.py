"""The command line: python -m experiments [--seeds N] [--out DIR] [--quick]. Goes on where it stopped; writes RESULTS.md."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from experiments import report, reward_sources
from experiments.recipe import QUICK, Budget

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments", description="Reward from a verifier, a judge and an environment."
    )
    parser.add_argument("--seeds", type=int, default=2, metavar="N", help="runs, seeded 0 to N - 1")
    parser.add_argument("--out", type=Path, default=HERE / "out", metavar="DIR", help="where the runs are kept")
    parser.add_argument("--quick", action="store_true", help="a toy learns for two steps: does everything run?")
    asked = parser.parse_args()
    if asked.seeds < 1:
        parser.error(f"--seeds {asked.seeds}: expected at least 1")
    budget = QUICK if asked.quick else Budget()
    out = asked.out / "quick" if asked.quick else asked.out
    try:
        seeds = {str(seed): reward_sources.found(reward_sources.run(out, budget, seed)) for seed in range(asked.seeds)}
    except subprocess.CalledProcessError as failed:  # the run has said why
        sys.exit(failed.returncode)
    record = reward_sources.keep(out, seeds, budget)
    text = report.page(record)
    place = out / "RESULTS.md" if asked.quick else HERE / "RESULTS.md"
    place.write_text(text, encoding="utf-8")
    print(text)
    print(f"written: {place}")


main()
