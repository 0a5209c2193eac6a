"""Training: resumes exactly, stops on a broken loss, publishes no pickle."""

import csv
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline import tasks
from pipeline.core.errors import UserError
from pipeline.core.files import sha256_of
from pipeline.core.records import Fit, Validation
from pipeline.runtimes.pytorch import TorchModel
from pipeline.stages import artifacts
from pipeline.stages.finetune import trainer
from pipeline.stages.finetune.losses import Loss
from pipeline.stages.finetune.params import FinetuneParams, Lora, check
from pipeline.stages.finetune.stage import finetune
from tests.conftest import toy_block
from tests.pipeline.conftest import Home


class Killed(Exception):  # noqa: N818 - not an error
    """Simulated kill."""


class StopAfter:
    """Log that interrupts the training at its n-th step."""

    def __init__(self, steps: int) -> None:
        self.steps, self.said = steps, []

    def info(self, text: str) -> None:
        self.said.append(text)

    def progress(self, done: int, total: int, note: str = "") -> None:
        if done == self.steps:
            raise Killed


def train(home: Home, out: Path, state: Path, log: Any = None, **changes: Any) -> Fit:
    params = home.recipe.finetune.model_copy(update=changes)
    given = {} if log is None else {"log": log}
    return finetune(
        params, home.task, home.recipe.base, home.validate, home.tokenize, out, state, **given
    )


def toy_params(**changes: Any) -> FinetuneParams:
    return FinetuneParams(**(toy_block("base", "rows.csv")["finetune"] | changes))


@pytest.fixture(scope="module")
def undisturbed(tokens: Home, tmp_path_factory: pytest.TempPathFactory) -> Fit:
    folder = tmp_path_factory.mktemp("undisturbed")
    return train(tokens, folder / "out", folder / "state")


@pytest.mark.parametrize("steps", [3, 40, 70])
def test_a_stopped_training_goes_on_to_the_same_bytes(
    tokens: Home, undisturbed: Fit, tmp_path: Path, steps: int
) -> None:
    log = StopAfter(steps)
    with pytest.raises(Killed):
        train(tokens, tmp_path / "out", tmp_path / "state", log)
    assert not (tmp_path / "out").exists()
    again = StopAfter(-1)
    fit = train(tokens, tmp_path / "out", tmp_path / "state", again)
    assert fit == undisturbed
    assert any("going on from step" in text for text in again.said) == (steps > 26)
    assert not (tmp_path / "state").exists()


def test_a_checkpoint_cut_short_is_not_gone_on_from(
    tokens: Home, undisturbed: Fit, tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        train(tokens, tmp_path / "out", tmp_path / "state", StopAfter(70))
    latest = max(
        (tmp_path / "state").rglob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1])
    )
    optimizer = latest / "optimizer.pt"
    optimizer.write_bytes(optimizer.read_bytes()[:-100])
    assert train(tokens, tmp_path / "out", tmp_path / "state") == undisturbed


NO_BETTER = {"epochs": 8, "patience": 3, "learning_rate": 1e-12, "metric": "accuracy"}


@pytest.fixture(scope="module")
def ended(tokens: Home, tmp_path_factory: pytest.TempPathFactory) -> Fit:
    """Result of a training that stopped early."""
    folder = tmp_path_factory.mktemp("ended")
    return train(tokens, folder / "out", folder / "state", **NO_BETTER)


@pytest.mark.parametrize("evaluations", [2, 3])
def test_a_training_that_gets_no_better_ends_where_it_would_have_ended(
    tokens: Home, ended: Fit, tmp_path: Path, evaluations: int
) -> None:
    assert ended.stopped_early
    assert ended.steps == 4 * ended.best_step  # the first, and three that are no better
    with pytest.raises(Killed):
        killed = StopAfter(evaluations * ended.best_step + 1)
        train(tokens, tmp_path / "out", tmp_path / "state", killed, **NO_BETTER)
    log = StopAfter(-1)
    assert train(tokens, tmp_path / "out", tmp_path / "state", log, **NO_BETTER) == ended
    assert any("going on from step" in text for text in log.said)


