"""Bases of other formats become one model.safetensors and one tokenizer.json, or one line."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from sentencepiece import SentencePieceProcessor
from sentencepiece import sentencepiece_model_pb2 as spm
from tokenizers import ByteLevelBPETokenizer

from pipeline.core.errors import UserError
from pipeline.core.files import sha256_of
from pipeline.core.log import FunctionLog
from pipeline.models import encoders
from pipeline.models.bases import base_folder
from tests.conftest import FILLER, WORDS
from tests.pipeline.models.test_bases import base

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 437955512\n"
IDS = torch.tensor([[2, 7, 8, 9, 10, 11, 3]])
TEXT = "The goal of a team, 3 shares!"


@pytest.fixture
def folder(tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the toy base in the test's folder, which is worked in."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_base, tmp_path / "base")
    return tmp_path / "base"


def states(folder: Path) -> torch.Tensor:
    with torch.inference_mode():
        model = encoders.load(transformers.AutoModel, folder, "base").eval()
        return torch.as_tensor(model(IDS).last_hidden_state)


def pickled(folder: Path, **settings: Any) -> None:
    """Save the weights as transformers did before safetensors."""
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin", **settings)
    (folder / "model.safetensors").unlink()


def old_pickle(folder: Path) -> None:
    pickled(folder, _use_new_zipfile_serialization=False)


def tied(folder: Path) -> None:
    """Pickle weights of which two share their memory, as a masked-token head does."""
    weights = load_file(folder / "model.safetensors")
    name = "embeddings.word_embeddings.weight"
    weights = {f"bert.{key}": tensor for key, tensor in weights.items()}
    weights["cls.predictions.decoder.weight"] = weights[f"bert.{name}"]
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def sharded(folder: Path) -> None:
    model = transformers.AutoModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")


def sharded_pickle(folder: Path) -> None:
    sharded(folder)
    index = folder / "model.safetensors.index.json"
    told = json.loads(index.read_text())
    for file in folder.glob("model-*.safetensors"):
        torch.save(load_file(file), folder / f"pytorch_{file.stem}.bin")
        file.unlink()
    told["weight_map"] = {
        key: f"pytorch_{Path(file).stem}.bin" for key, file in told["weight_map"].items()
    }
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(told))
    index.unlink()


@pytest.mark.parametrize("form", [pickled, old_pickle, tied, sharded, sharded_pickle])
def test_weights_of_other_formats_are_converted_once(
    form: Callable[[Path], None], folder: Path
) -> None:
    expected = states(folder)
    form(folder)
    given = sorted(path.name for path in folder.iterdir())
    said: list[str] = []
    log = FunctionLog(said.append)
    made = base_folder(base("base"), log=log)
    assert made.parent == Path(".bertline/bases")
    assert torch.equal(states(made), expected)
    assert (made / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    assert base_folder(base("base"), log=log) == made
    (line,) = said
    assert line.startswith("base: ")
    assert line.endswith(f" is converted, in {made}")
    assert sorted(path.name for path in folder.iterdir()) == given


def test_a_base_that_changes_is_converted_again(folder: Path) -> None:
    pickled(folder)
    first = base_folder(base("base"))
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    weights["pooler.dense.bias"] += 1
    torch.save(weights, folder / "pytorch_model.bin")
    second = base_folder(base("base"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    third = base_folder(base("base"))
    assert len({first, second, third}) == 3


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_weights_of_half_precision_are_computed_with_in_full(
    kind: torch.dtype, folder: Path
) -> None:
    expected = states(folder)
    weights = {name: t.to(kind) for name, t in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    found = states(base_folder(base("base")))
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=0.02)


def test_the_digest_is_that_of_the_given_file(folder: Path) -> None:
    pickled(folder)
    digest = sha256_of(folder / "pytorch_model.bin")
    base_folder(base("base", digest))
    with pytest.raises(UserError, match=rf"pytorch_model.bin has the SHA-256 {digest}"):
        base_folder(base("base", "0" * 64))


def test_the_digest_of_shards_is_that_of_all_one_behind_the_other(folder: Path) -> None:
    sharded(folder)
    parts = sorted(folder.glob("model-*-of-*.safetensors"))
    assert len(parts) > 2
    (folder / "joined").write_bytes(b"".join(part.read_bytes() for part in parts))
    base_folder(base("base", sha256_of(folder / "joined")))
    with pytest.raises(UserError, match=rf"{len(parts)} files, joined by name, has the SHA-256"):
        base_folder(base("base", "0" * 64))


class Attack:
    """Object whose unpickling makes a folder."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("attacked",)


