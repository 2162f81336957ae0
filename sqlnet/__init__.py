"""SQLNet: questions to SQL by a sketch. Not built yet; see docs/roadmap.md."""
