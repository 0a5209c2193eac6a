"""The pretrained encoders that recipes start from: in a package, in a folder or on the hub."""

from pathlib import Path

from pipeline.config import Settings
from pipeline.errors import UserError
from pipeline.files import sha256_of
from pipeline.sources.rows import locate

HUB = "hub:"


class BaseParams(Settings):
    """The pretrained encoder that a recipe starts from."""

    model: str
    """`package:NAME/FOLDER` in an installed package, a local folder, or `hub:NAME@REVISION`."""
    sha256: str | None
    """Digest of its model.safetensors, checked before every use; null leaves it unchecked."""
    watch: str
    """The path that DVC watches for a new base: the folder, or the versions file of a package."""


def base_folder(base: BaseParams) -> Path:
    """The local folder of a base model, its weights checked against the recipe's digest.

    The hub is asked only for `hub:` sources, whose revision must be given
    (https://huggingface.co/docs/huggingface_hub/package_reference/file_download).
    """
    folder = _from_hub(base.model) if base.model.startswith(HUB) else locate(base.model)
    weights = folder / "model.safetensors"
    for needed in ("config.json", "model.safetensors"):
        if not (folder / needed).is_file():
            raise UserError(f"{base.model}: holds no {needed}: give a saved encoder in safetensors")
    if base.sha256 is not None and (digest := sha256_of(weights)) != base.sha256:
        raise UserError(
            f"{base.model}: model.safetensors has the SHA-256 {digest}, not the recipe's"
            f" {base.sha256}: get the right file, or pin the new digest in base.sha256"
        )
    return folder


def _from_hub(source: str) -> Path:
    name, _, revision = source.removeprefix(HUB).partition("@")
    if not name or not revision:
        raise UserError(f"{source}: name the revision as hub:NAME@REVISION (a commit's hash)")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = ["*.json", "model.safetensors", "vocab.txt", "merges.txt", "*.model"]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{source}: cannot be had from the hub: {reason}") from None