def attacked(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    torch.save({**weights, "more": Attack()}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def with_optimizer(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    torch.save({"model": weights, "step": 7}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def cut_pickle(folder: Path) -> None:
    pickled(folder)
    path = folder / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:2000])


def empty_pickle(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"")
    (folder / "model.safetensors").unlink()


def without_a_shard(folder: Path) -> None:
    sharded(folder)
    next(folder.glob("model-00002-of-*.safetensors")).unlink()


def cut_shard(folder: Path) -> None:
    sharded(folder)
    path = next(folder.glob("model-00002-of-*.safetensors"))
    path.write_bytes(path.read_bytes()[:100])


def cut_index(folder: Path) -> None:
    sharded(folder)
    path = folder / "model.safetensors.index.json"
    path.write_text(path.read_text()[:50])


def empty_index(folder: Path) -> None:
    sharded(folder)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {}}')


def pointer(form: Callable[[Path], None], pattern: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        form(folder)
        next(folder.glob(pattern)).write_text(POINTER)

    return damage


def only(*names: str) -> Callable[[Path], None]:
    """Leave only these files."""

    def damage(folder: Path) -> None:
        for path in folder.iterdir():
            if path.name not in names:
                path.unlink()

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (attacked, "pytorch_model.bin holds other objects than weights, which could run code"),
        (with_optimizer, "pytorch_model.bin holds other objects than weights"),
        (cut_pickle, r"pytorch_model.bin cannot be loaded \(.+\): it may be cut short"),
        (empty_pickle, r"pytorch_model.bin cannot be loaded \(EOFError\)"),
        (without_a_shard, "index.json names model-00002-of-000.+, which is missing: get it"),
        (cut_shard, r"model-00002-of-.+ cannot be loaded \(.+\): it may be cut short"),
        (empty_index, r"index.json cannot be read \(it names no file\): get it again"),
        (cut_index, r"model.safetensors.index.json cannot be read \(.+\): get it again"),
        (pointer(pickled, "pytorch_model.bin"), "pytorch_model.bin is a pointer of Git LFS"),
        (pointer(sharded, "model-00003-*"), "model-00003-of-.+ is a pointer of Git LFS"),
        (only("config.json", "tokenizer.json"), "holds no model.safetensors or pytorch_model.bin"),
        (only("model.safetensors", "tokenizer.json"), "holds no config.json"),
    ],
)
def test_weights_that_cannot_be_converted_are_one_line(
    damage: Callable[[Path], None], message: str, folder: Path
) -> None:
    damage(folder)
    for _ in range(2):  # nothing half made is taken for a conversion
        with pytest.raises(UserError, match=f"^base: .*{message}") as caught:
            base_folder(base("base"))
        assert "\n" not in str(caught.value)
    assert not Path("attacked").exists()


def test_what_a_base_says_of_its_pooling_is_kept(folder: Path) -> None:
    modules = [
        {"name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text('{"pooling_mode_mean_tokens": true}')
    pickled(folder)
    assert encoders.pooling_of(base_folder(base("base"))) == "mean"


# tokenizers


def slow(folder: Path, kind: str, **files: bytes) -> None:
    """Leave the vocabulary of a slow tokenizer alone; names have _ for a dot."""
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind}))
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_bytes(content)


def vocabulary(folder: Path) -> list[str]:
    words = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    return sorted(words, key=words.__getitem__)


def test_a_vocabulary_of_words_becomes_the_same_tokenizer(folder: Path) -> None:
    before = encoders.load_tokenizer(folder, "base")(TEXT).input_ids
    slow(folder, "BertTokenizer", vocab_txt="\n".join(vocabulary(folder)).encode())
    said: list[str] = []
    made = base_folder(base("base"), log=FunctionLog(said.append))
    assert said == [f"base: a slow tokenizer is converted, in {made}"]
    assert encoders.load_tokenizer(made, "base")(TEXT).input_ids == before
    assert torch.equal(states(made), states(folder))


@pytest.mark.parametrize("told", [True, False])
def test_a_vocabulary_with_capital_letters_keeps_them(told: bool, folder: Path) -> None:
    words = ["The" if word == "the" else word for word in vocabulary(folder)]
    slow(folder, "BertTokenizer", vocab_txt="\n".join(words).encode())
    if told:
        config = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = encoders.load_tokenizer(base_folder(base("base")), "base")
    assert ("The" in tokenizer.tokenize("The goal")) == (not told)


def test_a_vocabulary_of_bytes_becomes_the_same_tokenizer(folder: Path) -> None:
    learned = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    learned.train_from_iterator([TEXT, "the goal"] * 20, vocab_size=290, special_tokens=special)
    slow(folder, "RobertaTokenizer")
    learned.save_model(str(folder))
    rows = {"vocab_size": learned.get_vocab_size(), "model_type": "roberta"}
    config = json.loads((folder / "config.json").read_text()) | rows
    (folder / "config.json").write_text(json.dumps(config))
    own = encoders.load_tokenizer(folder, "base")  # of the files themselves
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    shape = transformers.RobertaConfig(**rows | small, max_position_embeddings=64)
    transformers.RobertaModel(shape).save_pretrained(folder)
    made = encoders.load_tokenizer(base_folder(base("base")), "base")
    text = f"{TEXT} é"
    assert made(text, add_special_tokens=False).input_ids == learned.encode(text).ids
    assert made(text).input_ids == own(text).input_ids == [0, *learned.encode(text).ids, 2]


