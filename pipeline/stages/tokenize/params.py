"""Parameters of tokenize."""

from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from pipeline.core.config import Settings
from pipeline.models.heads import head_of
from pipeline.tasks.base import Task
from pipeline.tasks.base.encoding import LongText

if TYPE_CHECKING:
    pass


class Vocabulary(Settings):
    """A WordPiece vocabulary that is learned from the training rows (Wu et al. 2016)."""

    size: int = Field(ge=100)
    """Tokens, at most."""
    lower_case: bool
    """True if letters lose their case and their accents, as in BERT's uncased vocabularies."""
    min_frequency: int = Field(ge=1)
    """How often two parts of a word must stand together to be joined."""


class Masking(Settings):
    """Tokens that are masked, for tasks that predict them: 80 % of these become [MASK], 10 %
    another token and 10 % stay (Devlin et al. 2019)."""

    probability: float = Field(gt=0, lt=1)
    """Share of the tokens."""
    whole_words: bool
    """Whether all tokens of a word are masked or none."""
    packed: bool
    """True if one document begins where another ends, so that training passages are full (Liu et
    al. 2019); else each is of one document, and as short as that is. Pairs are of one document."""


class TokenizeParams(Settings):
    max_length: int = Field(ge=8, le=8192)
    """Tokens that the model reads at once, special tokens included."""
    long_text: LongText
    """What becomes of a longer text: truncate keeps its beginning, head_tail a quarter from the
    beginning and the rest from the end (Sun et al. 2019), windows all of it, in pieces."""
    overlap: int = Field(ge=0)
    """Tokens that one window shares with the next."""
    symmetric: bool
    """True if a training row is read twice, its two texts in both orders: where none is the first,
    as of paraphrases."""
    vocabulary: Vocabulary | None
    """Settings of a learned vocabulary: of the source, where null takes the base's and a base from
    scratch needs one, and of the target, where a task writes."""
    masking: Masking | None
    """null for tasks that predict no masked tokens."""

    @property
    def masked(self) -> dict[str, Any] | None:
        """`masking` as plain values."""
        return self.masking.model_dump() if self.masking else None

    @model_validator(mode="after")
    def _windows_advance(self) -> Self:
        if self.overlap and self.long_text != "windows":
            raise ValueError("overlap is of windows alone: set it to 0, or long_text to windows")
        if self.overlap > self.max_length // 2:
            raise ValueError("overlap is more than half of max_length: make it smaller")
        return self


def check(params: TokenizeParams, task: Task) -> None:
    """Raises ValueError, beginning with the key, for what the task has no use of, or needs."""
    writes = head_of(task).generates
    if writes and not params.vocabulary:
        raise ValueError(
            f"vocabulary: {task.name} writes words of its own: say how they are learned"
        )
    if writes and params.long_text != "truncate":
        raise ValueError(f"long_text: {task.name} reads a text at once: set it to truncate")
    if params.masking and not task.dynamic_masking:
        raise ValueError(f"masking: {task.name} predicts no masked tokens: set it to null")
    if task.dynamic_masking and not params.masking:
        raise ValueError(f"masking: {task.name} predicts masked tokens: give their probability")
    if params.masking and params.masking.packed and task.with_neighbour:
        raise ValueError(
            f"masking.packed: {task.name} parts passages of one document: set it to false, or task"
            " to masked_lm"
        )
    if task.dynamic_masking and (params.long_text != "windows" or params.overlap):
        raise ValueError(
            f"long_text: {task.name} reads the whole of a text once: set it to windows, and overlap"
            " to 0"
        )
    if params.long_text == "head_tail" and (task.two_texts or task.offsets):
        raise ValueError(
            f"long_text: head_tail is for tasks of one whole text, not for {task.name}: set it to"
            " truncate or windows"
        )
    if params.symmetric and not task.symmetric:
        raise ValueError(
            f"symmetric: the texts of {task.name} cannot change places: set it to false"
        )
