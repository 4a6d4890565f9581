"""What a removed unit becomes, and which units go together: plain tensors and units in and out.

A baseline is a tensor that takes the place of what is removed; an in-filling computes it from the units that are left;
segments name sets of units that leave together. Nothing here knows a model, an explainer or a metric.
"""
