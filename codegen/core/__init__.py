"""The foundation that all packages share: records, errors, configuration, runs, plugins.

Nothing here imports another package of the toolkit, or a model library.
"""
