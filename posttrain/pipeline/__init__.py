"""From a recipe file to a finished run: read, check, plan, skip what is done, resume what is not, record the lineage.

Imports no torch: a stage's own module is loaded when the stage runs.
"""
