"""The choices that papers make differently, and over which ``over: standard`` measures a metric."""

from harness.registry import Entry

OVER = "over"  # beside a metric's options: the values over which it is measured
# The values that ``over: standard`` gives to a metric's options: choices that papers make differently. A conclusion
# should hold for all of them (``harness.results.choices``).
CHOICES = {
    "baseline": ("zero", "mean", "blur", "uniform_noise"),
    "order": ("morf", "lerf"),
    "granularity": ("unit", "patch"),
    "score": ("probability", "logit"),
}


def standard_choices(entry: Entry) -> dict[str, tuple[str, ...]]:
    """Those of CHOICES that are options of a metric; not an option that is None, which follows the explainer."""
    return {name: values for name, values in CHOICES.items() if entry.options.get(name) is not None}
