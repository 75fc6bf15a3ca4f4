"""One file per kind of stage, `stages/<kind>.py`, with `run(config, context) -> StageResult`: builds the parts, runs the loop,
returns artefacts. The only place where all parts meet."""
