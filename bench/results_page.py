"""Page docs/RESULTS.md, written from the numbers that results.py and trials.py store."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from report import RESULTS, ROOT, machine_text, table

from flows.cli.recipes import names
from pipeline.core.files import write_text
from pipeline.core.records import Machine

KEPT = RESULTS / "gallery"
TRIALS = RESULTS / "trials"
PAGE = ROOT / "docs" / "RESULTS.md"


@dataclass(frozen=True)
class Bar:
    """Score that a recipe should reach on its test rows, and scores that others report."""

    metric: str
    least: float | None
    """Minimum; None: more than the best baseline."""
    others: str = ""
    times: float = 1.0
    """Factor of the best baseline that makes the minimum, if `least` is None."""
    above: float = 0.0
    """Difference from the best baseline that makes the minimum, if `least` is None."""

    @property
    def words(self) -> str:
        if self.least is not None:
            return f"{self.least:g}"
        if self.times > 1:
            return f"{self.times:g} × baseline"
        return f"baseline + {self.above:g}" if self.above else "baseline"

    def met(self, value: float, baseline: float | None) -> bool:
        if self.least is not None:
            return value >= self.least
        if baseline is None:
            return False
        # without a factor or difference, a score equal to the baseline is not enough
        least = baseline * self.times + self.above
        return value >= least if least > baseline else value > baseline


BARS: dict[str, tuple[Bar, ...]] = {
    "imdb": (Bar("macro_f1", 0.91, "0.894 BERT-base"),),
    "conll2003": (
        Bar("entity_f1", 0.87),
        Bar("token_micro_f1", 0.975, "0.973 BERT-base"),
        Bar("token_macro_f1", 0.88, "0.909 BERT-base"),
    ),
    "goemotions": (Bar("macro_f1", 0.43, "0.46 BERT-base, Demszky et al. 2020"),),
    "banking77": (Bar("accuracy", 0.92, "0.936 BERT, Casanueva et al. 2020"),),
    "mrpc": (Bar("accuracy", 0.83, "0.867 BERT-base on GLUE"),),
    "squad": (Bar("f1", 0.5),),
    "afqmc": (Bar("accuracy", None), Bar("macro_f1", None)),
    "people-daily": (Bar("entity_f1", None),),
    "imdb-domain": (
        Bar("masked_accuracy", None),
        Bar("inverse_perplexity", None, times=5),
        Bar("next_sentence_accuracy", 0.85),
        Bar("next_sentence_accuracy", None, above=0.05),
    ),
    "multi30k": (Bar("bleu", 0.4),),
}


def write_page() -> None:
    kept, trials = (
        [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
        for folder in (KEPT, TRIALS)
    )
    write_text(PAGE, page(kept, trials))


def page(results: Sequence[Mapping[str, Any]], trials: Sequence[Mapping[str, Any]] = ()) -> str:
    """Return docs/RESULTS.md. `trials` are the files of trials.py, one for each recipe."""
    missing = [name for name in names() if name not in {each["recipe"] for each in results}]
    waiting = f"\nNot run yet: {', '.join(missing)}.\n" if missing else ""
    reached = ("recipe", "score", "test rows", "value (95 %)", "all published", "best baseline")
    cost = ("recipe", "train", "validation", "test", "leaks", "tokens", "trained", "time")
    return f"""# Results

Scores of the ready recipes (`bertline recipes`) on real data. `python bench/results.py` runs the
recipes that have no result yet, or the one that it is given, and writes this page from
`bench/results/gallery/`.

No choice is based on test rows. Checkpoint, thresholds and runtime are selected on validation rows,
which are a part of the training rows if the data set has none. The other values come from the
literature and the lengths of the texts. Training rows that are exact or near copies of test rows
are removed before training. Published test sets also contain copies within themselves, which are
removed; the column "all published" includes them. Invalid rows (without a label, or with another
defect) are in neither score.
{waiting}
## Scores

{table((*reached, "bar", "for comparison"), [row for each in results for row in _reached(each)])}

The value is the score on the test rows that validation kept, with its bootstrap interval, which
resamples whole groups. A baseline is a simple method on the same rows. The bar is the score that
the recipe should reach.

