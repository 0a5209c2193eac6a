"""A WordPiece vocabulary learned from texts, of what a model reads or of what it writes."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONTINUES = "##"
UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}]"  # where one word follows another without a space
ALPHABET = 0.75  # most of a vocabulary that single characters take: Chinese has thousands


def trained(
    texts: Callable[[], Iterable[str]],
    size: int,
    lower_case: bool,
    min_frequency: int,
    writes: bool = False,
) -> "Tokenizer":
    """A tokenizer whose vocabulary holds at most `size` tokens (Wu et al. 2016), joined from pairs
    that were seen `min_frequency` times at least; `texts` are read twice.

    One that reads takes words apart as BERT does, where `lower_case` takes accents away too; of one
    that `writes`, tokens give back the text as it was, but for its case. Each Chinese character is
    a word of its own.

    The trainer numbers the characters that go on with a word as it comes across them in a hash
    table, and breaks ties by these numbers, so that each run would give another vocabulary
    (https://github.com/huggingface/tokenizers/issues/1794). Here all are numbered before.
    """
    from tokenizers import processors
    from tokenizers.trainers import WordPieceTrainer

    learner = _words({}, lower_case, writes)
    alphabet = _alphabet(texts(), learner, int(size * ALPHABET))
    trainer = WordPieceTrainer(
        vocab_size=size,
        min_frequency=min_frequency,
        initial_alphabet=list(alphabet),
        limit_alphabet=len(alphabet),
        special_tokens=[*SPECIAL, *(form for forms in alphabet.values() for form in forms)],
        show_progress=False,
    )
    learner.train_from_iterator(texts(), trainer)
    vocabulary = learner.get_vocab(with_added_tokens=False)
    tokenizer = _words(vocabulary, lower_case, writes)
    tokenizer.add_special_tokens(list(SPECIAL))
    ends = [(name, vocabulary[name]) for name in ("[SEP]", "[CLS]")]
    tokenizer.post_processor = processors.BertProcessing(*ends)
    return tokenizer


def saved(tokenizer: "Tokenizer", lower_case: bool) -> "PreTrainedTokenizerFast":
    """One that reads, as transformers saves it beside a model."""
    from transformers import BertTokenizerFast

    return BertTokenizerFast(tokenizer_object=tokenizer, do_lower_case=lower_case)


def _words(vocabulary: dict[str, int], lower_case: bool, writes: bool) -> "Tokenizer":
    """A tokenizer that parts texts into words, and puts tokens together again."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    if not writes:
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower_case)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        return tokenizer
    lower = [normalizers.Lowercase()] if lower_case else []
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), *lower])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="always"),  # of each space, the word behind it
            pre_tokenizers.Punctuation("isolated"),
            pre_tokenizers.Split(Regex(UNSPACED), "isolated"),
        ]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(CONTINUES, ""), decoders.Metaspace(prepend_scheme="always")]
    )
    return tokenizer


def _alphabet(texts: Iterable[str], reader: "Tokenizer", most: int) -> dict[str, list[str]]:
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
