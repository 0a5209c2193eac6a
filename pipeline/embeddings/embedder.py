"""From texts to embeddings: a tokenizer, and the encoder of a model folder in one of three
runtimes."""

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
BATCH_TOKENS = {"cpu": 512, "cuda": 32_768}  # what a processor computes stays in its cache
TOKENIZED = 512  # texts at once: what the tokenizer says of each takes more memory than its text
SPARED = 2  # layers that int8 leaves in part: two fifths of its error for a fifth of its time
PACKAGES = ("onnx", "onnxruntime-gpu", "torch", "transformers")  # a graph is of their versions


class Extraction(Record):
    """All that an embedding depends on besides its text."""

    model: str
    config_sha256: str
    weights_sha256: str
    tokenizer_sha256: str
    layers: tuple[int, ...]
    """Averaged; 0 is the embeddings of words, the layers above count from 1."""
    pooling: Pooling | None
    """Of a text's tokens; None where each token keeps its own."""
    normalized: bool
    """To length 1."""
    max_length: int
    """Tokens; what is longer is cut at its end."""
    runtime: Runtime
    width: int


@dataclass(frozen=True)
class Options:
    """Choices for an extraction; None is the default, which depends on the model."""

    layers: str | None = None
    """`-1`, `0`, `-4:` or `1,2`."""
    pooling: str | None = None
    """Or `own`, as the model was trained."""
    level: Level = "text"
    """Whether a text or each of its tokens gets an embedding."""
    normalize: bool = True
    """To length 1."""
    max_length: int | None = None
    """In tokens."""
    runtime: Runtime | None = None


def settled(model: str, folder: Path, options: Options) -> Extraction:
    """What is asked of a model folder, its defaults filled in. Raises UserError for what it cannot
    give."""
    pooling, level, max_length = options.pooling, options.level, options.max_length
    config = read_config(folder, model)
    if not (folder / TOKENIZER).is_file():
        raise UserError(f"{model}: has no {TOKENIZER}: save a fast tokenizer there")
    chosen = _layers(
        options.layers or "-1", int(config.get("num_hidden_layers") or config["n_layers"])
    )
    if level == "token" and pooling is not None:
        raise UserError("--pooling: makes one of a text's tokens: leave it out with --level token")
    own = _own_pooling(folder, model) if pooling in (None, "own") else pooling
    if level == "text" and own == "cls" and chosen == (0,):
        raise UserError("--layers 0: all texts begin alike there: add --pooling mean or max")
    most = most_tokens(folder, 0, model)
    if not Encoder(folder / TOKENIZER, most).encodings([("", "")])[0].ids:
        raise UserError(f"{model}: its {TOKENIZER} adds no special tokens: save it with them")
    if max_length is not None and not 8 <= max_length <= most:
        raise UserError(f"--max-length {max_length}: {model} takes 8 to {most} tokens")
    return Extraction(
        model=model,
        **digests(folder),
        layers=chosen,
        pooling=None if level == "token" else own,
        normalized=options.normalize,
        max_length=max_length or min(_trained_length(folder), most),
        runtime=options.runtime or ("pytorch" if _has_gpu() else "onnx-fp32"),
        width=int(config.get("hidden_size") or config["dim"]),
    )


def digests(folder: Path) -> dict[str, str]:
    """Of the files of a model folder that embeddings depend on, as an extraction names them."""
    return {
        "config_sha256": sha256_of(folder / "config.json"),
        "weights_sha256": sha256_of(folder / "model.safetensors"),
        "tokenizer_sha256": sha256_of(folder / TOKENIZER),
    }


def _layers(asked: str, highest: int) -> tuple[int, ...]:
    """`-1`, `0`, `-4:` (a slice as of a Python list) or `1,2`, of the layers 0 to `highest`."""
    known = range(highest + 1)
    try:
        if ":" in asked:
            start, end = (int(part) if part else None for part in asked.split(":"))
            found = list(known[start:end])
        else:
            found = [known[int(part)] for part in asked.split(",")]
    except (ValueError, IndexError):
        found = []
    if not found or len(set(found)) < len(found):
        raise UserError(
            f"--layers {asked}: there are 0 (embeddings of words) to {highest}, or -1 for the last:"
            " write one, several with commas, or a range as of a Python list (--layers=-4:)"
        )
    return tuple(sorted(found))


def _own_pooling(folder: Path, model: str) -> Pooling:
    """What a model was trained to stand for a text by, where we can compute it."""
    modules, pooling = sentence_modules(folder)
    unknown = [name for name in modules if name not in ("Transformer", "Pooling", "Normalize")]
    if unknown or pooling not in (None, *get_args(Pooling)):
        what = f"the module {unknown[0]}" if unknown else f"the pooling {pooling!r}"
        raise UserError(
            f"{model}: was trained with {what}, which is not computed here: choose --pooling cls,"
            " mean or max of its tokens"
        )
    return cast(Pooling, pooling or pooling_of(folder))


