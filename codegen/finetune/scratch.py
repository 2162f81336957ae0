"""``model: new``: a small model with random weights and, by default, a vocabulary of its data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from codegen.data.manifest import read_texts
from codegen.finetune.recipe import NEW, Recipe
from codegen.finetune.sections import Network
from codegen.models import LoadedModel, ModelCard, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PAD, EOS, UNKNOWN, CLS, BOS, MASK = SPECIAL = (
    "<pad>",
    "<eos>",
    "<unk>",
    "<cls>",
    "<bos>",
    "<mask>",
)

_WIDER = 4  # the feed-forward layers, in units of the width


def new_model(recipe: Recipe) -> LoadedModel:
    """A model as ``network`` describes it; the seed decides its weights.

    The vocabulary and the length of the longest answer are those of the recipe's data.
    """
    import torch

    network = recipe.network
    texts = [text for _, path in recipe.sources for text in read_texts(path)]
    if network.tokenizer == "words":
        tokenizer = words_tokenizer(word for text in texts for word in text.text.split())
    else:
        tokenizer = _with_frame(load_tokenizer(network.tokenizer))
    longest = max(len(tokenizer(t.trained, add_special_tokens=False).input_ids) for t in texts)
    torch.manual_seed(recipe.seed)
    model = _make(network, tokenizer, longest)
    if network.match_keys and network.kind != "llama":
        model.encoder.match_keys()
    key = json.dumps([asdict(network), recipe.seed, sorted(tokenizer.get_vocab().items())])
    fingerprint = hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
    return LoadedModel(NEW, NEW, NEW, fingerprint, model, tokenizer, ModelCard())


def words_tokenizer(words: Iterable[str]) -> Any:
    """One token for each word between blanks, numbers in their order first."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ordered = sorted(set(words) - set(SPECIAL), key=lambda w: (not w.isdecimal(), len(w), w))
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *ordered])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.decoder = decoders.WordPiece(prefix=" ", cleanup=False)  # blanks between all words
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        cls_token=CLS,
        bos_token=BOS,
        mask_token=MASK,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def _with_frame(tokenizer: Any) -> Any:
    """The tokenizer with the tokens that frame a text, where it lacks them."""
    missing = {
        name: token
        for name, token in (("cls_token", CLS), ("bos_token", BOS), ("mask_token", MASK))
        if getattr(tokenizer, name) is None
    }
    tokenizer.add_special_tokens(missing)
    return tokenizer


def _frame(tokenizer: Any) -> dict[str, Any]:
    forbidden = {tokenizer.convert_tokens_to_ids(token) for token in tokenizer.all_special_tokens}
    return {
        "vocab_size": len(tokenizer),
        "cls_token_id": tokenizer.cls_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "mask_token_id": tokenizer.mask_token_id,
        "forbidden_token_ids": sorted(forbidden),
    }


def _sizes(network: Network, tokenizer: Any) -> dict[str, Any]:
    return {
        **_frame(tokenizer),
        "hidden_size": network.width,
        "num_hidden_layers": network.layers,
        "num_attention_heads": network.heads,
        "intermediate_size": _WIDER * network.width,
        "dropout": network.dropout,
        "rope_step": network.rope_step,
        "mixes_neighbours": network.mixes_neighbours,
        "final_norm": network.final_norm,
        "prefix_apart": network.prefix_apart,
        "initializer_range": network.width**-0.5,
    }


def _make(network: Network, tokenizer: Any, longest: int) -> Any:
    from codegen.decoding import insertion

    if network.kind == "llama":
        return _llama(network, tokenizer)
    sizes = _sizes(network, tokenizer)
    if network.kind == "fixed_masks":
        config = insertion.FixedMaskConfig(**sizes, body_length=longest)
        return insertion.FixedMaskLM(config)
    if network.kind == "flexible_masks":
        config = insertion.FlexibleMaskConfig(**sizes, loss_length=longest)
        return insertion.FlexibleMaskLM(config)
    config = insertion.InsertionConfig(
        **sizes,
        stop_weight=network.stop_weight,
        infill_rate=network.infill_rate,
        marks_open_slots=network.infill_rate > 0,
    )
    return insertion.InsertionLM(config)


def _llama(network: Network, tokenizer: Any) -> PreTrainedModel:
    """The unmodified Llama; its gated feed-forward layers are narrower, to weigh the same."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=network.width,
        intermediate_size=round(_WIDER * network.width * 2 / 3),
        num_hidden_layers=network.layers,
        num_attention_heads=network.heads,
        num_key_value_heads=network.heads,
        max_position_embeddings=4096,
        rope_parameters={
            "rope_type": "linear",
            "rope_theta": 10000.0,
            "factor": 1 / network.rope_step,
        },
        initializer_range=network.width**-0.5,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)
