"""How good a model is, and how sure we are of it. Pure functions over rollout records; no model, no torch."""

from posttrain.evaluation.difference import Difference, difference
from posttrain.evaluation.lm_eval import lm_eval_files
from posttrain.evaluation.statistics import best_of_n_kl, interval, paired, pass_at_k, wilson
from posttrain.evaluation.summarise import Record, summarise

__all__ = [
    "Difference",
    "Record",
    "best_of_n_kl",
    "difference",
    "interval",
    "lm_eval_files",
    "paired",
    "pass_at_k",
    "summarise",
    "wilson",
]
