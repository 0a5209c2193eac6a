"""Values that `bertline new` proposes, each with its reason."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HAN = re.compile("[\u3400-\u9fff]")


def watchable(folder: Path) -> bool:
    """True if DVC can watch a folder: it does not hold the project, whose outputs change."""
    return not Path.cwd().is_relative_to(folder.resolve())


@dataclass
class Proposal:
    """Values of a recipe that differ from its task's starting block, and the reasons."""

    task: str
    ingest: dict[str, Any]
    validate: dict[str, Any] = field(default_factory=dict)
    finetune: dict[str, Any] = field(default_factory=dict)
    baseline: str | None = None
    """Value of `evaluate.baseline`; None keeps the task's."""
    reasons: list[tuple[str, str]] = field(default_factory=list)
    texts: list[tuple[str, ...]] = field(default_factory=list)
    """Texts of the sampled rows: one, or two."""

    def because(self, name: str, reason: str) -> None:
        self.reasons.append((name, reason))

    def lines(self) -> Iterator[str]:
        """Yield the lines that explain the proposal."""
        for name, reason in self.reasons:
            yield f"{name + ':' if name else '':<11}{reason}"
