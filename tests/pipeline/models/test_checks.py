"""A base whose files do not fit each other is refused in one line before work begins."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, RobertaConfig, RobertaModel

from pipeline.core.errors import UserError
from pipeline.models import encoders
from pipeline.models.bases import base_folder
from pipeline.models.heads import embedding, masked_lm, sequence, span, token
from pipeline.models.heads.base import Start
from tests.pipeline.models.test_bases import base

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 437955512\n"


def without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()


def with_more_tokens(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["striker", "bank!", "🎉"])
    tokenizer.save_pretrained(folder)


def set_in(name: str, **changed: object) -> Callable[[Path], None]:
    """Change values of a JSON file; None removes one."""

    def damage(folder: Path) -> None:
        content = json.loads((folder / name).read_text()) | changed
        (folder / name).write_text(json.dumps(content))

    return damage


def cut(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:200])

    return damage


def pointer(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(POINTER) and None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_tokenizer, "holds no tokenizer: save tokenizer.json of the same model"),
        (with_more_tokens, r"tokenizer.json has \d+ tokens, the embeddings have \d+ rows"),
        (cut("tokenizer.json"), r"tokenizer.json cannot be read \(.+\): get it again"),
        (cut("model.safetensors"), r"model.safetensors cannot be loaded \(.+\): it may be cut"),
        (
            set_in("config.json", max_position_embeddings=512),
            "config.json has max_position_embeddings 512, the weights have 64 positions",
        ),
        (set_in("config.json", pad_token_id=None), "config.json has no pad_token_id: write the"),
        (lambda folder: (folder / "config.json").write_text("["), "config.json cannot be read"),
        (pointer("config.json"), "config.json is a pointer of Git LFS"),
        (pointer("model.safetensors"), "model.safetensors is a pointer of Git LFS"),
        (pointer("tokenizer.json"), "tokenizer.json is a pointer of Git LFS"),
    ],
)
def test_a_damaged_base_is_one_line(
    tmp_path: Path, tiny_base: Path, damage: Callable[[Path], None], message: str
) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny_base, folder)
    assert base_folder(base(str(folder))) == folder
    damage(folder)
    with pytest.raises(UserError, match=message):
        base_folder(base(str(folder)))


def test_a_tokenizer_without_padding_is_refused(tmp_path: Path, tiny_base: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny_base, folder)
    set_in("tokenizer_config.json", pad_token=None)(folder)
    with pytest.raises(UserError, match="base: its tokenizer has no token for padding: write pad_"):
        encoders.load_tokenizer(folder, "base")


def without(part: str) -> Callable[[Path], None]:
    """Remove the weights whose names contain a part."""

    def damage(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        kept = {name: tensor for name, tensor in weights.items() if part not in name}
        assert len(kept) < len(weights)
        save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})

    return damage


def renamed(folder: Path) -> None:
    """Name weights as a wrapper for several devices does."""
    weights = load_file(folder / "model.safetensors")
    changed = {f"module.{name}": tensor for name, tensor in weights.items()}
    save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})


HEADS = {
    "classification": sequence.HEAD,
    "ner": token.HEAD,
    "question_answering": span.HEAD,
    "retrieval": embedding.HEAD,
    "pretraining": masked_lm.HEAD,
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("layer.1.attention"), "lacks 10 of the weights that config.json names, such as"),
        (without("embeddings.LayerNorm.bias"), "lacks 1 of the weights that config.json names"),
        (renamed, r"lacks \d+ of the weights that config.json names, such as"),
        (set_in("config.json", num_hidden_layers=3), "lacks 16 of the weights that config.json"),
        (set_in("config.json", intermediate_size=48), r"has the shape \(\d+.*, by config.json \("),
        (set_in("config.json", vocab_size=200), r"word_embeddings.* by config.json \(200, 32\)"),
    ],
)
def test_an_encoder_is_never_made_up(
    damage: Callable[[Path], None], message: str, head: str, tmp_path: Path, tiny_base: Path
) -> None:
    """transformers fills missing weights, and with a new head those of another shape, at random."""
    folder = tmp_path / "base"
    shutil.copytree(tiny_base, folder)
    HEADS[head].build(Start(folder, "base", ["a", "b"], {}, folder))
    damage(folder)
    with pytest.raises(UserError, match=f"^base: .*({message})") as caught:
        HEADS[head].build(Start(folder, "base", ["a", "b"], {}, folder))
    assert "\n" not in str(caught.value)


def test_a_base_has_no_pooler_but_a_trained_model_has_its_head(
    tmp_path: Path, tiny_base: Path
) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny_base, folder)
    without("pooler")(folder)
    model = sequence.HEAD.build(Start(folder, "base", ["a", "b"], {}, folder))
    model.save_pretrained(tmp_path / "model")
    sequence.HEAD.load(tmp_path / "model", "model")
    without("classifier.weight")(tmp_path / "model")
    with pytest.raises(UserError, match=r"model: .* lacks 1 of the weights .*classifier.weight"):
        sequence.HEAD.load(tmp_path / "model", "model")


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, tiny_base: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny_base, folder)
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "query.weight" in name)
    weights[name][0, 0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    from transformers import BertModel

    with pytest.raises(UserError, match=f"my base: .*{name}.* holds NaN or infinity"):
        encoders.load(BertModel, folder, "my base")


@pytest.mark.parametrize(("padding", "most"), [(0, 33), (1, 32), (3, 30)])
def test_positions_of_roberta_start_behind_its_padding(
    tmp_path: Path, padding: int, most: int
) -> None:
    config = RobertaConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        max_position_embeddings=34,
        pad_token_id=padding,
    )
    model = RobertaModel(config).eval()
    model.save_pretrained(tmp_path)
    assert encoders.most_tokens(tmp_path, 8, "x") == most
    with pytest.raises(UserError, match=f"set tokenize.max_length to {most}"):
        encoders.most_tokens(tmp_path, most + 1, "x")
    model(torch.full((1, most), 7))  # one more has no position
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, most + 1), 7))


def test_a_base_without_positions_names_them(tmp_path: Path, tiny_base: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny_base, folder)
    config = json.loads((folder / "config.json").read_text())
    del config["max_position_embeddings"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"no max_position_embeddings: write it: 64, as in its"):
        encoders.most_tokens(folder, 8, "x")
