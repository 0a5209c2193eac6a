"""From a version back to what it was made of, and forward to when it was in use."""

from pipeline.adapters.mlflow import Registry
from pipeline.errors import UserError
from pipeline.promotion.registry import champion_of

SCORES = ("test.accuracy", "test.macro_f1", "served.test_accuracy", "served.p50_ms")


def explain(registry: Registry, model: str, number: str | None) -> str:
    """A version's lineage, parameters, scores and history. `None` asks for the champion."""
    champion = champion_of(registry, model)
    number = number or champion
    if number is None:
        raise UserError(f"{model}: has no champion yet: name a version, or bertline run {model}")
    tags = registry.version_tags(model, number)
    params, metrics, datasets = registry.run_facts(tags["run"])
    state = "in use" if number == champion else "not in use"
    lines = [
        f"{model}/{number}, {state}",
        f"  lineage  {tags.get('bertline.lineage')}",
        f"  served   {tags.get('bertline.rung')}, sha256 {tags.get('bertline.model_sha256')}",
        f"  weights  sha256 {tags.get('bertline.weights_sha256')}",
        f"  run      {tags['run']}",
        f"  base     {params.get('base.model')}",
    ]
    lines += [f"  data     {dataset}" for dataset in datasets]
    lines += [f"  {name} {metrics[name]:.4f}" for name in SCORES if name in metrics]
    if "test.accuracy_low" in metrics:
        low, high = metrics["test.accuracy_low"], metrics["test.accuracy_high"]
        lines.append(f"  95 % interval of the test accuracy [{low:.4f}, {high:.4f}]")
    lines.append("  parameters")
    lines += [f"    {name}: {value}" for name, value in sorted(params.items())]
    lines.append("  ledger")
    for _, entry, _ in registry.entries(model):
        if number not in (entry.version, entry.previous):
            continue
        place = f" (champion {model}/{entry.previous})" if entry.previous else ""
        lines.append(
            f"    {entry.when[:19]}Z  {entry.who}: {entry.event} {model}/{entry.version}{place}:"
            f" {entry.reason}"
        )
    if lines[-1] == "  ledger":
        lines.append("    nothing: the gate was not asked")
    return "\n".join(lines)
