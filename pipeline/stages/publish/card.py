"""Model card: purpose, origin, data, scores, runtimes and limits of a model.

Markdown under a metadata block of the form that model hubs read: YAML between two lines of `---`.
"""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.core.locations import HUB
from pipeline.core.records import (
    Benchmark,
    Candidate,
    Fit,
    Intake,
    Interval,
    Lengths,
    Scores,
    Validation,
)
from pipeline.metrics import names as words
from pipeline.stages.publish.records import Records
from pipeline.tasks.base import Task

# rough energy of one operation in training on hardware of the 2020s, with memory and idle time; the
# card says that these are orders of magnitude
CPU_JOULES, GPU_JOULES = 2e-10, 1e-11
MOST_CLASSES = 100  # that are named, and have scores in the table
STEP_PER_ANSWER = 3  # a training step is one forward pass and a backward pass of twice its work


def model_card(
    recipe: str,
    description: str,
    task: Task,
    lineage: str,
    made: Records,
    files: Mapping[str, str],
) -> str:
    """Return the card's text; `files` maps the name of each served file to its SHA-256."""
    sections = [
        f"# {recipe}\n\n{description}",
        _origin(made.fit, made.served, lineage),
        _use(task, made.validation, made.lengths),
        _data(made.intake, made.validation),
        _scores(made.scores, made.served),
        _slices(made.scores),
        _behaviour(made.scores),
        _runtimes(made.benchmark, made.scores.main),
        _effort(made.lengths, made.fit, made.benchmark),
        _files(files),
    ]
    front = _front_matter(recipe, task, made.intake, made.fit, made.served)
    return f"---\n{front}---\n\n" + "\n\n".join(part for part in sections if part) + "\n"


def _front_matter(recipe: str, task: Task, intake: Intake, fit: Fit, served: Candidate) -> str:
    """Return the metadata as YAML, without licence and language, which no record holds.

    A base is named only if it is a model of the hub, where readers look for it.
    """
    from ruamel.yaml import YAML

    metrics = [
        {"type": _hub_metric(name), "name": words.metric(name), "value": round(value, 4)}
        for name, value in served.test.items()
    ]
    hub_task = task.display_name.lower().replace(" ", "-")
    result = {
        "task": {"type": hub_task, "name": task.display_name},
        "dataset": {"type": recipe, "name": _line(intake.source), "split": "test"},
        "metrics": metrics,
    }
    content: dict[str, Any] = {"library_name": "onnx", "pipeline_tag": hub_task}
    if fit.base.startswith(HUB):
        content["base_model"] = fit.base.removeprefix(HUB).partition("@")[0]
    content["tags"] = [hub_task, "onnx", "bertline"]
    content["metrics"] = list(dict.fromkeys(metric["type"] for metric in metrics))
    content["model-index"] = [{"name": recipe, "results": [result]}]
    yaml, text = YAML(), io.StringIO()
    yaml.default_flow_style = False
    yaml.dump(content, text)
    return text.getvalue()


def _hub_metric(name: str) -> str:
    """Return the hub's name of a metric, which is the same for every kind of F1."""
    return "f1" if name.endswith("f1") else name


def _origin(fit: Fit, served: Candidate, lineage: str) -> str:
    early = ", stopped early" if fit.stopped_early else ""
    part = fit.trained / fit.parameters
    trained = f", {part:.2%} of them trained" if 0 < part < 1 else ""
    how = ", its head on the mean of a text's tokens" if fit.pooling == "mean" else ""
    begun = "Fine-tuned from" if fit.epochs else "Trained elsewhere and imported as it is,"
    training = f", {fit.epochs:.1f} epochs in {fit.precision}{early}" if fit.epochs else ""
    return (
        f"{begun} {_code(fit.base)} ({fit.parameters / 1e6:.1f} M parameters{trained}{how}"
        f"{training}), served as `{served.name}`"
        f" ({served.bytes / 1e6:.0f} MB). Lineage `{lineage}`, weights `{fit.weights_sha256}`."
    )


