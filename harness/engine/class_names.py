"""Class indices of data as indices of a model's outputs: matched by the names that both give to their classes."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor

from harness.errors import UserError
from harness.messages import say
from harness.sources import Data

INDEX_FIELDS = ("labels", "targets", "train_labels")
SHOWN = 3  # names in a message, at most
ALIKE = 0.9  # share of names in the same places that shows two lists to be the same one


def with_labels_of_outputs(data: Data, names: Sequence[str] | None, outputs: int) -> Data:
    """The data with labels, targets and training labels that are indices of the model's outputs, and its names.

    ``names`` are the names of the model's outputs, or None, and ``outputs`` is their number. Data and model each number
    their classes in an order of their own, so that a label stands for the output of the same name: spelt the same, or
    else the only one that is spelt the same but for capitals, ``_``, ``-`` and spaces at the ends, or in its first
    synonym (``tench, Tinca tinca``). Of independent labels (N, K) the columns are put into the order of the outputs.

    Where names cannot be compared, a class stands for the output of its number, and this is said
    (``harness.messages``): if data or model name no classes, or names that only number them (``LABEL_0``). Numbers to
    predict, and the labels of a single output without two names, stay as they are. UserError for a label of a class
    that the model has no output for, or several; and where numbers cannot be right, since they differ in how many there
    are.
    """
    if names is not None and outputs > 1 and len(names) != outputs:
        raise UserError(f"the model has {outputs} outputs and {len(names)} names of outputs, expected a name for each")
    indexed = {name: labels for name in INDEX_FIELDS if _are_indices(labels := getattr(data, name))}
    pair = names is not None and data.classes is not None and len(names) == len(data.classes) == 2
    if outputs == 1 and not pair:
        return data
    if not indexed or data.classes is None:
        _refuse_names_or_places(indexed, names)
        if indexed and names is not None and not _only_numbered(names):
            shown = _pairs(range(len(names)), names)
            say(f"labels are numbers without names; each stands for the output of that number: {shown}")
        return data if names is None else replace(data, classes=tuple(names))
    classes = tuple(map(str, data.classes))
    used = _used_classes(indexed, classes)
    order = _outputs_of_classes(classes, None if names is None else tuple(map(str, names)), used, outputs)
    if names is None or order == list(range(len(classes))):
        return data if names is None else replace(data, classes=tuple(names))
    moved = {name: _moved(labels, order, names) for name, labels in indexed.items()}
    return replace(data, classes=tuple(names), **moved)


def _refuse_names_or_places(indexed: dict[str, Tensor], names: Sequence[str] | None) -> None:
    """UserError where numbers could be the names of outputs as well as their places, such as 1 of outputs 1, 2, 3."""
    named = [int(name) for name in names or () if re.fullmatch(r"-?\d+", name.strip())]
    if not named or named == list(range(len(names or ()))):
        return
    for what, labels in indexed.items():
        if labels.dim() == 1 and set(labels.unique().tolist()) <= set(named):
            raise UserError(
                f"{what} are numbers, and so are the names of the model's outputs, {_some_names(names or ())}: whether "
                f"{int(labels[0])} is a name or a place is not known; give places, from 0, and say so by naming the "
                f"classes as the model does: harness.Data(..., classes=({_some_names(names or ())}))"
            )


def _are_indices(labels: Tensor | None) -> bool:
    return labels is not None and not labels.is_floating_point()


def _used_classes(indexed: dict[str, Tensor], classes: Sequence[str]) -> list[int]:
    """The classes of all labels; UserError for a label that the data has no name for."""
    used: set[int] = set()
    for name, labels in indexed.items():
        if labels.dim() == 2 and labels.shape[1] != len(classes):
            raise UserError(f"{name} are {tuple(labels.shape)}, but the data names {len(classes)} classes")
        here = range(labels.shape[1]) if labels.dim() == 2 else labels.unique().tolist()
        used |= set(here)
        odd = next((label for label in here if not 0 <= label < len(classes)), None)
        if odd is not None:
            raise UserError(
                f"{name} hold class {odd}, but the data names {len(classes)} classes, 0 to {len(classes) - 1}"
            )
    return sorted(used)


def _outputs_of_classes(
    classes: tuple[str, ...], names: tuple[str, ...] | None, used: Sequence[int], outputs: int
) -> list[int]:
    """The output of each class, -1 for one that no label has and the model lacks."""
    places = list(range(len(classes)))
    if names is None:
        return _by_number(classes, names, outputs)
    if classes == names:
        return places
    found = _outputs_of_names(classes, names)
    if all(len(found[each]) == 1 for each in used):
        _refuse_shared([found[each][0] for each in used], [classes[each] for each in used], names)
        return [each[0] if len(each) == 1 else -1 for each in found]
    if _only_numbered(classes) or _only_numbered(names):
        return _by_number(classes, names, len(names))
    if _same_list(found, names):
        odd = [each for each in places if found[each] != [each]]
        say(f"classes of data and model have the same order; names that differ: {_pairs(odd, names, classes)}")
        return places
    _refuse_unmatched([classes[each] for each in used if not found[each]], names, len(used))
    several = next(each for each in used if len(found[each]) > 1)
    raise UserError(
        f"class {classes[several]!r} of the data is the name of {len(found[several])} outputs of the model, "
        f"{' and '.join(map(str, found[several][:SHOWN]))}; give each output a name of its own (model.classes=FILE)"
    )


def _outputs_of_names(classes: Sequence[str], names: Sequence[str]) -> list[list[int]]:
    """The outputs with the name of each class, by the strictest comparison that finds any."""
    found: list[list[int]] = [[] for _ in classes]
    for form in (str, _plain_spelling, _first_synonym):
        outputs = defaultdict(list)
        for place, name in enumerate(names):
            outputs[form(name)].append(place)
        found = [here or outputs.get(form(name), []) for here, name in zip(found, classes, strict=True)]
    return found


def _plain_spelling(name: str) -> str:
    """Without capitals, and with spaces for ``_`` and ``-`` between words; a sign, as in -1 or B-, stays."""
    return " ".join(re.sub(r"(?<=\w)[_-]+(?=\w)", " ", name).casefold().split())


def _first_synonym(name: str) -> str:
    return _plain_spelling(name.split(",")[0])


def _same_list(found: Sequence[list[int]], names: Sequence[str]) -> bool:
    """Whether both list the same classes in one order: nine of ten names in the same places, and none in another."""
    if len(found) != len(names) or any(each and place not in each for place, each in enumerate(found)):
        return False
    return sum(map(bool, found)) >= ALIKE * len(names)


def _only_numbered(names: Sequence[str]) -> bool:
    """Whether names are numbers behind one word, such as 0, 1 or LABEL_0, LABEL_1, and say nothing about a class."""
    parts = [re.fullmatch(r"(\D*)\d+", name.strip()) for name in names]
    return all(parts) and len({part[1].casefold() for part in parts if part}) == 1


def _by_number(classes: tuple[str, ...], names: tuple[str, ...] | None, outputs: int) -> list[int]:
    """Each class as the output of its number; said where either has names, UserError where the numbers cannot agree."""
    places = list(range(len(classes)))
    numbers = classes == tuple(map(str, places))  # the names are the numbers themselves
    if len(classes) != outputs and not numbers:
        raise UserError(
            f"the data has {len(classes)} classes, {_some_names(classes)}, and the model {outputs} outputs"
            f"{' without names' if names is None else f', {_some_names(names)}'}: which output a class stands for is "
            "not known; name the outputs in their order (model.classes=FILE) as the data names its classes"
        )
    if not numbers or not (names is None or _only_numbered(names)):
        shown = _pairs(places, names, classes)
        say(f"classes of data and model are matched by their order, not by name: {shown}")
    return places


def _refuse_shared(outputs: Sequence[int], classes: Sequence[str], names: Sequence[str]) -> None:
    """UserError where two classes of the data have the name of one output."""
    output, times = Counter(outputs).most_common(1)[0]
    if times > 1:
        both = [name for place, name in zip(outputs, classes, strict=True) if place == output]
        raise UserError(
            f"classes {' and '.join(map(repr, both[:SHOWN]))} of the data are both the name of the model's output "
            f"{output}, {names[output]!r}; give each class a name of its own"
        )


def _refuse_unmatched(missing: Sequence[str], names: Sequence[str], used: int) -> None:
    if missing:
        raise UserError(
            f"the model has no output named {_some_names(missing)} ({len(missing)} of {used} classes of the data); "
            f"its {len(names)} outputs are {_some_names(names)}; spell the classes alike in data and model "
            "(model.classes=FILE names the outputs), or leave these samples out"
        )


def _moved(labels: Tensor, order: Sequence[int], names: Sequence[str]) -> Tensor:
    """Class indices (N,) as outputs, or independent labels (N, K) with their columns in the order of the outputs."""
    of_class = torch.tensor(order, device=labels.device)
    if labels.dim() == 1:
        return of_class[labels.long()]
    lacking = [name for place, name in enumerate(names) if place not in order]
    if lacking:
        raise UserError(
            f"the data has no labels of the model's outputs {_some_names(lacking)}; expected a column for each"
        )
    return labels[:, of_class.argsort()]


def _some_names(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:SHOWN])) + (", ..." if len(names) > SHOWN else "")


def _pairs(places: Sequence[int], names: Sequence[str] | None, classes: Sequence[str] | None = None) -> str:
    """Classes, by their names or else their numbers, with the outputs that they stand for, and the outputs' names."""
    named = lambda place: place if classes is None else repr(classes[place])
    output = lambda place: f"output {place}" + ("" if names is None else f" ({names[place]!r})")
    shown = [f"{named(place)} is {output(place)}" for place in islice(places, SHOWN)]
    return ", ".join(shown) + (", ..." if len(places) > SHOWN else "")
