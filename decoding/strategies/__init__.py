"""Strategies: how tokens are chosen in the decoding loop (``codegen.decoding.loop``).

``speculative`` verifies what drafters of ``codegen.decoding.drafts`` draft, ``rsd`` the trees of a
draft model, ``sorted`` has a nested model's early layers draft, ``backspace`` lets the model take
tokens back; rules against repetition are in ``codegen.decoding.rpg``. ``superposed`` and
``insertion`` run passes of their own.
"""