def _use(task: Task, validation: Validation, lengths: Lengths) -> str:
    text = "pair of texts" if task.two_texts else "text"
    strange = "of no known class" if task.exclusive else "unlike all that it learned from"
    cut = f"are cut after {lengths.maximum:,} tokens, which shortens"
    if lengths.long_text == "head_tail":
        cut = f"are cut to {lengths.maximum:,} tokens of their beginning and end: so were"
    if lengths.long_text == "windows":
        cut = f"are read in windows of {lengths.maximum:,} tokens: so were"
    return f"""## Intended use

{_ability(task, text, validation.labels)} Meant for texts of the language and the kind that it was
trained on. Where an answer decides about a person, a person should look at it.

## Limits

Every {text} gets an answer, also one {strange}. Long texts {cut}
{lengths.truncated_share["test"]:.1%} of the test rows. Scores are those of rows like the ones it
was tested on; on others they say little. The training data of its base, and the licences of base
and data, are not recorded here: ask their providers."""


def _ability(task: Task, text: str, labels: Sequence[str]) -> str:
    """Return a sentence on what the model does."""
    named = ", ".join(_cell(label) for label in labels[:MOST_CLASSES])
    more = f" and {len(labels) - MOST_CLASSES:,} more" if len(labels) > MOST_CLASSES else ""
    classes = f"{len(labels):,} classes: {named}{more}."
    if task.exclusive:
        return f"Sorts a {text} into one of {classes}"
    if labels:
        return f"{task.display_name}: finds in a {text} none, one or several of {classes}"
    return f"{task.display_name} for a {text}, with no fixed list of answers."


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


def _scores(scores: Scores, served: Candidate) -> str:
    test = scores.test
    scored = {"this one, in PyTorch": test.scores} | {e.name: e.scores for e in scores.baselines}
    models: list[Sequence[object]] = [
        ("this one, as served", *(f"{served.test[name]:.4f}" for name in test.scores)),
        *((model, *(_shown(each[name]) for name in test.scores)) for model, each in scored.items()),
    ]
    metrics = [words.metric(name) for name in test.scores]
    parts = [
        f"""## Scores

On {test.rows:,} test rows, with 95 % bootstrap intervals. Checkpoint and runtime were chosen on
validation rows.""",
        _table(("model", *metrics), models),
    ]
    if test.per_class:
        parts.append(_classes(test.per_class))
    more = [f"{words.metric(name)} {words.number(value)}" for name, value in test.more.items()]
    if test.calibration_error is not None:
        more.append(f"expected calibration error {test.calibration_error:.3f}")
    if more:
        parts.append(f"Besides: {_cell(', '.join(more))}.")
    parts += [f"{words.metric(name)}: `{each}`." for name, each in test.signatures.items()]
    return "\n\n".join(parts)


def _classes(per_class: Mapping[str, Mapping[str, float]]) -> str:
    listed = words.most_mistaken(per_class, MOST_CLASSES)
    rows = [
        (
            label,
            *(f"{per_class[label][name]:.3f}" for name in ("precision", "recall", "f1")),
            f"{per_class[label]['rows']:.0f}",
        )
        for label in listed
    ]
    table = _table(("class", "precision", "recall", "F1", "in test rows"), rows)
    if len(listed) == len(per_class):
        return table
    return f"The {len(listed)} of {len(per_class):,} classes with the most mistakes:\n\n{table}"


def _slices(scores: Scores) -> str:
    if not scores.slices:
        return ""
    rows = [(each.name, f"{each.rows:,}", _shown(each.score)) for each in scores.slices]
    return f"## Slices\n\n{_table(('slice', 'test rows', words.metric(scores.main)), rows)}"


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


