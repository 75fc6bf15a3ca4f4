"""posttrain: declare a post-training recipe, run it, know whether it worked."""

__version__ = "0.1.0"
