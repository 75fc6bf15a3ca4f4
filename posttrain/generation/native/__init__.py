"""The native engine: transformers' modules, our attention, our scheduler. `NativeEngine` is all a caller needs."""

from posttrain.generation.native.engine import NativeEngine
from posttrain.generation.native.scheduler import Request

__all__ = ["NativeEngine", "Request"]
