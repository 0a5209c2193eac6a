"""Loading of transformers' encoders and tokenizers from local folders."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from pipeline.models.checks import check_finite, check_loaded, position_rows
from pipeline.models.families import FAMILIES, FIRST_TOKEN, family_of

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# Threads of PyTorch wait for each other by spinning, which beside one busy program makes a training
# several times slower (bench/neighbours.py). libgomp reads this when PyTorch is loaded
# (https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html).
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

MEAN_POOLING = "bertline_mean_pooling"  # model_type of modeling_mean_pooling.py


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """Read a model's config.json; messages call the model `name`. Of a classifier on the mean of an
    encoder's states, return the encoder's.

    Raises UserError for a model that is not an encoder of one of the FAMILIES.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{name}: config.json cannot be read ({error}): get it again") from None
    if config.get("model_type") == MEAN_POOLING:
        config = config["text_config"]
    kind = config.get("model_type")
    if kind not in FAMILIES or config.get("is_decoder") or config.get("is_encoder_decoder"):
        raise UserError(
            f"{name}: config.json has model_type {kind!r}, which is not a supported encoder: use"
            f" one of {', '.join(FAMILIES)}"
        )
    return dict(config)


def is_mean_pooling(folder: Path) -> bool:
    """True for the folder of a classifier on the mean of an encoder's states."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return bool(config.get("model_type") == MEAN_POOLING)


def most_tokens(folder: Path, wanted: int, name: str) -> int:
    """Return the longest input of a base in tokens. Raises UserError if `wanted` is longer."""
    config = read_config(folder, name)
    if "max_position_embeddings" not in config:
        rows = position_rows(folder, name)
        told = "" if rows is None else f": {rows}, as in its weights"
        raise UserError(f"{name}: config.json has no max_position_embeddings: write it{told}")
    most = int(config["max_position_embeddings"]) - family_of(config).lost_positions(config)
    if wanted > most:
        raise UserError(f"{name}: takes at most {most} tokens: set tokenize.max_length to {most}")
    return most


def load_tokenizer(folder: Path, name: str, **settings: Any) -> Any:
    """Load the fast tokenizer of a model folder; `settings` overrule its own.

    Raises UserError if there is none, or it has no token for padding.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True, **settings
        )
    except Exception as error:  # of the library tokenizers, which has no class of its own
        raise UserError(f"{name}: its tokenizer cannot be loaded: {_first_line(error)}") from None
    if not tokenizer.is_fast:
        raise UserError(
            f"{name}: its tokenizer, a {type(tokenizer).__name__}, has no fast form: give a base"
            " with a tokenizer.json"
        )
    if tokenizer.pad_token is None:
        raise UserError(
            f"{name}: its tokenizer has no token for padding: write pad_token into"
            " tokenizer_config.json"
        )
    # without the folder's path: two clones must save the same bytes
    tokenizer.name_or_path = ""
    for name in ("name_or_path", "is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(name, None)
    return tokenizer


def unknown_share(tokenizer: Any, texts: Iterable[str]) -> float:
    """Return the share of the tokens of some texts that a tokenizer's vocabulary does not have: 0
    for vocabularies of bytes. `tokenizer` is one of the library tokenizers."""
    names = ("[UNK]", "<unk>")
    unknown = {number for name in names if (number := tokenizer.token_to_id(name)) is not None}
    found = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    tokens = [token for encoding in found for token in encoding.ids]
    return sum(token in unknown for token in tokens) / max(len(tokens), 1)


def pooling_of(folder: Path) -> str:
    """Return the pooling that a base was trained with, "mean" over tokens or "cls" (the first
    token), by sentence-transformers' files in its folder, else by its configuration."""
    _, pooling = sentence_modules(folder)
    if pooling is None:
        config = read_config(folder, str(folder))
        pooling = config.get("classifier_pooling", family_of(config).pooling)
        return "cls" if pooling in FIRST_TOKEN else "mean"
    return "mean" if pooling == "mean" else "cls"


def sentence_modules(folder: Path) -> tuple[list[str], str | None]:
    """Return the types of the modules that sentence-transformers saved, and the mode of Pooling.

    The mode is `pooling_mode` or, in older folders, the switches that are on, joined by " and ".
    Returns an empty list and None if the folder has no such modules.
    """
    try:
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        kinds = {each["type"].rpartition(".")[2]: each["path"] for each in modules}
        config = json.loads((folder / kinds["Pooling"] / "config.json").read_text(encoding="utf-8"))
        modes = config.get("pooling_mode") or [
            name.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
            for name, on in config.items()
            if name.startswith("pooling_mode_") and on
        ]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return [], None
    return list(kinds), modes if isinstance(modes, str) else " and ".join(modes) or "mean"


def load(kind: Any, folder: Path, name: str, *, new_head: bool = False, **settings: Any) -> Any:
    """Load a model of a transformers class from a local folder; messages call the model `name`.

    `settings` go to its configuration (dropout, attention implementation). With `new_head` the
    layers behind the encoder may be missing: they are then random. Raises UserError if the weights
    cannot be loaded, or other ones are missing.
    """
    import torch
    from safetensors import SafetensorError
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    if "attn_implementation" in settings and not family_of(_encoder_config(folder)).sdpa:
        settings["attn_implementation"] = "eager"
    settings = _of_encoder(kind, folder, settings)
    try:
        model, loading = kind.from_pretrained(
            folder,
            dtype=torch.float32,  # whatever the file has: training may lower it
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,  # models/bases.py fetches from the hub
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **settings,
        )
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{name}: model.safetensors cannot be loaded ({_first_line(error)}):"
            " it may be cut short, get it again"
        ) from None
    check_loaded(model, loading, name, new_head=new_head)
    check_finite(model, name)
    model.config._name_or_path = ""
    return model


def _encoder_config(folder: Path) -> Any:
    """Return the encoder's part of a model's config.json."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config.get("text_config") or config.get("encoder") or config


def _of_encoder(kind: Any, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that load a class of transformers from the encoder of a classifier on its
    mean; of another model, return `settings`."""
    from transformers import AutoConfig

    prefix = getattr(kind, "base_model_prefix", None)
    if not is_mean_pooling(folder) or prefix == "encoder":
        return settings
    settings = dict(settings)
    attention = settings.pop("attn_implementation", None)
    config = AutoConfig.for_model(**read_config(folder, str(folder)) | settings)
    prefix = prefix or kind._model_mapping[type(config)].base_model_prefix
    return {
        "config": config,
        "key_mapping": {r"^encoder\.": f"{prefix}."},
        "attn_implementation": attention,
    }


def encoder_config(model: Any) -> Any:
    """Return the configuration of a model's encoder, which is mostly the model's own."""
    return getattr(model.config, "text_config", None) or model.config


def pooling(model: Any) -> str:
    """Pooling of a model's sequence head: "cls" or "mean"."""
    pooled = getattr(encoder_config(model), "classifier_pooling", "cls")
    return "cls" if pooled in FIRST_TOKEN else "mean"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
