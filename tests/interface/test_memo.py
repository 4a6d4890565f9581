"""What a block keeps of its results: in memory up to a budget, in files beyond it, the same when it comes back."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
import torch

from harness.engine.memo import SMALL, TINY, Memo, Shelf

pytestmark = pytest.mark.usefixtures("seed")


@dataclass(frozen=True)
class Pair:
    large: torch.Tensor
    small: torch.Tensor


def large(count=1):
    return torch.randn(count * SMALL)


def test_what_is_beyond_the_budget_lies_in_a_file_and_comes_back_as_it_was():
    shelf = Shelf(budget=5 * SMALL)
    memo, first, second = Memo(shelf), large(), large()
    memo["first"], memo["second"], memo["few"] = first, second, torch.ones(3)
    assert shelf.spilled == 1 and torch.equal(memo["first"], first) and torch.equal(memo["second"], second)
    assert memo["first"] is memo["first"] and memo["second"] is not memo["second"]
    assert list(memo) == ["first", "second", "few"] and "third" not in memo


def test_the_tensors_of_a_dataclass_are_treated_one_by_one():
    shelf, pair = Shelf(budget=0), Pair(large(), torch.ones(3))
    memo = Memo(shelf)
    memo["pair"] = pair
    assert shelf.spilled == 1 and torch.equal(memo["pair"].large, pair.large) and memo["pair"].small is pair.small


def test_a_view_that_repeats_a_few_numbers_takes_no_room():
    shelf = Shelf(budget=0)
    memo, view = Memo(shelf), torch.ones(()).expand(10 * SMALL)
    memo["view"] = view
    assert shelf.spilled == 0 and memo["view"] is view and shelf.used == 4


class Named(NamedTuple):
    tensor: torch.Tensor
    other: str


WRAPPED = {
    "tensor": lambda t: t,
    "tuple": lambda t: (t, 1),
    "list of tuples": lambda t: [(t,)],
    "named tuple": lambda t: Named(t, "x"),
    "dicts": lambda t: {"inner": {"deep": t}},
    "dataclass": lambda t: Pair(torch.ones(1), t),
    "tuple of dataclasses": lambda t: (Pair(t, torch.ones(1)), None),
}
VALUES = {
    "float32": lambda: torch.randn(TINY),
    "bfloat16": lambda: torch.randn(TINY).bfloat16(),
    "bool": lambda: torch.rand(2 * TINY, 2) < 0.5,
    "complex, conjugate": lambda: torch.randn(TINY, dtype=torch.complex64).conj(),
    "columns first": lambda: torch.randn(30, 40).T,
    "channels last": lambda: torch.randn(2, 3, 20, 20).to(memory_format=torch.channels_last),
    "array": lambda: np.random.default_rng(0).normal(size=(4, TINY)),
    "array of texts": lambda: np.array(["a", "bcd"] * TINY),
}
wrapped, valued = pytest.mark.parametrize("wrap", WRAPPED), pytest.mark.parametrize("kind", VALUES)


def leaves(value):
    """The tensors and arrays in a value, in its order."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return [value]
    parts = vars(value) if isinstance(value, Pair) else value
    parts = parts.values() if isinstance(parts, dict) else parts if isinstance(parts, tuple | list) else ()
    return [leaf for part in parts for leaf in leaves(part)]


@wrapped
@valued
@pytest.mark.parametrize("budget", [0, 2**30])
def test_what_is_stored_comes_back_the_same_from_memory_and_from_the_file(budget, kind, wrap):
    stored, memo = WRAPPED[wrap](VALUES[kind]()), Memo(Shelf(budget))
    memo["key"] = stored
    found = memo["key"]
    assert type(found) is type(stored) and memo.shelf.spilled == (budget == 0)
    for one, other in zip(leaves(found), leaves(stored), strict=True):
        assert type(one) is type(other) and one.dtype == other.dtype and one.shape == other.shape
        assert (one == other).all()


@wrapped
@pytest.mark.parametrize("size", [TINY, SMALL - 4, SMALL, 3 * SMALL])
def test_results_of_any_size_and_nesting_stay_within_the_budget(size, wrap):
    """As many as a metric stores that keeps some for each chunk of samples."""
    shelf, count = Shelf(budget=10 * size), 40
    memos = [Memo(shelf) for _ in range(count)]
    for number, memo in enumerate(memos):
        memo["key"] = WRAPPED[wrap](torch.full((size // 4,), float(number)))
    in_memory = sum(t.nbytes for memo in memos for t in leaves(memo._items["key"].value) if t.nbytes >= TINY)
    assert in_memory <= shelf.used <= shelf.budget + count * 8 and shelf.spilled >= count - 10
    for number, memo in enumerate(memos):
        assert all(t.eq(number).all() for t in leaves(memo["key"]) if t.nbytes >= TINY)


def test_what_is_replaced_or_removed_or_was_changed_makes_room():
    shelf, tensor = Shelf(budget=4 * SMALL), torch.ones(TINY)
    memo = Memo(shelf)
    for _ in range(10):
        memo["key"] = large()[: SMALL // 4], tensor
    assert shelf.spilled == 0 and shelf.used == SMALL + tensor.nbytes
    tensor += 1
    with pytest.raises(KeyError):
        memo["key"]
    assert shelf.used == 0
    memo["key"] = tensor
    del memo["key"]
    assert shelf.used == 0


def test_a_view_is_kept_without_the_rest_of_what_it_was_cut_from():
    memo, whole = Memo(Shelf()), torch.randn(100, 4 * TINY)
    memo["row"] = whole[3], (whole[4],)
    kept = leaves(memo["row"])
    assert [t.untyped_storage().nbytes() for t in kept] == [16 * TINY] * 2 and torch.equal(kept[1], whole[4])


def test_what_is_more_than_its_numbers_and_an_empty_mapping_stay_as_they_are():
    memo, weights, sparse = Memo(Shelf(budget=0)), torch.nn.Parameter(large()), torch.eye(TINY).to_sparse()
    differentiable, filled_later = weights * 2, {}
    memo["all"] = everything = weights, sparse, differentiable, filled_later
    assert all(one is other for one, other in zip(memo["all"], everything, strict=True))


@wrapped
def test_a_value_changed_in_place_counts_as_not_there_however_deep_its_tensor_lies(wrap):
    memo, tensor = Memo(Shelf(budget=5 * SMALL)), torch.ones(3)
    memo["shared"] = WRAPPED[wrap](tensor)
    assert "shared" in memo
    tensor += 1
    assert "shared" not in memo
    with pytest.raises(KeyError):
        memo["shared"]


def test_a_value_that_holds_its_own_memo_or_itself_comes_back():
    memo, tensor = Memo(Shelf()), torch.ones(3)
    circle = {"tensor": tensor}
    circle["itself"] = circle
    memo["all"] = (memo, circle)
    assert memo["all"] == (memo, circle)
    tensor += 1
    assert "all" not in memo
