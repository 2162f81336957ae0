"""Byte-level BPE tokenizers for models that are trained from scratch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def train_byte_bpe(texts: Iterable[str], vocabulary: int, special: Sequence[str] = ()) -> Any:
    """A byte-level BPE of the texts as a transformers tokenizer, digits apart.

    Args:
        texts: to learn from.
        vocabulary: tokens, the special ones among them.
        special: special tokens behind ``<eos>`` and ``<pad>``, which have the ids 0 and 1.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = split_digits()
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=["<eos>", "<pad>", *special],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<eos>",
        pad_token="<pad>",
        clean_up_tokenization_spaces=False,
    )


def split_digits() -> Any:
    """The pre-tokenizer that takes digits one by one and then works on bytes."""
    from tokenizers import pre_tokenizers

    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
