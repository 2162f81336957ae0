"""Decoding: one loop, one cache, and the strategies that choose tokens.

In reading order:

- ``loop`` runs every strategy, round by round, as a generator of forward passes;
- ``sequences``: the sequences, the tree of tokens that a round feeds to each, and their states;
- ``cache``: keys, values and recurrent states; ``prefill`` encodes prompts into it;
- ``passes`` calls the model, and rejects architectures that the loop would compute wrongly;
- ``sampling`` chooses a token by a given random number;
- ``healing`` repairs the token boundary between prompt and completion.

``strategies`` are the ways to choose tokens; ``drafts`` and ``suffix`` make drafts for the
speculative ones; ``rpg`` has rules against repetition. ``insertion`` has models that generate
tokens in any order, ``editing`` a cache that follows a text's edits, ``long_context`` contexts
longer than a model's training length.

``drafts``, ``suffix``, ``healing`` and the names exported by ``rpg`` import no torch.
This package does not use records, tasks or the command line.
"""
