"""Embedder of texts: a tokenizer and the encoder of a model folder, in one of three runtimes."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import UserError
from pipeline.core.files import atomic_write, sha256_of
from pipeline.core.log import Log, no_log
from pipeline.core.records import Record
from pipeline.models.encoders import most_tokens, pooling_of, read_config, sentence_modules
from pipeline.runtimes.onnx_runtime import OnnxModel
from pipeline.tasks.base.encoding import Encoder

Floats = npt.NDArray[np.float32]
Pooling = Literal["cls", "mean", "max"]
Level = Literal["text", "token"]
Runtime = Literal["pytorch", "onnx-fp32", "onnx-int8"]
TOKENIZER = "tokenizer.json"
LENGTHS = {
    "sentence_bert_config.json": "max_seq_length",
    "tokenizer_config.json": "model_max_length",
}
BATCH_TOKENS = {"cpu": 512, "cuda": 32_768}  # on a CPU so few that a batch stays in its cache
TOKENIZED = 512  # texts tokenized at once: an encoding takes more memory than its text
SPARED = 2  # first layers left partly in fp32: two fifths of the error for a fifth of the time
PACKAGES = ("onnx", "onnxruntime-gpu", "torch", "transformers")  # a graph depends on their versions


class Extraction(Record):
    """Settings of an embedder: everything that an embedding depends on besides its text."""

    model: str
    config_sha256: str
    weights_sha256: str
    tokenizer_sha256: str
    layers: tuple[int, ...]
    """Layers that are averaged: 0 is the word embeddings, 1 the first layer above them."""
    pooling: Pooling | None
    """Pooling of a text's tokens; None if each token has an embedding."""
    normalized: bool
    """True if embeddings are scaled to length 1."""
    max_length: int
    """Maximum number of tokens; longer texts are cut at their end."""
    runtime: Runtime
    width: int


@dataclass(frozen=True)
class Options:
    """Options of an extraction; None is the default, which depends on the model."""

    layers: str | None = None
    """Layers to average, such as `-1`, `0`, `-4:` or `1,2`."""
    pooling: str | None = None
    """Pooling, or `own` for the one that the model was trained with."""
    level: Level = "text"
    """Unit that gets an embedding: a text or a token."""
    normalize: bool = True
    max_length: int | None = None
    runtime: Runtime | None = None


def settled(model: str, folder: Path, options: Options) -> Extraction:
    """Return the settings of an embedder with defaults filled in from the model folder.

    Raises UserError for options that the model does not support.
    """
    pooling, level, max_length = options.pooling, options.level, options.max_length
    config = read_config(folder, model)
    if not (folder / TOKENIZER).is_file():
        raise UserError(f"{model}: has no {TOKENIZER}: save a fast tokenizer there")
    layers = _layers(
        options.layers or "-1", int(config.get("num_hidden_layers") or config["n_layers"])
    )
    if level == "token" and pooling is not None:
        raise UserError("--pooling: applies to whole texts only: leave it out with --level token")
    if pooling in (None, "own"):
        pooling = _trained_pooling(folder, model)
    if level == "text" and pooling == "cls" and layers == (0,):
        raise UserError(
            "--layers 0: all texts have the same first token there: add --pooling mean or max"
        )
    most = most_tokens(folder, 0, model)
    if not Encoder(folder / TOKENIZER, most).encodings([("", "")])[0].ids:
        raise UserError(f"{model}: its {TOKENIZER} adds no special tokens: save it with them")
    if max_length is not None and not 8 <= max_length <= most:
        raise UserError(f"--max-length {max_length}: {model} takes 8 to {most} tokens")
    return Extraction(
        model=model,
        **digests(folder),
        layers=layers,
        pooling=None if level == "token" else cast(Pooling, pooling),
        normalized=options.normalize,
        max_length=max_length or min(_trained_length(folder), most),
        runtime=options.runtime or ("pytorch" if _has_gpu() else "onnx-fp32"),
        width=int(config.get("hidden_size") or config["dim"]),
    )


def digests(folder: Path) -> dict[str, str]:
    """Return the digests of the files of a model folder that embeddings depend on, by the fields
    of an Extraction."""
    return {
        "config_sha256": sha256_of(folder / "config.json"),
        "weights_sha256": sha256_of(folder / "model.safetensors"),
        "tokenizer_sha256": sha256_of(folder / TOKENIZER),
    }


def _layers(option: str, highest: int) -> tuple[int, ...]:
    """Parse `-1`, `0`, `-4:` (a slice as of a Python list) or `1,2`: layers from 0 to `highest`."""
    known = range(highest + 1)
    try:
        if ":" in option:
            start, end = (int(part) if part else None for part in option.split(":"))
            layers = list(known[start:end])
        else:
            layers = [known[int(part)] for part in option.split(",")]
    except (ValueError, IndexError):
        layers = []
    if not layers or len(set(layers)) < len(layers):
        raise UserError(
            f"--layers {option}: there are 0 (embeddings of words) to {highest}, or -1 for the"
            " last: write one, several with commas, or a slice as of a Python list (--layers=-4:)"
        )
    return tuple(sorted(layers))


def _trained_pooling(folder: Path, model: str) -> str:
    """Return the pooling that a model was trained with. Raises UserError for an unknown one."""
    modules, pooling = sentence_modules(folder)
    unknown = [name for name in modules if name not in ("Transformer", "Pooling", "Normalize")]
    if unknown or pooling not in (None, *get_args(Pooling)):
        what = f"the module {unknown[0]}" if unknown else f"the pooling {pooling!r}"
        raise UserError(
            f"{model}: was trained with {what}, which is not supported: choose --pooling cls, mean"
            " or max"
        )
    return pooling or pooling_of(folder)


