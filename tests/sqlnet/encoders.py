"""Small real encoders, made on the spot: a BERT with random weights and a WordPiece tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from toy import CITIES, NAMES
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_WORDS = (
    "what",
    "is",
    "the",
    "age",
    "of",
    "player",
    "name",
    "which",
    "lives",
    "in",
    "home",
    "city",
)
_SIGNS = "abcdefghijklmnopqrstuvwxyz0123456789?.-"
_BITS = ("on", "er", "ri", "yo", "nn")


def save_tokenizer(folder: Path) -> int:
    """Writes a WordPiece tokenizer, and gives the number of its pieces."""
    words = [word.lower() for word in (*_WORDS, *NAMES[:4], *CITIES[:2])]
    pieces = [*_SPECIAL, *words, *_SIGNS, *(f"##{bit}" for bit in (*_SIGNS, *_BITS))]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    core = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # type: ignore[call-arg]
    core.normalizer = normalizers.BertNormalizer(lowercase=True)  # type: ignore[assignment]
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[assignment]
    core.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        mask_token="[MASK]",
    )
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def save_bert(folder: Path, *, width: int = 32, seed: int = 0, pieces: int = 0) -> Path:
    """Writes a directory as save_pretrained does; ``pieces``: how many the model knows."""
    folder.mkdir(parents=True, exist_ok=True)
    known = save_tokenizer(folder)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=pieces or known,
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def save_sentence_transformer(
    folder: Path, *, sub: str = "", kinds: str = "sentence_transformers.models", seed: int = 0
) -> Path:
    """Writes a directory in one of the forms that sentence-transformers has had."""
    save_bert(folder / sub, seed=seed)
    modules = [("", "Transformer", sub), ("", "Pooling", "1_Pooling")]
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"{kinds}.{kind}"}
        for i, (_, kind, path) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 64}')
    return folder
