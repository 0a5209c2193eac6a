"""Texts of one class come to lie near each other, and whoever knows sentence-transformers can use
the space."""

import base64
import json
import shutil
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from sentence_transformers.util import cos_sim

from pipeline.core.errors import UserError
from pipeline.core.records import Fit, Validation
from pipeline.metrics import scoring
from pipeline.runtimes.pytorch import TorchModel
from pipeline.stages import artifacts
from pipeline.stages.finetune.batching import ClassSampler
from pipeline.stages.finetune.params import FinetuneParams, Lora, check
from pipeline.stages.finetune.stage import finetune
from pipeline.tasks.base import LossOptions
from pipeline.tasks.retrieval import Retrieval, unit
from tests.pipeline.conftest import up_to_tokens
from tests.pipeline.tasks.test_contract import ROWS, make
from tests.pipeline.tasks.toys import TOYS

TASK = Retrieval()
CLASSES = [f"class {n:02}" for n in range(12)]


def test_scores_are_those_of_sentence_transformers(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    places = {f"q{n}": unit(random.normal(size=(1, 8)))[0] for n in range(40)}
    known = unit(random.normal(size=(12, 8)))
    truths = {name: CLASSES[random.integers(12)] for name in places}
    decision = {"centroids": base64.b64encode(known.astype("<f4").tobytes()).decode()}
    pieces = [type("Piece", (), {"row": n})() for n in range(40)]
    vectors = [place.astype(np.float32) for place in places.values()]
    answers = TASK.answers(vectors, pieces, [("", "")] * 40, CLASSES, decision)
    said = [answer.label for answer in answers]
    tallied = scoring.tallies(TASK, list(truths.values()), said, CLASSES)
    found = scoring.metrics(TASK.measure, tallied)

    judge = InformationRetrievalEvaluator(
        queries={name: name for name in places},
        corpus={name: name for name in CLASSES},
        relevant_docs={name: {truth} for name, truth in truths.items()},
        mrr_at_k=[10],
        ndcg_at_k=[10],
        accuracy_at_k=[1],
        precision_recall_at_k=[1, 5, 10],
        map_at_k=[10],
        score_functions={"cosine": cos_sim},
    )
    both = places | dict(zip(CLASSES, known, strict=True))

    class Known:
        """A model that knows where everything lies."""

        def encode_query(self, names: list[str], **_: object) -> torch.Tensor:
            return torch.tensor(np.array([both[name] for name in names]))

        encode_document = encode_query

    theirs = judge.compute_all_metrics(Known())["cosine"]
    assert found == pytest.approx(
        {
            "mrr": theirs["mrr@k"][10],
            "recall_at_1": theirs["recall@k"][1],
            "recall_at_5": theirs["recall@k"][5],
            "recall_at_10": theirs["recall@k"][10],
            "ndcg_at_10": theirs["ndcg@k"][10],
        }
    )


def test_a_batch_holds_two_texts_of_each_of_its_classes() -> None:
    labels = [n % 7 for n in range(100)]
    order = ClassSampler(Dataset.from_dict({"labels": labels}), 8, seed=3)
    first = list(order)
    assert len(first) == len(order) == len(set(first))
    for start in range(0, len(first) - 8, 8):
        found = [labels[row] for row in first[start : start + 8]]
        assert all(found.count(each) >= 2 for each in found) and len(set(found)) > 1
    assert first == list(ClassSampler(Dataset.from_dict({"labels": labels}), 8, seed=3))
    order.set_epoch(1)
    assert list(order) != first


def test_texts_of_one_class_each_cannot_be_drawn() -> None:
    alone = Dataset.from_dict({"labels": list(range(8))})
    with pytest.raises(UserError, match="cannot be drawn by class"):
        ClassSampler(alone, 4, seed=1)


def test_a_batch_is_even() -> None:
    params = FinetuneParams.model_construct(
        batch_size=5, metric="mrr", decoder=None, lora=None, class_weights="none", label_smoothing=0
    )
    with pytest.raises(ValueError, match="batch_size: retrieval learns from two texts a class"):
        check(params, TASK)


def test_its_loss_picks_no_checkpoint() -> None:
    params = FinetuneParams.model_construct(batch_size=4, metric="loss", decoder=None, lora=None)
    with pytest.raises(ValueError, match=r"metric: the loss of retrieval .* set it to mrr"):
        check(params, TASK)


def test_the_loss_falls_where_companions_come_near() -> None:
    targets = torch.tensor([0, 0, 1, 1])
    near = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    mixed = near[[0, 2, 1, 3]]
    options = LossOptions(torch.ones(4, 1))
    assert TASK.loss(near, targets, options) < TASK.loss(mixed, targets, options)
    others = torch.tensor([0, 0, -100, 1])
    assert TASK.loss(near, others, options) == pytest.approx(
        TASK.loss(near[[0, 1, 3]], torch.tensor([0, 0, 1]), options)
    )
    assert TASK.loss(near, torch.full((4,), -100), options) == 0


@pytest.mark.parametrize("pooled", ["cls", "mean"])
@pytest.mark.parametrize("lora", [None, {"rank": 2, "alpha": 4.0, "dropout": 0.0}])
def test_sentence_transformers_loads_the_folder(
    lora: dict[str, float] | None, pooled: str, tiny_base: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(tiny_base, tmp_path / "base")
    if pooled == "mean":
        modules = [{"path": "", "type": "x.Transformer"}, {"path": "p", "type": "x.Pooling"}]
        (base / "modules.json").write_text(json.dumps(modules))
        (base / "p").mkdir()
        (base / "p" / "config.json").write_text('{"pooling_mode": "mean"}')
    home = make("retrieval", TOYS["retrieval"](ROWS, Random(3)), tmp_path / "data", base)
    up_to_tokens(home)
    recipe = home.recipe
    params = recipe.finetune.model_copy(update={"lora": lora and Lora(**lora)})
    state = home.folder / "state"
    finetune(params, home.task, recipe.base, home.validate, home.tokenize, home.finetune, state)
    texts = artifacts.texts_of(artifacts.kept_rows(home.validate, "test"))
    texts = [(texts[0][0] * 9, ""), *texts]  # one is cut
    pieces = artifacts.encoder(home.tokenize, home.task).pieces(texts)
    ours = np.stack(TorchModel(home.finetune / "model", home.task).logits(pieces))
    theirs = SentenceTransformer(str(home.finetune / "model"), device="cpu")
    np.testing.assert_allclose(ours, theirs.encode([text for text, _ in texts]), atol=1e-5)

    rows = artifacts.kept_rows(home.validate, "train")
    pieces = artifacts.encoder(home.tokenize, home.task).pieces(artifacts.texts_of(rows))
    places = np.stack(TorchModel(home.finetune / "model", home.task).logits(pieces))
    classes = Validation.read(home.validate / "validation.json").labels
    centroids = [places[(rows["label"] == name).to_numpy()].mean(0) for name in classes]
    told = Fit.read(home.finetune / "fit.json").decision["centroids"]
    known = np.frombuffer(base64.b64decode(told), "<f4").reshape(len(classes), -1)
    np.testing.assert_allclose(known, unit(np.array(centroids)), atol=1e-5)
