"""A two-layer BERT, a handful of rows, and a folder to run the line in."""

import io
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from ruamel.yaml import YAML

from tests.servers import bucket, site, store  # noqa: F401 - fixtures of every test

settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "datasets"
WORDS = {
    "sport": ["goal", "match", "striker", "league", "coach", "team"],
    "money": ["bank", "shares", "profit", "market", "trade", "rates"],
    "film": ["actor", "director", "screen", "oscar", "movie", "comedy"],
}
FILLER = ["the", "a", "of", "in", "after", "for", "new", "last", "this", "with"]

os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
if "PYTEST_XDIST_WORKER" in os.environ:  # flows of two workers would wait for one database
    os.environ["PREFECT_HOME"] = str(
        Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
        / os.environ["PYTEST_XDIST_WORKER"]
    )


def make_rows(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Rows whose label a two-layer model can learn, all different."""
    draw = random.Random(seed)
    rows, seen = [], set()
    while len(rows) < count:
        label = draw.choice(sorted(WORDS))
        words = draw.choices(WORDS[label], k=4) + draw.choices(FILLER, k=6)
        draw.shuffle(words)
        text = " ".join(words)
        if text not in seen:
            seen.add(text)
            rows.append({"text": text, "label": label})
    return rows


def write_csv(path: Path, rows: list[dict[str, str]]) -> Path:
    import csv

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer BERT and its tokenizer, as a folder."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("base")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *FILLER]
    words += [word for group in WORDS.values() for word in group]
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    words += [*letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(words))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def news_block() -> dict[str, Any]:
    """The gallery's recipe `news`; params.yaml of this clone is its owner's."""
    from flows.cli.recipes import ready

    block: dict[str, Any] = json.loads(json.dumps(ready("news").placed()))
    return block


def news_params() -> str:
    """A params.yaml of that recipe, with comments."""
    stream, yaml = io.StringIO(), YAML()
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.add_representer(
        type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    yaml.dump({"recipes": {"news": news_block()}}, stream)
    watched = "    watch: constraints.txt"
    return "# The recipes.\n" + stream.getvalue().replace(watched, f"{watched} # a path", 1)


def toy_block(base: Path | str, source: str) -> dict[str, Any]:
    """A recipe that runs in seconds."""
    block = news_block()
    block["watch"] = source
    block["base"].update({"model": str(base), "sha256": None, "watch": str(base)})
    block["ingest"]["source"] = source
    block["validate"]["min_rows"] = 5
    block["tokenize"]["max_length"] = 24
    block["finetune"].update(
        {"epochs": 4, "batch_size": 8, "learning_rate": 1e-2, "dropout": 0.0, "precision": "fp32"}
    )
    block["evaluate"]["behaviour"] = []
    block["export"]["texts"] = 8
    block["benchmark"].update({"batches": [1, 4], "seconds": 0.05, "max_flip_rate": 0.2})
    block["benchmark"]["max_metric_drop"] = 0.2
    block["publish"]["description"] = "A toy."
    block["gate"].update({"floors": {"accuracy": 0.5}, "min_rows": 20})
    block["gate"]["guardrails"] = dict.fromkeys(block["gate"]["guardrails"])
    return block


def write_params(path: Path, recipes: dict[str, Any]) -> None:
    with path.open("w", encoding="utf-8") as file:
        YAML().dump({"recipes": recipes}, file)


def copy_code(folder: Path) -> None:
    """Bring the project's code, and what goes with it, into a folder that has none."""
    for name in ("pipeline", "flows"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("dvc.yaml", "constraints.txt", ".dvcignore", ".gitignore", "README.md"):
        shutil.copy(ROOT / name, folder / name)


class Workspace:
    """A clone of the project's own files with one toy recipe."""

    def __init__(self, folder: Path, base: Path, rows: int = 300) -> None:
        self.folder = folder
        self.variables: dict[str, str] = {}
        """Additions to this process's environment."""
        copy_code(folder)
        for name in ("behaviour", "labels"):
            (folder / "data" / name).mkdir(parents=True)
            shutil.copy(ROOT / "data" / name / "README.md", folder / "data" / name)
        shutil.copytree(base, folder / "base")
        write_csv(folder / "data" / "raw" / "toy.csv", make_rows(rows))
        self.write_recipe(toy_block("base", "data/raw/toy.csv"))
        self.call("git", "init", "-q")
        self.call("git", "config", "user.email", "toy@example.org")
        self.call("git", "config", "user.name", "toy")
        self.call(*self.dvc, "init", "-q")
        self.call("git", "add", "-A")
        self.call("git", "commit", "-qm", "toy")

    dvc = (sys.executable, "-m", "dvc")
    bertline = (sys.executable, "-m", "flows.cli")

    def write_recipe(self, block: dict[str, Any]) -> None:
        write_params(self.folder / "params.yaml", {"toy": block})

    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        # MLflow leaves the address that this process used last in the environment
        own = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
        return own | {"PATH": path, "PYTHONPATH": str(self.folder)} | self.variables

    def call(
        self, *command: str, code: int | None = 0, **settings: Any
    ) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            **settings,
        )
        told = f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        assert code is None or done.returncode == code, told
        return done

    def repro(self, *arguments: str) -> list[str]:
        """`dvc repro`; the stages that it ran."""
        out = self.call(*self.dvc, "repro", *arguments).stdout
        return [line.split("'")[1] for line in out.splitlines() if line.startswith("Running stage")]


@pytest.fixture
def workspace(tmp_path: Path, tiny_base: Path) -> Workspace:
    return Workspace(tmp_path / "work", tiny_base)


def tiny_config(family: str) -> Any:
    """An encoder's configuration: two layers, 100 words, three labels; weights made from it now are
    the same every time."""
    import torch
    import transformers

    sizes = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
    if family != "distilbert":
        sizes = {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
        }
    if family in ("eurobert", "modernbert"):  # their own lies beyond the 100 words
        sizes |= {"pad_token_id": 0}
    torch.manual_seed(1)
    return transformers.AutoConfig.for_model(family, vocab_size=100, num_labels=3, **sizes)
