"""Reader of tables with a token and its tag in each row, as many notebooks share named entities.

Sentence #,Word,POS,Tag
Sentence: 1,Ann,NNP,B-per
,sings,VBZ,O
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice, takewhile
from typing import NamedTuple

from pipeline.core.errors import UserError
from pipeline.core.text import excerpt
from pipeline.sources.rows import NAMED, Reject, Row, as_json, require
from pipeline.sources.tables import PLAIN_QUOTES
from pipeline.sources.tags import OUTSIDE, TAG, TagSurvey

# names in lower case, in the order of preference
TOKENS = ("word", "words", "token", "tokens", "form", "text")
TAGS = ("tag", "tags", "ner_tag", "ner_tags", "ner", "label", "labels", "entity", "iob", "bio")
SENTENCES = (
    *("sentence #", "sentence_id", "sentence", "sent_id", "sentence_no", "sentence_number"),
    *("sentence_idx", "sent", "sentence id", "sentenceid"),
)
DOCUMENTS = ("document", "document_id", "document #", "doc", "doc_id", "document id")
NEEDED = {"token": "word", "tag": "tag", "sentence": "sentence_id"}
PRESENT = ("text", "label", "tokens", "sentence", "document")
FIRST = 1000  # rows by which the column of tags is known
ARE_TAGS = 0.9  # share of cells

Rows = Iterator[Row | Reject]


class Columns(NamedTuple):
    """Columns of a table of tokens; None for one that is not found."""

    token: str | None
    tag: str | None
    sentence: str | None
    document: str | None


def find_columns(rows: Iterable[Mapping[str, str]]) -> Columns:
    """Return the columns of a table of tokens by their names, and the tags also by their cells. A
    table without tags is none. Documents are sentences where nothing else names those."""
    first = list(islice(rows, FIRST))
    names = {name.strip().lower(): name for row in first for name in row}
    token, sentence, document = (_named(names, each) for each in (TOKENS, SENTENCES, DOCUMENTS))
    sentence, document = (sentence, document) if sentence else (document, None)
    cells = {
        name: [row[name].strip() for row in first if row.get(name)]
        for name in names.values()
        if name not in (token, sentence, document)
    }
    plain = sentence is not None and token is not None
    tagged = {n.strip().lower(): n for n, own in cells.items() if _are_tags(own, plain)}
    tag = _named(tagged, TAGS) or next(iter(tagged.values()), None)
    return Columns(token, tag, sentence, document)


def _named(names: Mapping[str, str], known: Sequence[str]) -> str | None:
    return next((names[name] for name in known if name in names), None)


def _are_tags(cells: Sequence[str], plain: bool) -> bool:
    """True for tags such as O and B-PER; with `plain` also for O and PER, and for O alone."""
    survey = TagSurvey()
    survey.count((), cells)
    tags = sum(rows for cell, rows in survey.kinds.items() if TAG.fullmatch(cell))
    outside = survey.kinds[OUTSIDE]
    known = outside > 0 and tags > ARE_TAGS * len(cells)
    return (known and (plain or tags > outside)) or (plain and survey.plain)


class Token(NamedTuple):
    """Row of a table of tokens."""

    file: str
    number: int
    token: str
    tag: str
    sentence: str
    document: str


Sentence = list[Token | Reject]


def read_token_rows(read: Callable[[], Rows], shown: str, columns: tuple[str, ...]) -> Rows:
    """Yield the sentences of a table of tokens, which `read` reads: consecutive rows of one name
    and of one document, where an empty cell is that of the row before. The number of a sentence is
    that of its first row.

    A sentence with a row that cannot be read, an empty token or a tag that does not fit the scheme
    of the file is one `Reject`, which names the row. Raises UserError for other tables.
    """
    require(columns, PRESENT, f"{shown}: row 1", "a table of tokens gives")
    names = _required(read, shown)

    def sentences() -> Iterator[Sentence]:
        return _sentences(row if isinstance(row, Reject) else _token(row, names) for row in read())

    survey = TagSurvey()
    for each in sentences():
        own = [row for row in each if isinstance(row, Token)]
        survey.count([row.token for row in own], [row.tag for row in own])
    for each in sentences():
        yield _text(each, survey)


def _required(read: Callable[[], Rows], shown: str) -> Columns:
    """Return the columns of a table. Raises UserError for one that lacks tokens, tags or
    sentences."""
    first = list(islice((row.fields for row in read() if isinstance(row, Row)), FIRST))
    if not first:
        raise UserError(f"{shown}: holds no row that can be read: give a table of tokens")
    found = find_columns(first)
    for role, usual in NEEDED.items():
        if getattr(found, role) is None:
            known = list(dict.fromkeys(name for row in first for name in row))
            own = ", ".join(excerpt(name, 40) for name in known[:NAMED])
            what = "tags, such as O and B-PER" if role == "tag" else f"{role}s"
            raise UserError(
                f"{shown}: row 1: has a token in each row, and no column of {what}, among {own}:"
                f" call it {usual!r}, or write CoNLL, with a blank line between sentences"
            )
    return found


def _token(row: Row, names: Columns) -> Token:
    cells = (row.fields.get(name, "").strip() if name else "" for name in names)
    return Token(row.file, row.number, *cells)


def _sentences(rows: Iterable[Token | Reject]) -> Iterator[Sentence]:
    """Yield the rows of each sentence. A row that cannot be read between two sentences may be of
    either, so it belongs to both."""
    sentence: Sentence = []
    name = document = ""
    for row in rows:
        if isinstance(row, Token) and (
            row.sentence not in ("", name) or row.document not in ("", document)
        ):
            unread = list(takewhile(lambda each: isinstance(each, Reject), sentence[::-1]))
            if len(unread) < len(sentence):
                yield sentence
            sentence = unread[::-1]
            name, document = row.sentence, row.document or document
            row = row._replace(document=document)
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
    if broken := next((row for row in rows if "\n" in row.token), None):
        reason = f"its token has several lines: in CSV, {PLAIN_QUOTES}"
        return Reject(broken.file, broken.number, reason, shown)
    if fault := survey.fault(tags):
        return Reject(rows[0].file, rows[fault[0]].number, fault[1], shown)
    text, spans = survey.text_and_spans(tokens, tags)
    own = {"text": text, "label": as_json(spans), "tokens": as_json(tokens)}
    own |= {"sentence": rows[0].sentence, "document": rows[0].document}
    return Row(rows[0].file, rows[0].number, own)
