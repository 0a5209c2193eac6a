"""Reader of tables with a token and its tag in each row, as many notebooks share named entities.

Sentence #,Word,POS,Tag
Sentence: 1,Ann,NNP,B-per
,sings,VBZ,O
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from pipeline.core.errors import UserError
from pipeline.core.text import excerpt
from pipeline.sources.rows import Reject, Row, as_json, require
from pipeline.sources.tags import OUTSIDE, TAG, TagSurvey

# names in lower case, in the order of preference
TOKENS = ("word", "words", "token", "tokens", "form", "text")
TAGS = ("tag", "tags", "ner_tag", "ner_tags", "ner", "label", "labels", "entity", "iob", "bio")
SENTENCES = (
    *("sentence #", "sentence_id", "sentence", "sent_id", "sentence_no", "sentence_number"),
    *("sentence_idx", "sent", "sentence id", "sentenceid", "document_id", "doc_id"),
)
USUAL = {"token": "word", "tag": "tag", "sentence": "sentence_id"}
PRESENT = ("text", "label", "tokens", "sentence")
FIRST = 1000  # rows by which the column of tags is known
ARE_TAGS = 0.9  # share of cells

Rows = Iterator[Row | Reject]


class Columns(NamedTuple):
    """Columns of a table of tokens; None for one that is not found."""

    token: str | None
    tag: str | None
    sentence: str | None


def find_columns(rows: Iterable[Mapping[str, str]]) -> Columns:
    """Return the columns of a table of tokens by their names, and the tags also by their cells. A
    table without tags is none."""
    first = list(islice(rows, FIRST))
    names = {name.strip().lower(): name for name in (first[0] if first else ())}
    sentence, token = (_named(names, known) for known in (SENTENCES, TOKENS))
    cells = {
        name: [row[name].strip() for row in first if row.get(name)]
        for name in names.values()
        if name not in (sentence, token)
    }
    plain = sentence is not None and token is not None
    tagged = {n.strip().lower(): n for n, own in cells.items() if _are_tags(own, plain)}
    return Columns(token, _named(tagged, TAGS) or next(iter(tagged.values()), None), sentence)


def _named(names: Mapping[str, str], known: Sequence[str]) -> str | None:
    return next((names[name] for name in known if name in names), None)


def _are_tags(cells: Sequence[str], plain: bool) -> bool:
    """True for tags such as O and B-PER; with `plain` also for O and PER."""
    survey = TagSurvey()
    survey.count((), cells)
    tags = sum(rows for cell, rows in survey.kinds.items() if TAG.fullmatch(cell))
    return (plain and survey.plain) or (survey.kinds[OUTSIDE] > 0 and tags > ARE_TAGS * len(cells))


class Token(NamedTuple):
    """Row of a table of tokens."""

    file: str
    number: int
    token: str
    tag: str
    sentence: str


Sentence = list[Token | Reject]


def read_token_rows(read: Callable[[], Rows], shown: str, columns: tuple[str, ...]) -> Rows:
    """Yield the sentences of a table of tokens, which `read` reads: consecutive rows of one name,
    where an empty one is that of the row before. The number of a sentence is that of its first row.

    A sentence with a row that cannot be read, an empty token or a tag that does not fit the scheme
    of the file is one `Reject`, which names the row. Raises UserError for other tables.
    """
    require(columns, PRESENT, f"{shown}: row 1", "a table of tokens gives")
    found = find_columns(row.fields for row in read() if isinstance(row, Row))
    token, tag, sentence = found
    if token is None or tag is None or sentence is None:
        lacking = next(role for role, name in found._asdict().items() if name is None)
        raise UserError(
            f"{shown}: row 1: has a token in each row, and no column of its {lacking}: call it"
            f" {USUAL[lacking]!r}, or write CoNLL, with a blank line between sentences"
        )

    def sentences() -> Iterator[Sentence]:
        return _sentences(
            row
            if isinstance(row, Reject)
            else Token(row.file, row.number, *(row.fields[name].strip() for name in names))
            for row in read()
        )

    names, survey = (token, tag, sentence), TagSurvey()
    for each in sentences():
        own = [row for row in each if isinstance(row, Token)]
        survey.count([row.token for row in own], [row.tag for row in own])
    for each in sentences():
        yield _text(each, survey)


def _sentences(rows: Iterable[Token | Reject]) -> Iterator[Sentence]:
    """Yield the rows of each sentence; a row that cannot be read belongs to the one before it."""
    sentence: Sentence = []
    current = ""
    for row in rows:
        if isinstance(row, Token) and row.sentence not in ("", current):
            if sentence:
                yield sentence
            sentence, current = [], row.sentence
        sentence.append(row)
    if sentence:
        yield sentence


def _text(sentence: Sentence, survey: TagSurvey) -> Row | Reject:
    rows = [row for row in sentence if isinstance(row, Token)]
    tokens, tags = [row.token for row in rows], [row.tag for row in rows]
    shown = excerpt(" ".join(tokens))
    if unread := next((row for row in sentence if isinstance(row, Reject)), None):
        return unread
    if empty := next((row for row in rows if not row.token), None):
        return Reject(empty.file, empty.number, "its token is empty", shown)
    if fault := survey.fault(tags):
        return Reject(rows[0].file, rows[fault[0]].number, fault[1], shown)
    text, spans = survey.text_and_spans(tokens, tags)
    own = {"text": text, "label": as_json(spans), "tokens": as_json(tokens)}
    return Row(rows[0].file, rows[0].number, own | {"sentence": rows[0].sentence})
