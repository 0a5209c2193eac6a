"""A WordPiece vocabulary learned from texts, as a fast tokenizer of BERT's kind."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONTINUES = "##"
ALPHABET = 0.75  # most of a vocabulary that single characters take: Chinese has thousands


def trained(texts: Callable[[], Iterable[str]], size: int, lower_case: bool, fewest: int) -> Any:
    """A tokenizer whose vocabulary holds at most `size` tokens (Wu et al. 2016), joined from pairs
    that were seen `fewest` times at least; `texts` are read twice. `lower_case` takes accents away
    too, as BERT's does. Each Chinese character is a word of its own.

    The trainer numbers the characters that go on with a word as it comes across them in a hash
    table, and breaks ties by these numbers, so that each run would give another vocabulary
    (https://github.com/huggingface/tokenizers/issues/1794). Here all are numbered before.
    """
    from tokenizers import Tokenizer, decoders, models, processors
    from tokenizers.trainers import WordPieceTrainer
    from transformers import BertTokenizerFast

    learner = _reader(Tokenizer(models.WordPiece(unk_token="[UNK]")), lower_case)
    alphabet = _alphabet(texts(), learner, int(size * ALPHABET))
    trainer = WordPieceTrainer(
        vocab_size=size,
        min_frequency=fewest,
        initial_alphabet=list(alphabet),
        limit_alphabet=len(alphabet),
        special_tokens=[*SPECIAL, *(form for forms in alphabet.values() for form in forms)],
        show_progress=False,
    )
    learner.train_from_iterator(texts(), trainer)
    vocabulary = learner.get_vocab(with_added_tokens=False)
    tokenizer = _reader(Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]")), lower_case)
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.decoder = decoders.WordPiece()
    ends = [(name, vocabulary[name]) for name in ("[SEP]", "[CLS]")]
    tokenizer.post_processor = processors.BertProcessing(*ends)
    return BertTokenizerFast(tokenizer_object=tokenizer, do_lower_case=lower_case)


def _reader(tokenizer: Any, lower_case: bool) -> Any:
    """A tokenizer that parts texts into words as BERT's does."""
    from tokenizers import normalizers, pre_tokenizers

    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower_case)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _alphabet(texts: Iterable[str], reader: Any, most: int) -> dict[str, list[str]]:
    """The most frequent characters, each with its forms: by itself where it begins a word, behind
    ## where it goes on with one; `most` forms at most."""
    seen: Counter[str] = Counter()
    forms: dict[str, set[str]] = {}
    for text in texts:
        normal = reader.normalizer.normalize_str(text)
        for word, _ in reader.pre_tokenizer.pre_tokenize_str(normal):
            seen.update(word)
            for place, character in enumerate(word):
                own = forms.setdefault(character, set())
                own.add(CONTINUES + character if place else character)
    kept: dict[str, list[str]] = {}
    for character in sorted(seen, key=lambda character: (-seen[character], character)):
        most -= len(forms[character])
        if most < 0:
            break
        kept[character] = sorted(forms[character])
    return kept
