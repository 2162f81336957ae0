"""Configurations of the models that write in no fixed order; all share one encoder."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig


class EncoderConfig(PretrainedConfig):
    """What the encoder is made of, and the ids of the tokens that frame a text.

    Args:
        vocab_size: tokens, the special ones among them.
        hidden_size: width d.
        num_hidden_layers: layers.
        num_attention_heads: heads; ``hidden_size`` is an even multiple.
        intermediate_size: width of the feed-forward layers; 0 for 4 d.
        dropout: on the output of each sub-layer.
        rope_theta: base of the rotary frequencies.
        rope_step: angle of the fastest channels from one token to the next. With RoPE's 1 odd
            places can hardly be told from even ones, with pi they can.
        final_norm: whether a layer norm precedes the heads. The paper's runs have none.
        mixes_neighbours: whether linear maps of a token's neighbours are added to its embedding.
            That saves the layers that would learn to look there; it is not so in the paper.
        marks_open_slots: whether a learned vector is added to tokens after which something may be
            inserted, so that the stop head knows of the gaps to fill (for infilling).
        prefix_apart: whether the prefix sees itself only, see :mod:`.encoder`; not so in the paper.
        initializer_range: standard deviation of the initial weights.
        cls_token_id, bos_token_id, pad_token_id, mask_token_id: see
            :class:`codegen.decoding.insertion.text.Frame`.
        forbidden_token_ids: never written; the special tokens.
    """

    def __init__(
        self,
        vocab_size: int = 32,
        hidden_size: int = 128,
        num_hidden_layers: int = 4,
        num_attention_heads: int = 4,
        intermediate_size: int = 0,
        dropout: float = 0.1,
        rope_theta: float = 10000.0,
        rope_step: float = 1.0,
        final_norm: bool = False,
        mixes_neighbours: bool = False,
        marks_open_slots: bool = False,
        prefix_apart: bool = False,
        initializer_range: float = 0.02,
        cls_token_id: int = 0,
        bos_token_id: int = 1,
        pad_token_id: int = 2,
        mask_token_id: int = 3,
        forbidden_token_ids: tuple[int, ...] | list[int] = (0, 1, 2, 3),
        **kwargs: Any,
    ) -> None:
        if hidden_size % (2 * num_attention_heads):
            raise ValueError(
                f"hidden_size {hidden_size} is no even multiple of {num_attention_heads} heads"
            )
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size or 4 * hidden_size
        self.dropout = dropout
        self.rope_theta = rope_theta
        self.rope_step = rope_step
        self.final_norm = final_norm
        self.mixes_neighbours = mixes_neighbours
        self.marks_open_slots = marks_open_slots
        self.prefix_apart = prefix_apart
        self.initializer_range = initializer_range
        self.cls_token_id = cls_token_id
        self.mask_token_id = mask_token_id
        self.forbidden_token_ids = list(forbidden_token_ids)
        kwargs |= {
            "bos_token_id": bos_token_id,
            "pad_token_id": pad_token_id,
            "tie_word_embeddings": False,
        }
        super().__init__(**kwargs)


class InsertionConfig(EncoderConfig):
    """Of :class:`codegen.decoding.insertion.InsertionLM`.

    Args:
        stop_weight: weight of the stop loss (1; the paper has 0.001 for zebra and web text).
        stop_class_weights: of the classes stop and continue within it.
        infill_rate: share of the training texts in which only a span has gaps.
        kwargs: see :class:`EncoderConfig`.
    """

    model_type = "insertion_lm"

    def __init__(
        self,
        stop_weight: float = 1.0,
        stop_class_weights: tuple[float, float] | list[float] = (1.0, 1.0),
        infill_rate: float = 0.0,
        **kwargs: Any,
    ) -> None:
        self.stop_weight = stop_weight
        self.stop_class_weights = list(stop_class_weights)
        self.infill_rate = infill_rate
        super().__init__(**kwargs)


class FlexibleMaskConfig(EncoderConfig):
    """Of :class:`codegen.decoding.insertion.FlexibleMaskLM`.

    Args:
        loss_length: what every text's loss is divided by; the longest body of the training data, in
            tokens. It scales the loss and nothing else.
        kwargs: see :class:`EncoderConfig`.
    """

    model_type = "flexible_mask_lm"

    def __init__(self, loss_length: int = 1, **kwargs: Any) -> None:
        self.loss_length = loss_length
        super().__init__(**kwargs)


class FixedMaskConfig(EncoderConfig):
    """Of :class:`codegen.decoding.insertion.FixedMaskLM`.

    Args:
        body_length: tokens of every body; shorter ones end in ``eos_token_id``.
        kwargs: see :class:`EncoderConfig`.
    """

    model_type = "fixed_mask_lm"

    def __init__(self, body_length: int = 8, **kwargs: Any) -> None:
        self.body_length = body_length
        super().__init__(**kwargs)
