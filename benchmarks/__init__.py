"""Ours beside its peers, on the same work, in the same run: `python -m benchmarks --help`.

A lane (lanes.py) is one kind of work and the programs that do it. A block runs every program of a lane in fresh processes,
forwards and then backwards, so that a machine that drifts drifts for all; blocks are the unit of the statistics. Workers of
other libraries run in environments of their own and import nothing of posttrain.
"""
