"""One training example of a recipe, rendered for its model, with the trained part coloured. No torch.

The tokenizer's files are read directly, because transformers brings torch with it.
"""

from __future__ import annotations

import datetime
import json
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posttrain.core.errors import UserError

if TYPE_CHECKING:
    from posttrain.core.config import Recipe
    from posttrain.core.types import Example

LONGEST = 400


class Tokenizer:
    """What chat.renderer reads of a transformers tokenizer, from the same files."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer as Backend

        settings: dict[str, Any] = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        template = folder / "chat_template.jinja"
        self.name_or_path = str(folder)
        self.backend_tokenizer = Backend.from_file(str(folder / "tokenizer.json"))
        self.chat_template = template.read_text(encoding="utf-8") if template.exists() else settings.get("chat_template")
        self.added_tokens_decoder = self.backend_tokenizer.get_added_tokens_decoder()
        names = {role: _text(settings.get(role)) for role in ("bos_token", "eos_token", "pad_token", "unk_token")}
        ids = {role: self.backend_tokenizer.token_to_id(name) for role, name in names.items() if name}
        self.eos_token_id, self.pad_token_id = ids.get("eos_token"), ids.get("pad_token")
        self.bos_token, self.eos_token = names["bos_token"], names["eos_token"]
        self.all_special_ids = sorted({number for number in ids.values() if number is not None})

    def apply_chat_template(self, conversation: Any, *, add_generation_prompt: bool = False, **options: Any) -> str:
        """The template's text, rendered as transformers does it: sandboxed, with its two helpers."""
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
        environment.globals["raise_exception"] = _refused
        environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
        given = {key: value for key, value in options.items() if key not in ("tokenize", "return_dict")}
        special = {"bos_token": self.bos_token, "eos_token": self.eos_token}
        template = environment.from_string(self.chat_template or "")
        return template.render(messages=conversation, add_generation_prompt=add_generation_prompt, **special, **given)


def training_example(recipe: Recipe) -> str:
    """Rich markup of the first training row of the first SFT stage; empty if there is none to show yet."""
    from posttrain.pipeline.models import directory

    example = _first_row(recipe)
    folder = directory(recipe.model)
    if example is None or folder is None or not (folder / "tokenizer_config.json").is_file():
        return ""
    from posttrain.chat import preview, renderer

    render = renderer(Tokenizer(folder))
    tokens, mask = render.example(example)
    shown = preview(tokens[:LONGEST], mask[:LONGEST], render)
    return f"{shown}\n[dim]{_counts(mask)}[/dim]"


def _first_row(recipe: Recipe) -> Example | None:
    from posttrain.core.config import DataSource
    from posttrain.core.config.base import is_path
    from posttrain.data import examples
    from posttrain.pipeline.references import inner_settings, is_builtin

    for stage in recipe.stages:
        for source, _ in inner_settings(stage.config):
            if isinstance(source, DataSource) and (is_path(source.source) or is_builtin(source.source)):
                return next(iter(examples([source], references={}, base=Path(), seed=recipe.seed)), None)
    return None


def _refused(message: str) -> None:
    raise UserError(f"the chat template refuses the conversation: {message}.", fix="Use another model or other data.")


def _counts(mask: Sequence[int] | array[int]) -> str:
    return f"{sum(mask)} of {len(mask)} tokens are learnt"


def _text(token: Any) -> str | None:
    """A special token's text: a string, or a mapping in older files."""
    if isinstance(token, dict):
        return str(token["content"])
    if token is not None and not isinstance(token, str):
        raise UserError(f"tokenizer_config.json has a special token {token!r}; expected text.", fix="Save the tokenizer again.")
    return token