def _trained_length(folder: Path) -> int:
    """Return the maximum length in tokens that sentence-transformers saved with the model, else
    512; newer versions save it as the tokenizer's."""
    for name, key in LENGTHS.items():
        try:
            return int(json.loads((folder / name).read_text(encoding="utf-8"))[key])
        except (OSError, ValueError, LookupError, TypeError, OverflowError):
            continue
    return 512


def _has_gpu() -> bool:
    return Path("/proc/driver/nvidia/version").exists()


@dataclass(frozen=True)
class Tokens:
    """Token ids of a text, as the runtimes take them."""

    ids: npt.NDArray[np.int32]
    cut: bool
    """True if the text is longer than these tokens."""
    spans: list[tuple[int, str, int, int]]
    """Index in `ids`, token, first character and end of each token that is not special; empty if
    texts are pooled."""
    types: int = 0  # all tokens belong to the first text
    targets: Sequence[int] = ()  # no token is masked

    def __len__(self) -> int:
        return len(self.ids)


class Embedder:
    """Tokenizer and encoder of a model folder on `threads` threads (0: all).

    `cache` is the folder of exported ONNX graphs. Raises UserError if weights are missing.
    """

    def __init__(
        self,
        extraction: Extraction,
        folder: Path,
        cache: Path,
        *,
        threads: int = 0,
        log: Log = no_log,
    ) -> None:
        self.extraction, by_token = extraction, extraction.pooling is None
        self.encoder = Encoder(folder / TOKENIZER, extraction.max_length, offsets=by_token)
        self.runtime: Any
        self.batch_tokens = BATCH_TOKENS["cuda" if _has_gpu() else "cpu"]
        if extraction.runtime == "pytorch":
            from pipeline.embeddings.extractor import TorchExtractor

            self.runtime = TorchExtractor(folder, *_arguments(extraction), threads=threads)
        else:
            padding = int(read_config(folder, extraction.model).get("pad_token_id") or 0)
            self.runtime = OnnxModel(_graph(extraction, folder, cache, log), padding, threads)

    def tokens(self, texts: Sequence[str]) -> list[Tokens]:
        return [
            tokens
            for start in range(0, len(texts), TOKENIZED)
            for tokens in self._tokens(texts[start : start + TOKENIZED])
        ]

    def _tokens(self, texts: Sequence[str]) -> Iterator[Tokens]:
        encodings = self.encoder.encodings([(text, "") for text in texts])
        for piece in self.encoder.cut_up(encodings):
            spans = []
            if self.extraction.pooling is None:
                known = zip(piece.keep, piece.sequences, piece.offsets, strict=True)
                for place, (index, sequence, span) in enumerate(known):
                    if sequence is not None:
                        spans.append((place, piece.encoding.tokens[index], *span))
            cut = len(piece.encoding) > self.extraction.max_length
            yield Tokens(np.asarray(piece.ids, np.int32), cut, spans)

    def embeddings(
        self, tokens: Sequence[Tokens], done: Callable[[int], None] = lambda _: None
    ) -> list[Floats]:
        """Return the embeddings of each text, (width,), or of its tokens, (tokens, width).

        Tokens include special ones. Batches hold texts of similar length. `done` is called with the
        number of texts embedded so far.
        """
        found: list[Floats] = [np.empty(0, np.float32)] * len(tokens)
        order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]), reverse=True)
        start = 0
        while start < len(order):
            rows = order[start : start + max(1, self.batch_tokens // len(tokens[order[start]]))]
            batch = [tokens[i] for i in rows]
            for i, embedding in zip(rows, self.runtime.logits(batch, len(batch)), strict=True):
                found[i] = embedding
            start += len(rows)
            done(start)
        return found


def _arguments(extraction: Extraction) -> tuple[str, tuple[int, ...], Pooling | None, bool]:
    """Arguments of a TorchExtractor after its folder."""
    return extraction.model, extraction.layers, extraction.pooling, extraction.normalized


def _graph(extraction: Extraction, folder: Path, cache: Path, log: Log) -> Path:
    """Return the path of the ONNX file of an extraction; export it if `cache` does not hold it."""
    from pipeline.stages.export import onnx, quantize

    depends_on = {
        **extraction.model_dump(
            include={"config_sha256", "weights_sha256", "layers", "pooling", "normalized"}
        ),
        "exporter": [sha256_of(Path(str(module.__file__))) for module in (onnx, quantize)],
        "extractor": sha256_of(Path(__file__).with_name("extractor.py")),
        "spared": SPARED,
        "packages": [version(name) for name in PACKAGES],
    }
    home = cache / sha256(json.dumps(depends_on).encode()).hexdigest()[:20]
    fp32, int8 = home / "fp32.onnx", home / "int8.onnx"
    if not fp32.exists():
        from pipeline.embeddings.extractor import TorchExtractor

        log.info(f"{extraction.model}: exporting it to ONNX, once")
        model = TorchExtractor(folder, *_arguments(extraction), attention="eager")
        with atomic_write(fp32) as temporary:
            onnx.export_fused(model, temporary)
    if extraction.runtime == "onnx-fp32":
        return fp32
    if not int8.exists():
        log.info(f"{extraction.model}: quantizing it to int8, once")
        with atomic_write(int8) as temporary:
            quantize.quantize(fp32, temporary, per_channel=True, reduce_range=True, spared=SPARED)
    return int8
