"""Why a model fails, what changed, what to train on next, and the report of a run. From records alone; never torch."""

from posttrain.diagnosis.codes import CODES, failure_code
from posttrain.diagnosis.compare import Comparison, compare
from posttrain.diagnosis.findings import Diagnosis, diagnose
from posttrain.diagnosis.patch import patch, task_weight

__all__ = ["CODES", "Comparison", "Diagnosis", "compare", "diagnose", "failure_code", "patch", "task_weight"]
