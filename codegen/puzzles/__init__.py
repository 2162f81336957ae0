"""Puzzles to plan on, drawn by published rules: star graphs and zebra puzzles."""

from codegen.puzzles.draw import KINDS, Puzzles, is_puzzles
from codegen.puzzles.puzzle import BORDER, Puzzle

__all__ = ["BORDER", "KINDS", "Puzzle", "Puzzles", "is_puzzles"]
