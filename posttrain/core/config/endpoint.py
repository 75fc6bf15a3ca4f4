"""A model that answers over HTTP, as OpenAI's chat completions do: teachers now, judges by the same settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from posttrain.core.config.checks import STRICT, not_negative, positive


@dataclass(frozen=True, kw_only=True)
class EndpointConfig:
    """Any server that speaks OpenAI's chat completions: vLLM, llama.cpp, a provider."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    url: str
    """Its base, such as http://127.0.0.1:8000/v1; `/chat/completions` is put behind it."""
    model: str
    """The model's name there."""
    token_env: str | None = None
    """Name of the environment variable that holds the access token. The token itself is never written anywhere."""
    concurrency: int = 8
    """Requests under way at once."""
    timeout_s: float = 120.0
    """Seconds one try may take, from the connection to the last byte."""
    retries: int = 5
    """Further tries after a broken connection, a timeout, or HTTP 408, 429 or 5xx. Each waits longer, or as the server says."""
    give_up_after: int = 8
    """Unanswered requests in a row after which nothing is asked for half a minute."""

    def __post_init__(self) -> None:
        positive(concurrency=self.concurrency, timeout_s=self.timeout_s, give_up_after=self.give_up_after)
        not_negative(retries=self.retries)
        if set("@?#") & set(self.url):  # first, so that no error repeats a secret
            raise ValueError("url holds more than a host and a path; expected access data in the variable that token_env names")
        try:
            parts = urlsplit(self.url)
            whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            whole = False
        if not whole:
            raise ValueError(f"url is {self.url!r}; expected http:// or https:// and a host")
        if not self.model:
            raise ValueError("model is empty; expected the model's name at the endpoint")
