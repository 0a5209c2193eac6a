"""Learning of WordPiece vocabularies from texts, for what a model reads or what it writes."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONTINUES = "##"
UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}]"  # where one word follows another without a space
ALPHABET = 0.75  # largest share of single characters in a vocabulary: Chinese has thousands


def trained(
    texts: Callable[[], Iterable[str]],
    size: int,
    lower_case: bool,
    min_frequency: int,
    writes: bool = False,
) -> "Tokenizer":
    """Learn a vocabulary of at most `size` tokens (Wu et al. 2016) and return its tokenizer.

    Pairs that occur at least `min_frequency` times are joined; `texts` are read twice. A tokenizer
    that reads splits words as BERT does, and `lower_case` removes accents too. One that `writes`
    decodes tokens to the original text except for its case. Each Chinese character is a word.

    The trainer numbers the forms of characters inside words in the order of a hash table, and
    breaks ties by these numbers, so that each run would give another vocabulary
    (https://github.com/huggingface/tokenizers/issues/1794). Here all are numbered beforehand.
    """
    from tokenizers import processors
    from tokenizers.trainers import WordPieceTrainer

    learner = _wordpiece({}, lower_case, writes)
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
    tokenizer = _wordpiece(vocabulary, lower_case, writes)
    tokenizer.add_special_tokens(list(SPECIAL))
    ends = [(name, vocabulary[name]) for name in ("[SEP]", "[CLS]")]
    tokenizer.post_processor = processors.BertProcessing(*ends)
    return tokenizer


def saved(tokenizer: "Tokenizer", lower_case: bool) -> "PreTrainedTokenizerFast":
    """Convert a tokenizer that reads to the class that transformers saves beside a model."""
    from transformers import BertTokenizerFast

    return BertTokenizerFast(tokenizer_object=tokenizer, do_lower_case=lower_case)


def _wordpiece(vocabulary: dict[str, int], lower_case: bool, writes: bool) -> "Tokenizer":
    """Return a tokenizer with the normalizer, pre-tokenizer and decoder of one that reads or
    `writes`."""
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
            pre_tokenizers.Metaspace(prepend_scheme="always"),  # a space belongs to the next word
            pre_tokenizers.Punctuation("isolated"),
            pre_tokenizers.Split(Regex(UNSPACED), "isolated"),
        ]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(CONTINUES, ""), decoders.Metaspace(prepend_scheme="always")]
    )
    return tokenizer


def _alphabet(texts: Iterable[str], reader: "Tokenizer", most: int) -> dict[str, list[str]]:
    """Return the most frequent characters with their forms: plain at the start of a word, after ##
    inside it; at most `most` forms in all."""
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
