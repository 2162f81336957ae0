"""CoGEX: pseudo-programs that a model emulates. Not built yet; see docs/roadmap.md."""
