"""The foundation that all packages share: records, errors, configuration, runs, plugins.

These modules import no other package of the toolkit, and no model library.
"""
