"""Strategies: how tokens are chosen in the decoding loop (``codegen.decoding.loop``).

``speculative`` verifies what drafters of ``codegen.decoding.drafts`` draft, ``rsd`` the trees of a
draft model, ``sorted`` has a nested model's early layers draft. ``superposed`` and ``insertion``
run passes of their own. Plain decoding and backspaces are in the loop itself, rules against
repetition in ``codegen.decoding.rpg``.
"""
