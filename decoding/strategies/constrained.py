"""Decoding within a grammar: only tokens that can still lead to a valid text are allowed.

llguidance (Rust) keeps one parser per row and returns the allowed next tokens. It allows the
end of the sequence only after a complete text.
"""

from __future__ import annotations

import torch
from llguidance import LLMatcher, LLTokenizer
from llguidance.gbnf_to_lark import gbnf_to_lark
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

from codegen.decoding.device import upload
from codegen.decoding.loop import Batch, Strategy


class ConstrainedDecoding(Strategy):
    """Plain decoding, constrained to one grammar.

    Args:
        tokenizer: the model's tokenizer, with one token per logit.
        gbnf: the grammar, in llama.cpp's notation.
        rows: number of rows.

    Raises:
        ValueError: if the grammar is invalid, with the reason.
    """

    def __init__(self, tokenizer: LLTokenizer, gbnf: str, rows: int) -> None:
        try:
            lark = gbnf_to_lark(gbnf)
        except Exception as error:
            raise ValueError(str(error)) from error
        self._parsers = [LLMatcher(tokenizer, lark, log_level=0) for _ in range(rows)]
        if error := self._parsers[0].get_error():
            raise ValueError(error)
        self._read = [0] * rows
        self._tokens = tokenizer.vocab_size

    def adjust(self, batch: Batch, logits: torch.Tensor) -> None:
        """Forbids tokens that the grammar does not allow."""
        masks = allocate_token_bitmask(len(batch.numbers), self._tokens)  # int32 [B, V / 32]
        for i, number in enumerate(batch.numbers):
            row, parser = batch.rows[number], self._parsers[number]
            if not row.finish:
                parser.consume_tokens(row.tokens[self._read[number] :])
                self._read[number] = len(row.tokens)
                fill_next_token_bitmask(parser, masks, i)
        (words,) = upload(logits.device, torch.from_numpy(masks).long())
        bits = words[..., None] >> torch.arange(32, device=logits.device) & 1
        allowed = bits.flatten(1)[:, : logits.shape[1]] == 1
        logits[:, : allowed.shape[1]].masked_fill_(~allowed, -torch.inf)
        logits[:, allowed.shape[1] :] = -torch.inf
