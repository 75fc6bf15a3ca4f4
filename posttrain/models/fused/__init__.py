"""The fast path through the body of Llama-shaped models: `fused_body` for training, `FusedBody` for the sampler.

Products that share their input are one product, elementwise chains are one function with its own gradient, frozen weights
lie in the layout the matrix library reads. Other architectures go through transformers' modules; tests hold both equal.
"""

from posttrain.models.fused.inference import FusedBody
from posttrain.models.fused.parts import parts_of
from posttrain.models.fused.training import fused_body

__all__ = ["FusedBody", "fused_body", "parts_of"]