def pieces(*first: str) -> bytes:
    """A model of SentencePiece: special pieces, then words and letters."""
    model = spm.ModelProto()
    words = [f"▁{word}" for word in (*FILLER, *(word for each in WORDS.values() for word in each))]
    for number, piece in enumerate([*first, "▁", *words, *"abcdefghijklmnopqrstuvwxyz0123456789"]):
        special = number < len(first)
        unknown = "unk" in piece.lower()
        kind = 2 if unknown else 3 if special else 1
        model.pieces.add(piece=piece, score=0.0 if special else -float(number), type=kind)
        if unknown:
            model.trainer_spec.unk_id = number
    model.trainer_spec.model_type = 1
    return model.SerializeToString()


SENTENCEPIECE = [
    ("xlm-roberta", "XLMRobertaTokenizer", "sentencepiece_bpe_model", ("<unk>", "<s>", "</s>")),
    ("camembert", "CamembertTokenizer", "sentencepiece_bpe_model", ("<unk>", "<s>", "</s>")),
    ("deberta-v2", "DebertaV2Tokenizer", "spm_model", ("[PAD]", "[CLS]", "[SEP]", "[UNK]")),
    ("albert", "AlbertTokenizer", "spiece_model", ("<pad>", "<unk>", "[CLS]", "[SEP]")),
]


@pytest.mark.parametrize(("family", "kind", "file", "special"), SENTENCEPIECE)
def test_a_model_of_sentencepiece_becomes_the_same_tokenizer(
    family: str, kind: str, file: str, special: tuple[str, ...], folder: Path
) -> None:
    content = pieces(*special)
    slow(folder, kind, **{file: content})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": family}))
    tokenizer = encoders.load_tokenizer(base_folder(base("base")), "base")
    model = SentencePieceProcessor(model_proto=content)
    text = "the goal of a team in the last market zq7"
    assert tokenizer.tokenize(text) == model.encode(text, out_type=str)
    # in XLM-R a special token is inserted before all words, in CamemBERT four
    shift = {"xlm-roberta": 1, "camembert": 4}.get(family, 0)
    own = tokenizer(text, add_special_tokens=False).input_ids
    assert own == [number + shift for number in model.encode(text)]


@pytest.mark.parametrize(
    ("kind", "files", "message"),
    [
        (
            "BertweetTokenizer",
            {"vocab_txt": b"the 10\na 9\n", "bpe_codes": b"t h 5\nth e</w> 4\n"},
            "its tokenizer, a BertweetTokenizer, has no fast form: give a base with a tokenizer",
        ),
        (
            "XLMRobertaTokenizer",
            {"sentencepiece_bpe_model": b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02" * 3},
            r"its tokenizer cannot be converted: of \d+ tokens \d were read",
        ),
        (
            "XLMRobertaTokenizer",
            {"sentencepiece_bpe_model": pieces("<unk>", "<s>", "</s>")[:300]},
            "its tokenizer cannot be ",
        ),
        (
            "XLMRobertaTokenizer",
            {"sentencepiece_bpe_model": POINTER.encode()},
            "sentencepiece.bpe.model is a pointer of Git LFS",
        ),
        ("BertTokenizer", {"vocab_txt": POINTER.encode()}, "vocab.txt is a pointer of Git LFS"),
        ("BertTokenizer", {"vocab_txt": b"a\nb\n"}, "its tokenizer cannot be converted: of"),
    ],
)
def test_a_tokenizer_that_cannot_be_converted_is_one_line(
    kind: str, files: dict[str, bytes], message: str, folder: Path
) -> None:
    slow(folder, kind, **files)
    with pytest.raises(UserError, match=f"^base: {message}") as caught:
        base_folder(base("base"))
    assert "\n" not in str(caught.value)


# the hub


@pytest.fixture
def hub(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A hub that serves the folder, and the names of the files that were fetched from it."""
    from huggingface_hub.utils import filter_repo_objects

    fetched: list[str] = []

    def snapshot_download(name: str, *, revision: str, allow_patterns: Any) -> str:
        files = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
        cache = tmp_path / "cache"
        for file in filter_repo_objects(files, allow_patterns=list(allow_patterns)):
            (cache / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / file, cache / file)
            fetched.append(file)
        return str(cache)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    yield fetched


@pytest.mark.parametrize("form", [pickled, sharded, sharded_pickle])
def test_the_hub_gives_weights_of_every_format(
    form: Callable[[Path], None], folder: Path, hub: list[str]
) -> None:
    expected = states(folder)
    form(folder)
    made = base_folder(base("hub:someone/tiny@main"))
    assert torch.equal(states(made), expected)


def test_of_several_formats_on_the_hub_one_is_fetched(folder: Path, hub: list[str]) -> None:
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "1_Pooling").mkdir()
    for file in (
        *("1_Pooling/config.json", "modules.json", "sentencepiece.bpe.model", "bpe.codes"),
        *("tf_model.h5", "model.onnx", "model.fp16.safetensors", "README.md", "train.txt"),
    ):
        (folder / file).write_text("{}")
    base_folder(base("hub:someone/tiny@main"))
    assert sorted(hub) == [
        *("1_Pooling/config.json", "bpe.codes", "config.json", "model.safetensors"),
        *("modules.json", "sentencepiece.bpe.model", "tokenizer.json", "tokenizer_config.json"),
    ]