def test_a_training_that_had_ended_does_not_begin_again(
    tokens: Home, ended: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("pipeline.stages.finetune.stage.atomic_write", die)
        train(tokens, tmp_path / "out", tmp_path / "state", **NO_BETTER)
    assert train(tokens, tmp_path / "out", tmp_path / "state", **NO_BETTER) == ended


def test_other_validation_labels_start_anew(tokens: Home, tmp_path: Path) -> None:
    """They change which checkpoint is best, though not the weights."""
    import pandas as pd

    shutil.copytree(tokens.validate, tmp_path / "validate")
    rows = pd.read_parquet(tmp_path / "validate" / "kept.parquet")
    place = rows.index[rows["split"] == "validation"]
    rows.loc[place, "label"] = rows.loc[place, "label"].to_numpy()[::-1]
    rows.to_parquet(tmp_path / "validate" / "kept.parquet")
    other = Home(tokens.folder, tokens.recipe)
    other.validate = tmp_path / "validate"  # type: ignore[misc]
    keys = [
        train(home, tmp_path / "out", tmp_path / "state", epochs=1).key for home in (tokens, other)
    ]
    assert keys[0] != keys[1]


def test_another_learning_rate_starts_anew(tokens: Home, undisturbed: Fit, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(tokens, tmp_path / "out", tmp_path / "state", StopAfter(40))
    log = StopAfter(-1)
    fit = train(tokens, tmp_path / "out", tmp_path / "state", log, learning_rate=1e-3)
    assert not any("going on" in text for text in log.said)
    (told,) = [text for text in log.said if "starts anew" in text]
    assert told.startswith("an earlier training stopped at step 27: ")
    assert fit.key != undisturbed.key
    assert fit.weights_sha256 != undisturbed.weights_sha256


def test_a_loss_that_is_not_a_number_ends_it_at_that_step(tokens: Home, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    base = tmp_path / "base"
    shutil.copytree(tokens.recipe.base.model, base)
    weights = load_file(base / "model.safetensors")
    name = next(n for n in weights if n.endswith("word_embeddings.weight"))
    weights[name] = torch.full_like(weights[name], 3e38)  # whose variance is infinite
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    broken = tokens.recipe.base.model_copy(update={"model": str(base)})
    with pytest.raises(UserError, match="the loss is nan at step 1: lower"):
        finetune(
            tokens.recipe.finetune,
            tokens.task,
            broken,
            tokens.validate,
            tokens.tokenize,
            tmp_path / "out",
            tmp_path / "state",
        )
    assert not (tmp_path / "out").exists()


def test_what_is_kept_holds_no_pickle(line: Home) -> None:
    names = {path.name for path in (line.finetune / "model").iterdir()}
    assert "model.safetensors" in names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
    assert (line.finetune / "model" / "model.safetensors").stat().st_mode & 0o044


def test_no_path_of_this_machine_is_kept(line: Home) -> None:
    for file in line.folder.rglob("*.json"):
        assert str(Path(line.recipe.base.model).parent) not in file.read_text() or file.name in (
            "intake.json",
            "fit.json",  # the source as the recipe names it
        )


def test_a_toy_is_learned(line: Home) -> None:
    fit = Fit.read(line.finetune / "fit.json")
    assert fit.best_value < 0.3
    assert fit.weights_sha256 == sha256_of(line.finetune / "model" / "model.safetensors")


def test_rare_classes_count_as_much_and_targets_are_smoothed() -> None:
    params = toy_params(class_weights="balanced", label_smoothing=0.1)
    loss = Loss(tasks.get("classification"), params, {}, np.array([60, 30, 10]))
    torch.manual_seed(0)
    logits = torch.randn(4, 3, requires_grad=True)
    labels = torch.tensor([0, 0, 1, 2])
    weight = np.array([100 / (3 * n) for n in (60, 30, 10)])
    chance = torch.log_softmax(logits, 1).detach().numpy()
    # 0.9 of a target is on its class and the rest on all three equally, each with its class weight
    expected = sum(
        -0.9 * weight[label] * row[label] - 0.1 / 3 * (weight * row).sum()
        for row, label in zip(chance, labels.tolist(), strict=True)
    )
    mask = torch.ones(4, 7, dtype=torch.bool)
    assert loss(logits, labels, mask).item() == pytest.approx(expected, rel=1e-5)
    with torch.no_grad():
        plain = loss(logits.detach(), labels, mask).item()
    assert plain == pytest.approx(-np.sum([r[i] for r, i in zip(chance, labels, strict=True)]))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"metric": "macro_f2"}, "metric: classification has no 'macro_f2'; did you mean macro_f1"),
        ({"metric": "entity_f1"}, "metric: classification has no 'entity_f1'"),
    ],
)
def test_what_the_task_does_not_know_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check(toy_params(**changes), tasks.get("classification"))


