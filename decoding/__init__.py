"""Decoding: one loop, one cache, and the strategies that choose tokens.

In reading order: ``loop`` runs every strategy, round by round, as a generator of forward passes;
``rows`` has what a round feeds and where its states are, ``cache`` the states themselves,
``passes`` the calls of a model, ``prefill`` the prompts' encoding, ``sampling`` the choice of a
token by a given random number, ``healing`` the border between prompt and completion. ``strategies``
are the ways to choose, ``drafts`` and ``suffix`` what speculative ones draft from, ``rpg`` the
rules against repetition, ``insertion`` models that write in no fixed order, ``editing`` a cache
that follows a text while it is edited, ``contexts`` texts longer than a model was trained on.

``drafts``, ``suffix``, ``healing``, ``packing`` and the names of ``rpg`` itself import no torch.
Nothing here knows of records, tasks or the command line.
"""
