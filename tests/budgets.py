"""Budgets at which tests of every item are a matter of seconds; what an item promises, it promises at these too."""

SMALL = {
    "samples": 24,
    "steps": 6,
    "draws": 20,
    "permutations": 4,
    "sizes": 3,
    "stages": 3,
    "images": 2,
    "other_classes": 2,
    "trees": 5,
    "repeats": 2,
    "weight_seeds": 1,
    "displacements": 5,
    "epochs": 2,
    "most_groups": 6,
}


def small(entry, **others):
    """The entry's options that set a budget, at the values above or at ``others``."""
    return {name: value for name, value in (SMALL | others).items() if isinstance(entry.options.get(name), int)}