def _trained_length(folder: Path) -> int:
    """Tokens that sentence-transformers cuts texts to, where it has saved the model: today as the
    tokenizer's length."""
    for name, key in LENGTHS.items():
        try:
            told = json.loads((folder / name).read_text(encoding="utf-8"))
            return int(told[key])
        except (OSError, ValueError, LookupError, TypeError, OverflowError):
            continue
    return 512


def _has_gpu() -> bool:
    return Path("/proc/driver/nvidia/version").exists()


@dataclass(frozen=True)
class Tokens:
    """A text as the encoder reads it."""

    ids: npt.NDArray[np.int32]
    cut: bool
    """True if the text goes on."""
    words: list[tuple[int, str, int, int]]
    """Of each token that is not special: its place in `ids`, itself, and its first character and
    one past its last; kept only where tokens are asked for."""
    types: int = 0  # of the first text, all of them
    targets: Sequence[int] = ()  # none is hidden

    def __len__(self) -> int:
        return len(self.ids)


class Embedder:
    """A model folder, ready to embed on `threads` threads (0: all); `cache` keeps its ONNX graphs.

    Raises UserError where the folder lacks whole weights.
    """

    def __init__(
        self, how: Extraction, folder: Path, cache: Path, *, threads: int = 0, log: Log = no_log
    ) -> None:
        self.how = how
        self.encoder = Encoder(folder / TOKENIZER, how.max_length, offsets=how.pooling is None)
        self.runtime: Any
        self.batch_tokens = BATCH_TOKENS["cuda" if _has_gpu() else "cpu"]
        if how.runtime == "pytorch":
            from pipeline.embeddings.extractor import TorchExtractor

            self.runtime = TorchExtractor(
                folder, how.model, how.layers, how.pooling, how.normalized, threads=threads
            )
        else:
            padding = int(read_config(folder, how.model).get("pad_token_id") or 0)
            self.runtime = OnnxModel(_graph(how, folder, cache, log), padding, threads)

    def tokens(self, texts: Sequence[str]) -> list[Tokens]:
        return [
            tokens
            for start in range(0, len(texts), TOKENIZED)
            for tokens in self._tokens(texts[start : start + TOKENIZED])
        ]

    def _tokens(self, texts: Sequence[str]) -> Iterator[Tokens]:
        encodings = self.encoder.encodings([(text, "") for text in texts])
        for piece in self.encoder.cut_up(encodings):
            words = []
            if self.how.pooling is None:
                known = zip(piece.keep, piece.sequences, piece.offsets, strict=True)
                for place, (own, sequence, span) in enumerate(known):
                    if sequence is not None:
                        words.append((place, piece.encoding.tokens[own], *span))
            longer = len(piece.encoding) > self.how.max_length
            yield Tokens(np.asarray(piece.ids, np.int32), longer, words)

    def embeddings(
        self, tokens: Sequence[Tokens], done: Callable[[int], None] = lambda _: None
    ) -> list[Floats]:
        """Of each text (width,), or (tokens, width) with special ones; computed in batches of like
        length. `done` hears how many texts have been."""
        found: list[Floats] = [np.empty(0, np.float32)] * len(tokens)
        order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]), reverse=True)
        start = 0
        while start < len(order):
            batch = order[start : start + max(1, self.batch_tokens // len(tokens[order[start]]))]
            given = [tokens[i] for i in batch]
            for i, own in zip(batch, self.runtime.logits(given, len(given)), strict=True):
                found[i] = own
            start += len(batch)
            done(start)
        return found


def _graph(how: Extraction, folder: Path, cache: Path, log: Log) -> Path:
    """The ONNX file of an extraction, made where it is not there yet."""
    from pipeline.stages.export import onnx, quantize

    made_of = {
        **how.model_dump(
            include={"config_sha256", "weights_sha256", "layers", "pooling", "normalized"}
        ),
        "exporter": [sha256_of(Path(str(module.__file__))) for module in (onnx, quantize)],
        "extractor": sha256_of(Path(__file__).with_name("extractor.py")),
        "spared": SPARED,
        "packages": [version(name) for name in PACKAGES],
    }
    own = cache / sha256(json.dumps(made_of).encode()).hexdigest()[:20]
    whole_graph, quantized = own / "fp32.onnx", own / "int8.onnx"
    if not whole_graph.exists():
        from pipeline.embeddings.extractor import TorchExtractor

        log.info(f"{how.model}: to ONNX, once")
        model = TorchExtractor(
            folder, how.model, how.layers, how.pooling, how.normalized, attention="eager"
        )
        with atomic_write(whole_graph) as temporary:
            onnx.export_fused(model, temporary)
    if how.runtime == "onnx-fp32":
        return whole_graph
    if not quantized.exists():
        log.info(f"{how.model}: to int8, once")
        with atomic_write(quantized) as temporary:
            quantize.quantize(
                whole_graph, temporary, per_channel=True, reduce_range=True, spared=SPARED
            )
    return quantized
