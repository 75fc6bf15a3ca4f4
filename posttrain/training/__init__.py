"""Loops that change weights, and the one driver that records, checkpoints, stops and resumes all of them."""
