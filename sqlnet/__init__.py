"""SQLNet: questions to SQL by a sketch. Not built yet; the roadmap is in docs/roadmap.md."""
