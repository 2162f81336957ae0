"""Evaluation: tasks, samples, scores from the sandbox, statistics and reports."""