@pytest.mark.parametrize(
    ("devices", "expected"), [(0, (16, 16)), (1, (16, 16)), (4, (4, 16)), (3, (6, 18))]
)
def test_several_devices_share_a_batch(devices: int, expected: tuple[int, int]) -> None:
    assert trainer.shares(16, devices) == expected


def test_the_batches_of_a_step_share_one_divisor() -> None:
    """The summed gradients of two batches are those of one batch with all their rows."""
    import torch

    own = trainer._Trainer.__new__(trainer._Trainer)
    own.loss = Loss(tasks.get("classification"), toy_params(), {})
    torch.manual_seed(0)
    weights = torch.randn(5, 3, requires_grad=True)
    rows, labels = torch.randn(7, 5), torch.tensor([0, 1, 2, 0, 1, 2, 2])

    def model(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=input_ids @ weights)

    def gradient(*parts: slice) -> torch.Tensor:
        batches = [
            {
                "input_ids": rows[p],
                "attention_mask": torch.ones(len(rows[p]), 1),
                "labels": labels[p],
            }
            for p in parts
        ]
        count = own._get_num_items_in_batch(batches, "cpu")
        weights.grad = None
        for batch in batches:
            own.compute_loss(model, batch, num_items_in_batch=count).backward()
        return weights.grad.clone()

    assert gradient(slice(0, 2), slice(2, 7)) == pytest.approx(gradient(slice(0, 7)), abs=1e-6)


def test_a_validation_loss_is_the_mean_over_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean is not over batches: one of long texts has more tokens than one of short ones."""
    import torch
    from transformers import Trainer

    own = trainer._Trainer.__new__(trainer._Trainer)
    own.loss = Loss(tasks.get("ner"), toy_params(), {})
    own.state = SimpleNamespace(global_step=30)
    logits = torch.tensor([[[0.0, 4.0]], [[3.0, 0.0]], [[5.0, 0.0]]])
    batches = [
        {
            "input_ids": logits[i].expand(1, words, 2),
            "attention_mask": torch.ones(1, words),
            "labels": torch.zeros(1, words, dtype=torch.long),
        }
        for i, words in enumerate((1, 2, 40))
    ]
    every = torch.cat([batch["input_ids"][0] for batch in batches])
    expected = torch.nn.functional.cross_entropy(every, torch.zeros(43, dtype=torch.long)).item()

    def model(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=input_ids)

    def loop(self: Trainer, *_: object, **__: object) -> SimpleNamespace:
        for batch in batches:
            count = own._get_num_items_in_batch([batch], "cpu")
            own.compute_loss(model, dict(batch), num_items_in_batch=count)
        return SimpleNamespace(metrics={"eval_loss": 9.0})

    monkeypatch.setattr(Trainer, "evaluation_loop", loop)
    for _ in range(2):  # the sum starts at 0 each time
        metrics = own.evaluation_loop(None, metric_key_prefix="eval").metrics
        assert metrics == {"eval_loss": pytest.approx(expected)}
    batches[2]["input_ids"] = torch.full((1, 40, 2), torch.nan)
    with pytest.raises(UserError, match="the validation loss is nan at step 30: lower"):
        own.evaluation_loop(None)


def test_weights_and_smoothing_change_what_is_learned_and_resume_exactly(
    tokens: Home, undisturbed: Fit, tmp_path: Path
) -> None:
    changes = {"class_weights": "balanced", "label_smoothing": 0.2}
    whole = train(tokens, tmp_path / "a", tmp_path / "state", **changes)
    assert whole.weights_sha256 != undisturbed.weights_sha256
    assert whole.best_value < 1.0  # it learns anyway
    with pytest.raises(Killed):
        train(tokens, tmp_path / "b", tmp_path / "state", StopAfter(40), **changes)
    assert train(tokens, tmp_path / "b", tmp_path / "state", **changes) == whole


# its accuracy is highest before it ends
LORA = {"lora": Lora(rank=4, alpha=8.0, dropout=0.05), "epochs": 6, "metric": "accuracy"}


@pytest.fixture(scope="module")
def adapted(tokens: Home, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder of a training with LoRA."""
    folder = tmp_path_factory.mktemp("adapted")
    train(tokens, folder / "out", folder / "state", **LORA)
    return folder / "out"


