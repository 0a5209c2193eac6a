"""Conversion of saved encoders of other formats to one model.safetensors and a tokenizer.json.

Older checkpoints have pickled weights, weights in several files, or the vocabulary of a slow
tokenizer alone (https://huggingface.co/docs/transformers/fast_tokenizers).
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from pipeline.core.errors import UserError
from pipeline.core.files import atomic_write, sha256_of
from pipeline.core.log import Log
from pipeline.models.checks import word_rows
from pipeline.models.encoders import load_tokenizer

if TYPE_CHECKING:
    import torch

SAFETENSORS, PICKLE = "model.safetensors", "pytorch_model.bin"
TOKENIZER = "tokenizer.json"


def weight_files(folder: Path, name: str) -> list[Path]:
    """Return the files that hold the weights of a saved encoder, in order of their names.

    Raises UserError if there are none, or one is missing.
    """
    for file in (SAFETENSORS, PICKLE):
        if (folder / file).is_file():
            return [folder / file]
        index = folder / f"{file}.index.json"
        if index.is_file():
            return _shards(index, name)
    raise UserError(f"{name}: holds no {SAFETENSORS} or {PICKLE}: give a folder with weights")


def _shards(index: Path, name: str) -> list[Path]:
    try:
        files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        shards = [index.with_name(Path(file).name) for file in sorted(files)]
        if not shards:
            raise ValueError("it names no file")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{name}: {index.name} cannot be read ({error}): get it again") from None
    for shard in shards:
        if not shard.is_file():
            raise UserError(f"{name}: {index.name} names {shard.name}, which is missing: get it")
    return shards


def digest_of(files: Sequence[Path]) -> str:
    """Return the SHA-256 of files one behind the other, as of `cat FILES | sha256sum`."""
    if len(files) == 1:
        return sha256_of(files[0])
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def converted(folder: Path, name: str, bases: Path, log: Log) -> Path:
    """Return the folder in `bases` with the conversion of a saved encoder, and write it if it is
    not there; messages call the encoder `name`. A folder that needs none is returned itself.

    Raises UserError for weights and tokenizers that cannot be converted.
    """
    weights = weight_files(folder, name)
    slow = not (folder / TOKENIZER).is_file()
    if weights == [folder / SAFETENSORS] and not slow:
        return folder
    target = bases / f"converted-{_key(folder, weights)}"
    bases.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if target.exists():
            return target
        with atomic_write(target) as out:
            out.mkdir()
            _copy_settings(folder, out)
            _write_weights(weights, out / SAFETENSORS, name)
            if slow:
                _write_tokenizer(folder, out, name)
    given = "a slow tokenizer" if weights == [folder / SAFETENSORS] else weights[0].name
    log.info(f"{name}: {given} is converted, in {target}")
    return target


def _key(folder: Path, weights: Sequence[Path]) -> str:
    """Return a digest of all that a conversion reads, but for the names of weights."""
    small = [
        path
        for pattern in ("*.json", "*/config.json", "*.txt", "*.model", "bpe.codes")
        for path in sorted(folder.glob(pattern))
    ]
    listing = [f"{path.relative_to(folder)} {sha256_of(path)}" for path in small]
    return hashlib.sha256("\n".join([*listing, digest_of(weights)]).encode()).hexdigest()[:16]


def _copy_settings(folder: Path, out: Path) -> None:
    for pattern in ("*.json", "*/config.json"):  # the second of sentence-transformers' modules
        for path in folder.glob(pattern):
            if not path.name.endswith(".index.json"):
                target = out / path.relative_to(folder)
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, target)


def _write_weights(files: Sequence[Path], out: Path, name: str) -> None:
    """Write tensors to one safetensors file, under the names and in the types that they have."""
    from safetensors.torch import save_file

    if files[0].name == SAFETENSORS:
        shutil.copyfile(files[0], out)
        return
    tensors: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for file in files:
        for key, tensor in _tensors(file, name).items():
            place = tensor.untyped_storage().data_ptr()
            # safetensors takes no tensors that share memory
            tensors[key] = tensor.clone() if place in seen else tensor.contiguous()
            seen.add(place)
    save_file(dict(sorted(tensors.items())), out, {"format": "pt"})


def _tensors(file: Path, name: str) -> "dict[str, torch.Tensor]":
    """Read a file of weights. Raises UserError for a damaged one, and for a pickle that holds
    anything else, which could run code (https://pytorch.org/docs/stable/notes/serialization.html).
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    found: Any
    try:
        if file.suffix == ".safetensors":
            found = load_file(file)
        else:
            found = torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError:
        found = None
    except (SafetensorError, OSError, EOFError, RuntimeError, ValueError, LookupError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{name}: {file.name} cannot be loaded ({reason}): it may be cut short, get it again"
        ) from None
    if not isinstance(found, dict) or not all(isinstance(t, torch.Tensor) for t in found.values()):
        raise UserError(
            f"{name}: {file.name} holds other objects than weights, which could run code: save the"
            " model as safetensors where it comes from"
        )
    return {key: tensor.detach() for key, tensor in found.items()}


def _write_tokenizer(folder: Path, out: Path, name: str) -> None:
    """Write the tokenizer.json of a folder that has only the vocabulary of a slow tokenizer.

    transformers makes an empty tokenizer of a vocabulary that it does not understand.
    """
    tokenizer = load_tokenizer(folder, name, **_case(folder))
    tokenizer.save_pretrained(out)
    rows = word_rows(out, name)
    if rows is not None and len(tokenizer) < rows / 2:
        raise UserError(
            f"{name}: its tokenizer cannot be converted: of {rows:,} tokens {len(tokenizer):,} were"
            f" read: save the {TOKENIZER} of the same model beside its weights"
        )


def _case(folder: Path) -> dict[str, bool]:
    """Return the setting for letter case of a vocabulary of words, if its folder has none: of a
    vocabulary without capital letters, texts are in lower case."""
    settings, vocabulary = folder / "tokenizer_config.json", folder / "vocab.txt"
    if not vocabulary.is_file() or (
        settings.is_file() and "do_lower_case" in settings.read_text(encoding="utf-8")
    ):
        return {}
    words = vocabulary.read_text(encoding="utf-8").splitlines()
    cased = any(word != word.lower() for word in words if not word.startswith(("[", "<")))
    return {"do_lower_case": not cased}
