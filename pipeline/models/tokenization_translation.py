"""Tokenizer of a model that writes text with a vocabulary of its own.

transformers decodes with the vocabulary that it encodes with, which would make words of nothing
here. Each saved model contains this file, so that its tokenizer loads with
`trust_remote_code=True` and is refused without it. It therefore imports nothing of this project.
"""

from functools import cached_property
from typing import Any, ClassVar

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast


class TranslationTokenizer(PreTrainedTokenizerFast):
    """Tokenizer that encodes texts by tokenizer.json and decodes the model's by target.json."""

    vocab_files_names: ClassVar = {"tokenizer_file": "tokenizer.json", "target_file": "target.json"}

    @cached_property
    def target(self) -> Tokenizer:
        # transformers rebuilds tokenizer.json for a class with an __init__ of its own
        return Tokenizer.from_file(self.init_kwargs["target_file"])

    def _decode(self, token_ids: Any, skip_special_tokens: bool = False, **_: Any) -> str:
        ids = [token_ids] if isinstance(token_ids, int) else list(token_ids)
        return str(self.target.decode(ids, skip_special_tokens=skip_special_tokens))
