"""What both a verb's parser and its output name: the tables of a run, and the verdicts of a comparison."""

TABLES = {  # besides the leaderboard
    "samples": "the score of each sample: one row for each sample of each cell",
    "long": "the leaderboard as rows, one for each cell, with tests and letters",
    "by": "gaps between groups of samples: label, correct, target, prediction, or a column of the data such as sex",
    "choices": "each explainer's ranks under all settings of a metric that was run with metric.NAME.over=",
    "sanity": "which sanity checks each explainer passes",
    "reliability": "whether the ranking by each metric is reliable",
    "agreement": "whether the metrics rank explainers alike",
    "across": "mean ranks over models and data sets, and the test of their differences",
    "seeds": "the variance between samples and between seeds (protocol.seed)",
}
MARKS = {
    "better": "▲",
    "worse": "▼",
    "moved": "~",
    "broken": "✗",
    "fixed": "✓",
    "new": "+",
    "missing": "−",
    "not comparable": "?",
    "same": "=",
}
TREND_VERDICTS = ("worse", "moved", "better", "stable", "few")
