"""Worlds a model acts in over several turns: tools to call, environments of your own.

A factory makes one environment an episode; rollouts/ plays it. A new kind is a settings class in
core/config/environments.py and one line in ENVIRONMENTS (environments/build.py).
"""

from posttrain.environments.build import ENVIRONMENTS, Prepared, build

__all__ = ["ENVIRONMENTS", "Prepared", "build"]
