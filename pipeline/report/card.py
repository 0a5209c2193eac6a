"""The card of a model: what it is, what it learned from, how good it is and where it ends.

Markdown under a metadata block of the form that model hubs read: YAML between two lines of `---`.
"""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.records import (
    Fit,
    Intake,
    Interval,
    Ladder,
    Lengths,
    Rung,
    Scores,
    Timing,
    Validation,
)
from pipeline.sources import HUB

# Rough, and said to be so on the card: what a processor and a GPU of the 2020s spend on an
# operation of a training, memory and idle time included
CPU_JOULES, GPU_JOULES = 2e-10, 1e-11
STEP_PER_ANSWER = 3  # a training step is one forward pass and a backward pass of twice its work


def model_card(
    recipe: str,
    description: str,
    lineage: str,
    intake: Intake,
    validation: Validation,
    lengths: Lengths,
    fit: Fit,
    scores: Scores,
    ladder: Ladder,
    files: Mapping[str, str],
) -> str:
    """The card as text; `files` maps the name of each served file to its SHA-256."""
    served = ladder.rung(ladder.picked)
    sections = [
        f"# {recipe}\n\n{description}",
        _origin(fit, served, lineage),
        _use(validation, lengths),
        _data(intake, validation),
        _scores(scores, served),
        _slices(scores),
        _behaviour(scores),
        _runtimes(ladder),
        _effort(lengths, fit, ladder),
        _files(files),
    ]
    front = _front_matter(recipe, intake, fit, served)
    return f"---\n{front}---\n\n" + "\n\n".join(part for part in sections if part) + "\n"


def _front_matter(recipe: str, intake: Intake, fit: Fit, served: Rung) -> str:
    """Metadata as YAML. No licence and no language: the records know of neither.

    A base is named only where it is a model of the hub, since a reader looks for it there.
    """
    from ruamel.yaml import YAML

    metrics = [
        {"type": "accuracy", "name": "accuracy", "value": round(served.test_accuracy, 4)},
        {"type": "f1", "name": "macro-F1", "value": round(served.test_macro_f1, 4)},
    ]
    result = {
        "task": {"type": "text-classification", "name": "Text classification"},
        "dataset": {"type": recipe, "name": _line(intake.source), "split": "test"},
        "metrics": metrics,
    }
    content: dict[str, Any] = {"library_name": "onnx", "pipeline_tag": "text-classification"}
    if fit.base.startswith(HUB):
        content["base_model"] = fit.base.removeprefix(HUB).partition("@")[0]
    content["tags"] = ["text-classification", "onnx", "bertline"]
    content["metrics"] = ["accuracy", "f1"]
    content["model-index"] = [{"name": recipe, "results": [result]}]
    yaml, text = YAML(), io.StringIO()
    yaml.default_flow_style = False
    yaml.dump(content, text)
    return text.getvalue()


def _origin(fit: Fit, served: Rung, lineage: str) -> str:
    early = ", stopped early" if fit.stopped_early else ""
    return (
        f"Fine-tuned from {_code(fit.base)} ({fit.parameters / 1e6:.1f} M parameters,"
        f" {fit.epochs:.1f} epochs in {fit.precision}{early}), served as `{served.name}`"
        f" ({served.bytes / 1e6:.0f} MB). Lineage `{lineage}`, weights `{fit.weights_sha256}`."
    )


def _use(validation: Validation, lengths: Lengths) -> str:
    labels = ", ".join(_cell(label) for label in validation.labels)
    return f"""## Intended use

Sorts a text into one of {len(validation.labels)} classes: {labels}. Meant for texts of the language
and the kind that it was trained on. Where an answer decides about a person, a person should look at
it.

## Limits

Every text gets an answer, also one of no known class. Texts are cut after {lengths.maximum:,}
tokens, which takes something from {lengths.truncated_share["test"]:.1%} of the test rows. Scores
are those of rows like the ones it was tested on; on others they say little. What its base learned
from, and the licences of base and data, are not recorded here: ask where they come from."""


def _data(intake: Intake, validation: Validation) -> str:
    aside = ", ".join(
        f"{rows:,} {rule.replace('_', ' ')}"
        for rule, rows in validation.quarantined_by_rule.items()
    )
    kept = validation.kept_by_split
    return f"""## Data

{_code(intake.source)}: {validation.rows:,} rows, {validation.kept:,} kept, \
{validation.quarantined:,} set aside ({aside or "none"}).
{kept["train"]:,} train, {kept["validation"]:,} validation and {kept["test"]:,} test rows;
{validation.share_lost_to_leaks:.2%} of all rows were set aside because a copy stands in a more
precious split. SHA-256 of the rows `{intake.rows_sha256}`."""