def _runtimes(runtimes: Benchmark, main: str) -> str:
    header = ("runtime", "size", "median, batch 1", "speed-up", words.metric(main), "flips", "")
    rows = [
        (
            candidate.name,
            f"{candidate.bytes / 1e6:.0f} MB",
            f"{candidate.single.p50_ms:.1f} ms",
            f"{candidate.speedup:.2f} ×",
            f"{candidate.test[main]:.4f}",
            f"{candidate.test_flips:.2%}",
            candidate.verdict,
        )
        for candidate in runtimes.candidates
    ]
    machine = runtimes.machine
    return f"""## Runtimes

Measured on {_line(machine.processor)}, {runtimes.threads} threads,
{_line(machine.gpu or "no GPU")}.

{_table(header, rows)}"""


def _effort(lengths: Lengths, fit: Fit, runtimes: Benchmark) -> str:
    if not fit.epochs:
        return ""
    rows_read, pieces = lengths.rows["train"], lengths.pieces["train"]
    tokens = min(rows_read * _mean_tokens(lengths), pieces * lengths.maximum)
    # forward and backward pass through all parameters, and gradients of the trained ones
    work = 4 * fit.parameters + 2 * fit.trained
    operations = work * tokens * fit.epochs
    formula = "6 × parameters"
    numbers = f"6 × {fit.parameters:,}"
    if fit.trained < fit.parameters:
        formula = "(4 × parameters + 2 × those trained)"
        numbers = f"(4 × {fit.parameters:,} + 2 × {fit.trained:,})"
    on_cpu = fit.device == "cpu"
    joules = CPU_JOULES if on_cpu else GPU_JOULES
    energy = operations * joules
    rows = [
        (
            "operations",
            f"{operations:.1e}",
            f"{formula} × tokens × epochs = {numbers} × {tokens:,.0f}"
            f" × {fit.epochs:.1f}; embeddings counted, attention not",
        ),
        (
            "energy",
            f"{energy / 1e3:.2g} kJ ({energy / 3600:.2g} Wh)",
            f"operations × {joules:.0e} J, an order of magnitude for a"
            f" {'processor' if on_cpu else 'GPU'}; nothing was metered",
        ),
    ]
    reference = runtimes.candidate(runtimes.reference)
    same = " cpu " in reference.provider if on_cpu else runtimes.machine.gpu == fit.device
    if same:  # else the timings say nothing about the speed of training
        timings = [*reference.grid, reference.single]
        fastest = max(timings, key=lambda timing: timing.texts_per_second)
        seconds = STEP_PER_ANSWER * pieces * fit.epochs / fastest.texts_per_second
        read = "windows of training rows" if pieces > rows_read else "training rows"
        rows.append(
            (
                "time",
                f"{seconds:,.0f} s",
                f"{STEP_PER_ANSWER} × {read} × epochs / {fastest.texts_per_second:.3g} texts"
                f" a second, which PyTorch answered at batch {fastest.batch} on the machine above",
            )
        )
    return f"""## Training time and energy, estimated

Training is neither timed nor metered, so that its records are the same wherever it is repeated.
These are estimates, and each says how it is made.

{_table(("", "about", "how"), rows)}"""


def _mean_tokens(lengths: Lengths) -> float:
    """Return the mean tokens of a text as read, interpolated between the known quantiles."""
    shares = [0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0]
    names = ["p5", "p5", "p25", "p50", "p75", "p95", "p99", "max"]
    most = lengths.quantiles["max"] if lengths.long_text == "windows" else lengths.maximum
    cut = [min(lengths.quantiles[name], most) for name in names]
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
    """Escape text for Markdown, on one line."""
    return re.sub(r"([\\`*_\[\]<>|#~&$])", r"\\\1", _line(str(value)))


def _code(text: str) -> str:
    """Format text as inline code."""
    return "`" + _line(text).replace("`", "'") + "`"


def _line(text: str) -> str:
    return " ".join(text.split())


def _shown(interval: Interval) -> str:
    return f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]"
