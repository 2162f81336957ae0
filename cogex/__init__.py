"""CoGEX: pseudo-programs that a model emulates. Not built yet; the roadmap is in docs/roadmap.md."""
