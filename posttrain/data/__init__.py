"""Files -> typed rows: read, recognise, mix, split, and keep training and evaluation apart."""

from posttrain.data.description import Description, describe
from posttrain.data.sources import examples, read_examples
from posttrain.data.tasks import load_tasks, read_tasks, write_tasks

__all__ = ["Description", "describe", "examples", "load_tasks", "read_examples", "read_tasks", "write_tasks"]
