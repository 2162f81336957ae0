"""Decoding: the batched loop on unmodified transformers models and the pieces it is made of.

Modules: ``cache`` (left-aligned key-value cache with a cursor a row), ``healing`` (prompt
boundaries), ``sampling`` (temperature and nucleus with one given uniform number a token), ``loop``.
They import torch; nothing here knows of records, tasks or the command line.
"""
