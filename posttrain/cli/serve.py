"""serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posttrain.cli.options import RUNS, Runs, model_reference


def serve(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A known name, a directory, run:<name>/<stage>, or a hub id.")],
    host: Annotated[str, typer.Option(help="Where to listen; anything but loopback needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    token_env: Annotated[
        str | None, typer.Option("--token-env", help="Environment variable that holds the token to ask for.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="The model's name for clients; MODEL's last part if not given.")
    ] = None,
    runs: Runs = RUNS,
) -> None:
    """Offer a model to OpenAI clients: /v1/chat/completions with streaming and log-probabilities, and /v1/models."""
    from posttrain.pipeline.models import require_model
    from posttrain.pipeline.references import artefact, is_run, run_stage
    from posttrain.serving.run import require_safe, serve, token_of

    token = token_of(token_env)
    require_safe(host, token)
    reference = model_reference(model)
    if is_run(reference):
        reference = artefact(run_stage(reference, runs), "model")
    require_model(reference)
    serve(reference, name or Path(model).name, host=host, port=port, token=token, say=lambda text: print(text, flush=True))
