"""The main job, end to end, planned to end in a given time: see :mod:`codegen.quickstart.run`."""

from codegen.quickstart.plan import STAGES, Plan
from codegen.quickstart.run import Listener, Settings, Summary, quickstart

__all__ = ["STAGES", "Listener", "Plan", "Settings", "Summary", "quickstart"]
