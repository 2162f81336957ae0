"""Strategies for choosing tokens in the decoding loop (``codegen.decoding.loop``).

``speculative`` verifies the drafts of ``codegen.decoding.drafts``, ``rsd`` the trees of a draft
model; ``sorted`` drafts with the early layers of a nested model; ``constrained`` follows a grammar.
``superposed`` runs its own passes, and so does the strategy of ``codegen.decoding.insertion``.
Plain decoding and backspaces are in the loop, rules against repetition in ``codegen.decoding.rpg``.
"""
