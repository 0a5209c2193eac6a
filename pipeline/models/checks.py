"""Checks of a saved base before work begins: its weights, its tokenizer and their sizes fit."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from pipeline.models.families import BERT, FAMILIES

POINTER = b"version https://git-lfs.github.com/spec/"
WEIGHTS = ("*.safetensors", "*.bin", "*.index.json")
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "bpe.codes", "*.model")
POOLER = "pooler"
LARGEST_HEADER = 100_000_000  # bytes of a safetensors file


def check_given(folder: Path, name: str) -> None:
    """Raise UserError for a folder without the configuration or the tokenizer of an encoder, and
    for pointers in place of files; messages call the base `name`."""
    if not (folder / "config.json").is_file():
        raise UserError(f"{name}: holds no config.json: give the folder of a saved encoder")
    for pattern in (*WEIGHTS, "config.json", *TOKENIZERS):
        for path in sorted(folder.glob(pattern)):
            if _is_pointer(path):
                raise UserError(
                    f"{name}: {path.name} is a pointer of Git LFS, not the file: git lfs pull in"
                    " its folder"
                )
    if not any(next(folder.glob(pattern), None) for pattern in TOKENIZERS):
        raise UserError(
            f"{name}: holds no tokenizer: save tokenizer.json of the same model beside its weights"
        )


def check_saved(folder: Path, name: str) -> None:
    """Raise UserError for a model.safetensors, tokenizer.json and config.json that are not whole or
    do not fit each other; messages call the base `name`."""
    rows = word_rows(folder, name)
    tokens = _vocabulary(folder / "tokenizer.json", name)
    if rows is not None and tokens > rows:
        raise UserError(
            f"{name}: tokenizer.json has {tokens:,} tokens, the embeddings have {rows:,} rows: save"
            " the model after model.resize_token_embeddings(len(tokenizer))"
        )
    config = _config(folder, name)
    positions, most = position_rows(folder, name), config.get("max_position_embeddings")
    if positions is not None and most is not None and positions != most:
        raise UserError(
            f"{name}: config.json has max_position_embeddings {most}, the weights have {positions}"
            " positions: give config.json and weights of the same model"
        )
    if config.get("pad_token_id", 0) is None:
        raise UserError(
            f"{name}: config.json has no pad_token_id: write the number of the tokenizer's padding"
        )


def word_rows(folder: Path, name: str) -> int | None:
    """Return the number of tokens in the word embeddings of a model; None without such weights."""
    family = FAMILIES.get(_config(folder, name).get("model_type", ""), BERT)
    return _rows(folder, family.words, name)


def position_rows(folder: Path, name: str) -> int | None:
    """Return the number of positions in the weights of a model; None if it has no such weights."""
    return _rows(folder, "position_embeddings.weight", name)


def _rows(folder: Path, end: str, name: str) -> int | None:
    shapes = shapes_of(folder / "model.safetensors", name)
    return next((shape[0] for key, shape in shapes.items() if key.endswith(end)), None)


def _config(folder: Path, name: str) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return dict(config.get("text_config") or config)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{name}: config.json cannot be read ({error}): get it again") from None


def _is_pointer(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(POINTER)) == POINTER


def shapes_of(path: Path, name: str) -> Mapping[str, tuple[int, ...]]:
    """Return the shape of each tensor in a safetensors file
    (https://huggingface.co/docs/safetensors). Raises UserError if its header cannot be read."""
    try:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            if size > LARGEST_HEADER:
                raise ValueError(f"a header of {size:,} bytes")
            header = json.loads(file.read(size))
        return {n: tuple(each["shape"]) for n, each in header.items() if n != "__metadata__"}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, struct.error) as error:
        raise UserError(
            f"{name}: {path.name} cannot be loaded ({error}): it may be cut short, get it again"
        ) from None


def _vocabulary(path: Path, name: str) -> int:
    """Return the number of tokens of a tokenizer.json."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises no other class
        raise UserError(f"{name}: tokenizer.json cannot be read ({error}): get it again") from None
    return max(tokenizer.get_vocab().values(), default=-1) + 1


def check_finite(model: Any, name: str) -> None:
    """Raise UserError for weights that are not numbers, which would spoil every answer."""
    for parameter, values in model.named_parameters():
        if not bool(values.isfinite().all()):
            raise UserError(f"{name}: {parameter} holds NaN or infinity: get the weights again")


def check_loaded(model: Any, loading: Mapping[str, Any], name: str, *, new_head: bool) -> None:
    """Raise UserError for weights that transformers found missing, or of another shape, and has
    filled at random: of the encoder or, without `new_head`, of the head too.

    `loading` is what `from_pretrained` tells of its loading. Weights of a pooler may be missing
    where a head is new or there is none: encoders are saved without those that no head reads.
    """
    prefix = f"{model.base_model_prefix}."
    headed = model.base_model is not model

    def counts(key: str) -> bool:
        if POOLER in key.split("."):
            return headed and not new_head
        return not new_head or not headed or key.startswith(prefix)

    if missing := sorted(filter(counts, loading["missing_keys"])):
        raise UserError(
            f"{name}: model.safetensors lacks {len(missing)} of the weights that config.json names,"
            f" such as {missing[0]}: give a folder that holds a whole encoder"
        )
    if other := sorted(each for each in loading["mismatched_keys"] if counts(each[0])):
        key, found, expected = other[0]
        raise UserError(
            f"{name}: {key} has the shape {tuple(found)}, by config.json {tuple(expected)}: give"
            " config.json and weights of the same model"
        )