## Cost

{table((*cost, "served by", "speed-up", "its score"), [_cost(each) for each in results])}

Leaks are rows that were removed because a copy is in another split: the copy in test is kept, else
the one in validation. The time is that of the stage `finetune`, with its validation runs and steps
that were repeated after an interruption. It is no benchmark, since some recipes were trained in
parallel on one core each. The speed-up is over PyTorch at batch 1, with texts of the recipe's
lengths.

{_tried(trials, {each["recipe"]: each for each in results})}## Machines

{_machines(results)}
"""


def _reached(result: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    scores = result["scores"]
    main = next(iter(scores))
    for bar in BARS.get(result["recipe"], (Bar(main, None),)):
        held = scores.get(bar.metric)
        value = held["value"] if held else result["more"][bar.metric]
        span = f" ({_number(held['low'])}–{_number(held['high'])})" if held else ""
        best = _best_baseline(result, bar.metric)
        uncut = result["uncut"]["scores"].get(bar.metric)
        yield (
            result["recipe"],
            bar.metric.replace("_", " "),
            f"{result['kept']['test']:,}",
            f"**{_number(value)}**{span}",
            f"{_number(uncut)} of {result['uncut']['rows']:,}" if uncut is not None else "",
            f"{_number(best[1])} {best[0]}" if best else "",
            f"{bar.words}: {'met' if bar.met(value, best[1] if best else None) else 'not met'}",
            bar.others,
        )


def _number(value: float) -> str:
    """Format with three decimals; small values, such as inverse perplexity, with three digits."""
    return f"{value:.3f}" if value >= 0.1 or not value else f"{value:.3g}"


def _best_baseline(result: Mapping[str, Any], metric: str) -> tuple[str, float] | None:
    found = [(name, of[metric]) for name, of in result["baselines"].items() if metric in of]
    return max(found, key=lambda each: each[1]) if found else None


def _cost(result: Mapping[str, Any]) -> tuple[str, ...]:
    served, main = result["served"], next(iter(result["scores"]))
    epochs = f"{result['epochs']:.3g} epoch{'' if result['epochs'] == 1 else 's'}"
    return (
        result["recipe"],
        *(f"{result['kept'][split]:,}" for split in ("train", "validation", "test")),
        f"{result['leaks']:,}",
        f"{result['max_length']} {result['long_text'].replace('_', ' ')}",
        f"{result['trained'] / 1e6:.1f} of {result['parameters'] / 1e6:.1f} M",
        f"{result['training_seconds'] / 60:.0f} min, {epochs}, {result['precision']}",
        served["runtime"],
        f"{served['speedup']:.2f} ×",
        f"{served['scores'][main]:.3f} {main.replace('_', ' ')}",
    )


def _tried(trials: Sequence[Mapping[str, Any]], results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the section on trials of other values, "" if there are none."""
    rows = []
    for each in trials:
        result = results.get(each["recipe"])
        if result:
            rows.append((each["recipe"], "as it is", *_validated(result)))
        rows += [(each["recipe"], f"`{of['changes']}`", *_validated(of)) for of in each["trials"]]
    if not rows:
        return ""
    header = ("recipe", "values", "validation rows", "best score on them", "time")
    return f"""## What was tried

{table(header, rows)}

These are other values for recipes below their bar, compared only on validation rows.
`python bench/trials.py` trains a recipe with the values that it is given. Each score is that of the
best checkpoint.

"""


def _validated(result: Mapping[str, Any]) -> tuple[str, ...]:
    held, minutes = result["validation"], result["training_seconds"] / 60
    rows = f"{result['kept']['validation']:,}"
    return rows, f"{held['value']:.3f} {held['metric']}", f"{minutes:.0f} min"


def _machines(results: Sequence[Mapping[str, Any]]) -> str:
    """Return each machine once, with the base and the command of each run on it."""
    runs: dict[str, list[str]] = {}
    for each in results:
        machine = machine_text(Machine.model_validate(each["machine"]))
        runs.setdefault(machine, []).append(f"`{each['command']}` (from {each['base']})")
    return "\n\n".join(f"{machine}\n{'; '.join(commands)}." for machine, commands in runs.items())
