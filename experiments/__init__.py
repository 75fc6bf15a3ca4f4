"""Experiments with stated hypotheses: what is compared, at what budget, and what came out, whichever way."""
