"""Word vectors for ``codegen sqlnet train-plans``: GloVe and an encoder's vectors.

    python -m benchmarks.tools.word_vectors GLOVE.npz ENCODER_DIR PLANS.jsonl --out vectors.npz

The sentence encoder encodes each word separately; its mean state is reduced to 78 principal
components, so that a small network can relate singers to artists. Both halves are scaled to the
same mean length. Needs transformers; one pass over the words on one core takes about a minute.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from codegen.benchmarks.tools.notes import say
from codegen.sqlnet.network import read_vectors
from codegen.sqlnet.plan_data import read_planned
from codegen.sqlnet.words import tokenize

_BATCH = 128


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument(
        "glove", type=Path, help=".npz with words and vectors, frequent words first"
    )
    parser.add_argument("encoder", type=Path, help="directory of a sentence encoder")
    parser.add_argument("plans", type=Path, help="questions whose words are always kept")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--words", type=int, default=22_000)
    parser.add_argument("--components", type=int, default=78)
    given = parser.parse_args()
    torch.set_num_threads(1)
    glove = read_vectors(given.glove)
    rows = {word: row for row, word in enumerate(glove.words)}
    asked = {t.text.lower() for one in read_planned(given.plans) for t in tokenize(one.question)}
    frequent = [word for word in glove.words if re.fullmatch(r"[a-z]+|\d{1,4}|[^\w\s]", word)]
    kept = list(dict.fromkeys([*sorted(asked & rows.keys()), *frequent]))[: given.words]
    meanings = _components(_states(kept, given.encoder), given.components)
    halves = [glove.matrix[[rows[word] for word in kept]], meanings]
    scaled = [half / np.linalg.norm(half, axis=1).mean() * 2 for half in halves]
    np.savez(given.out, words=np.array(kept), vectors=np.hstack(scaled).astype(np.float16))
    say(f"{len(kept)} words, width {scaled[0].shape[1]} + {scaled[1].shape[1]}: {given.out}")


@torch.no_grad()
def _states(words: list[str], path: Path) -> np.ndarray:
    """Returns each word's mean state, normalized, float32 [words, width]."""
    tokenizer: Any = AutoTokenizer.from_pretrained(path, local_files_only=True)
    model = AutoModel.from_pretrained(path, local_files_only=True, use_safetensors=True).eval()
    found = []
    for start in range(0, len(words), _BATCH):
        batch = tokenizer(words[start : start + _BATCH], padding=True, return_tensors="pt")
        states = model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None]
        mean = (states * mask).sum(1) / mask.sum(1)
        found.append(torch.nn.functional.normalize(mean, dim=-1).numpy())
    return np.concatenate(found)


def _components(states: np.ndarray, count: int) -> np.ndarray:
    """Returns the first principal components, [words, count]."""
    centred = states - states.mean(0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    return centred @ vectors[:, ::-1][:, :count]


if __name__ == "__main__":
    main()
