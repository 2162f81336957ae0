"""Screens: what leaves examples out whatever the generator; duplicates and test problems.

Decontamination is a function of one example and runs in the workers. Deduplication has two parts:
:meth:`Dedup.signature` runs in the workers, :class:`DedupIndex` decides in the order of the inputs,
so that the result is the same for any number of workers.
"""

from codegen.data.screens.decontamination import Decontamination
from codegen.data.screens.dedup import Dedup, Signature
from codegen.data.screens.dedup_index import DedupIndex
from codegen.data.screens.report import write_report

__all__ = ["Decontamination", "Dedup", "DedupIndex", "Signature", "write_report"]
