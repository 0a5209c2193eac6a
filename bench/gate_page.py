"""Tables and a picture of the results of gate.py."""

from pathlib import Path
from typing import Any

import numpy as np
from report import table

from pipeline.plots.palette import BLUE, GREEN, GREY, ORANGE


def markdown(content: dict[str, Any]) -> str:
    """Return the content of gate.md."""
    parts = ["## The gate, judged by simulation"]
    for name, facts in content["data"].items():
        rules = list(facts["questions"][0]["promoted"])
        rows = [
            (
                f"{each['rows']:,}",
                f"{each['points']:+.1f}",
                *(f"{each['promoted'][rule]:.1%}" for rule in rules),
            )
            for each in facts["questions"]
        ]
        parts.append(
            f"### {name}: accuracy {facts['accuracy']:.3f}, mistakes correlated by"
            f" {facts['correlation']:.2f}\n\nOne question: share of challengers promoted"
            f" ({content['draws']:,} draws of each kind).\n\n"
            + table(("test rows", "true difference, points", *rules), rows)
        )
        over = [
            (
                f"{each['rows']:,}, {each['test set']}",
                f"{each['points']:+.1f}",
                *(_year(each["rules"][rule], each["points"]) for rule in each["rules"]),
            )
            for each in facts["years"]
        ]
        header = ("test set", "true difference, points", *facts["years"][0]["rules"])
        parts.append(
            f"A year of weekly questions ({content['years']:,} years of each kind, where no other"
            " number stands; of what is not right or wrong, a row counts as won on which one is"
            " better). No difference:"
            " share of years, and of epochs, in which a model that is no better was promoted. A"
            " difference: share of years in which the better one was promoted, and the median week"
            f" in which it was.\n\n{table(header, over)}"
        )
    checked = sum(facts["held_against_judge"] for facts in content["data"].values())
    parts.append(
        f"The gate's rule here is `judge` itself without floors and guardrails: {checked} draws"
        " were put to both, and they agreed on all."
    )
    return "\n\n".join(parts) + "\n"


def _year(outcome: dict[str, float], points: float) -> str:
    share = f"{outcome['years_with_a_promotion']:.1%}"
    if points == 0:
        return f"{share} of years, {outcome['epochs_with_a_promotion']:.1%} of epochs"
    return f"{share}, week {outcome['median_week']:.0f}"


def picture(content: dict[str, Any], path: Path) -> None:
    """Plot power by true difference at three test set sizes, and a year without difference."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(content["data"])
    figure, grid = plt.subplots(
        len(names), 2, figsize=(11, 4 * len(names)), layout="constrained", squeeze=False
    )
    for name, (left, right) in zip(names, grid, strict=True):
        facts = content["data"][name]
        for colour, rows in zip((BLUE, ORANGE, GREEN), (500, 2000, 20000), strict=True):
            part = [each for each in facts["questions"] if each["rows"] == rows]
            for rule, style in zip(part[0]["promoted"], ("-", "--", ":", "-."), strict=True):
                left.plot(
                    [each["points"] for each in part],
                    [each["promoted"][rule] for each in part],
                    style,
                    color=colour,
                    label=f"{rows:,} rows" if rule == "gate" else None,
                )
        left.axhline(content["error_rate"], color=GREY, lw=0.8)
        left.set(xlabel="true difference, points", ylabel="share promoted", ylim=(-0.02, 1.02))
        left.set_title(f"{name}: one question")
        left.legend(frameon=False)
        kinds = ("stays", "grows")  # of accuracy
        years = [each for each in facts["years"] if each["test set"] in kinds]
        equal = [each for each in years if each["points"] == 0]
        rules = list(equal[0]["rules"])
        width = 0.8 / len(rules)
        for place, rule in enumerate(rules):
            right.bar(
                np.arange(len(equal)) + place * width,
                [each["rules"][rule]["epochs_with_a_promotion"] for each in equal],
                width,
                label=rule,
            )
        right.axhline(content["error_rate"], color=GREY, lw=0.8)
        right.set_xticks(
            np.arange(len(equal)) + width,
            [f"{each['rows']:,}, {each['test set']}" for each in equal],
        )
        right.set(ylabel="epochs with a promotion", ylim=(0, 1.3))
        right.set_title(f"{name}: a year in which no challenger is better")
        right.legend(frameon=False, loc="upper center", ncols=3, fontsize=9)
    figure.suptitle(
        "solid: the gate, dashed: exact conditional McNemar, dotted: usual rule, dash-dot: bare"
        " McNemar",
        fontsize=9,
    )
    figure.savefig(path, dpi=110, metadata={"Software": None})