def test_low_rank_changes_are_learned_and_resume_exactly(
    tokens: Home, adapted: Path, undisturbed: Fit, tmp_path: Path
) -> None:
    whole = Fit.read(adapted / "fit.json")
    assert whole.best_value > 0.8
    assert whole.parameters == undisturbed.parameters
    assert whole.trained < undisturbed.trained == undisturbed.parameters
    with pytest.raises(Killed):
        train(tokens, tmp_path / "out", tmp_path / "state", StopAfter(70), **LORA)
    checkpoints = list((tmp_path / "state").rglob("checkpoint-*"))
    assert checkpoints
    assert not [c for c in checkpoints if (c / "model.safetensors").exists()]
    log = StopAfter(-1)
    assert train(tokens, tmp_path / "out", tmp_path / "state", log, **LORA) == whole
    assert any("going on from step" in text for text in log.said)


def test_low_rank_changes_are_merged_into_a_plain_model(tokens: Home, adapted: Path) -> None:
    """The model that is saved is the best one on validation, as without LoRA."""
    from safetensors.torch import load_file

    folder, fit = adapted / "model", Fit.read(adapted / "fit.json")
    assert fit.best_step < fit.steps
    assert sorted(file.name for file in (folder / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert not [name for name in load_file(folder / "model.safetensors") if "lora" in name]
    model = TorchModel(folder, tokens.task)
    rows = artifacts.labelled(artifacts.kept_rows(tokens.validate, "validation"))
    logits = model.logits(artifacts.encoder(tokens.tokenize, tokens.task).pieces(rows.texts))
    chances = torch.log_softmax(torch.tensor(np.stack(logits)), 1)
    classes = Validation.read(tokens.validate / "validation.json").labels
    right = [classes.index(label) for label in rows.labels]
    loss = torch.nn.functional.nll_loss(chances, torch.tensor(right)).item()
    with (adapted / "validation.csv").open() as file:
        curve = {int(row["step"]): float(row["loss"]) for row in csv.DictReader(file)}
    assert loss == pytest.approx(curve[fit.best_step], rel=1e-4)
    assert loss != pytest.approx(curve[fit.steps], rel=1e-2)


def test_a_base_cut_short_is_told_in_one_line(tokens: Home, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tokens.recipe.base.model, base)
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    cut = tokens.recipe.base.model_copy(update={"model": str(base)})
    with pytest.raises(UserError, match="may be cut short") as caught:
        finetune(
            tokens.recipe.finetune, tokens.task, cut, tokens.validate, tokens.tokenize,
            tmp_path / "out", tmp_path / "state",
        )  # fmt: skip
    assert "\n" not in str(caught.value)


def test_batches_hold_texts_of_like_length_in_another_order_each_epoch() -> None:
    from pipeline.stages.finetune.batching import LengthSampler

    lengths = np.random.default_rng(0).integers(4, 400, 1003)
    sampler = LengthSampler(lengths, batch=16, seed=3)
    first = list(sampler)
    assert sorted(first) == list(range(1003))
    assert first == list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != first
    padded = sum(16 * max(lengths[first[i : i + 16]]) for i in range(0, 1003, 16))
    assert padded < 1.1 * lengths.sum()


@pytest.mark.gpu
def test_the_same_command_trains_on_a_gpu(tokens: Home, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    fit = train(tokens, tmp_path / "out", tmp_path / "state", precision="auto")
    assert fit.device == torch.cuda.get_device_name()
    assert fit.precision == "bf16"