def _scores(scores: Scores, served: Rung) -> str:
    test = scores.test
    models: list[Sequence[object]] = [
        ("this one, as served", f"{served.test_accuracy:.4f}", f"{served.test_macro_f1:.4f}"),
        ("this one, in PyTorch", _shown(test.accuracy), _shown(test.macro_f1)),
        *((each.name, _shown(each.accuracy), _shown(each.macro_f1)) for each in scores.baselines),
    ]
    classes = [
        (
            label,
            f"{each['precision']:.3f}",
            f"{each['recall']:.3f}",
            f"{each['f1']:.3f}",
            f"{each['rows']:.0f}",
        )
        for label, each in test.per_class.items()
    ]
    return f"""## Scores

On {test.rows:,} test rows, with 95 % bootstrap intervals. Checkpoint and runtime were chosen on
validation rows.

{_table(("model", "accuracy", "macro-F1"), models)}

{_table(("class", "precision", "recall", "F1", "rows"), classes)}

Expected calibration error {test.calibration_error:.3f}."""


def _slices(scores: Scores) -> str:
    if not scores.slices:
        return ""
    rows = [(each.name, f"{each.rows:,}", _shown(each.accuracy)) for each in scores.slices]
    return f"## Slices\n\n{_table(('slice', 'test rows', 'accuracy'), rows)}"


def _behaviour(scores: Scores) -> str:
    if not scores.behaviour:
        return ""
    header = ("suite", "test", "kind", "cases", "failed", "allowed", "")
    rows = [
        (
            each.suite,
            each.name,
            each.kind,
            f"{each.cases:,}",
            f"{each.share:.1%}",
            f"{each.allowed:.1%}",
            "broken" if not each.passed else "held" if each.cases else "no row to change",
        )
        for each in scores.behaviour
    ]
    return f"## Behaviour\n\n{_table(header, rows)}"


def _runtimes(ladder: Ladder) -> str:
    header = ("runtime", "size", "median, batch 1", "speed-up", "accuracy", "flips", "")
    rows = [
        (
            rung.name,
            f"{rung.bytes / 1e6:.0f} MB",
            f"{rung.single.p50_ms:.1f} ms",
            f"{rung.speedup:.2f} ×",
            f"{rung.test_accuracy:.4f}",
            f"{rung.test_flips:.2%}",
            rung.verdict,
        )
        for rung in ladder.rungs
    ]
    machine = ladder.machine
    return f"""## Runtimes

Measured on {_line(machine.processor)}, {ladder.threads} threads, {_line(machine.gpu or "no GPU")}.

{_table(header, rows)}"""


def _effort(lengths: Lengths, fit: Fit, ladder: Ladder) -> str:
    tokens = lengths.rows["train"] * _mean_tokens(lengths)
    operations = 6 * fit.parameters * tokens * fit.epochs
    on_cpu = fit.device == "cpu"
    joules = CPU_JOULES if on_cpu else GPU_JOULES
    energy = operations * joules
    rows = [
        (
            "operations",
            f"{operations:.1e}",
            f"6 × parameters × tokens × epochs = 6 × {fit.parameters:,} × {tokens:,.0f}"
            f" × {fit.epochs:.1f}; embeddings counted, attention not",
        ),
        (
            "energy",
            f"{energy / 1e3:.2g} kJ ({energy / 3600:.2g} Wh)",
            f"operations × {joules:.0e} J, an order of magnitude for a"
            f" {'processor' if on_cpu else 'GPU'}; nothing was metered",
        ),
    ]
    reference = ladder.rung(ladder.reference)
    same = " cpu " in reference.provider if on_cpu else ladder.machine.gpu == fit.device
    if same:  # else the ladder says nothing of the speed of training
        fastest = max([*reference.grid, reference.single], key=_speed)
        seconds = STEP_PER_ANSWER * lengths.rows["train"] * fit.epochs / fastest.texts_per_second
        rows.append(
            (
                "time",
                f"{seconds:,.0f} s",
                f"{STEP_PER_ANSWER} × training rows × epochs / {fastest.texts_per_second:.3g} texts"
                f" a second, which PyTorch answered at batch {fastest.batch} on the machine above",
            )
        )
    return f"""## Training time and energy, estimated

No clock or meter is kept of a training: its records are the same wherever it is done again. These
are estimates, and each says how it is made.

{_table(("", "about", "how"), rows)}"""


def _speed(timing: Timing) -> float:
    return timing.texts_per_second


def _mean_tokens(lengths: Lengths) -> float:
    """Mean tokens of a text after cutting, by straight lines between the known quantiles."""
    shares = [0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0]
    names = ["p5", "p5", "p25", "p50", "p75", "p95", "p99", "max"]
    cut = [min(lengths.quantiles[name], lengths.maximum) for name in names]
    return sum(
        (shares[i + 1] - shares[i]) * (cut[i] + cut[i + 1]) / 2 for i in range(len(shares) - 1)
    )


def _files(files: Mapping[str, str]) -> str:
    rows = [(name, digest) for name, digest in files.items()]
    return "## Files\n\n" + _table(("file", "SHA-256"), rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    """Text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*_\[\]<>|#~&$])", r"\\\1", _line(str(value)))


def _code(text: str) -> str:
    """Text as inline code."""
    return "`" + _line(text).replace("`", "'") + "`"


def _line(text: str) -> str:
    return " ".join(text.split())


def _shown(interval: Interval) -> str:
    return f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]"
