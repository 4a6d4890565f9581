"""What a block keeps of its results: in memory up to a budget, in files beyond it, the same when it comes back."""

from dataclasses import dataclass

import pytest
import torch

from harness.engine.memo import SMALL, Memo, Shelf

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
    assert shelf.files == 1 and torch.equal(memo["first"], first) and torch.equal(memo["second"], second)
    assert memo["first"] is memo["first"] and memo["second"] is not memo["second"]
    assert list(memo) == ["first", "second", "few"] and "third" not in memo


def test_the_tensors_of_a_dataclass_are_treated_one_by_one():
    shelf, pair = Shelf(budget=0), Pair(large(), torch.ones(3))
    memo = Memo(shelf)
    memo["pair"] = pair
    assert shelf.files == 1 and torch.equal(memo["pair"].large, pair.large) and memo["pair"].small is pair.small


def test_a_view_that_repeats_a_few_numbers_takes_no_room():
    shelf = Shelf(budget=0)
    memo, view = Memo(shelf), torch.ones(()).expand(10 * SMALL)
    memo["view"] = view
    assert shelf.files == 0 and memo["view"] is view


@pytest.mark.parametrize(
    "wrap",
    [
        lambda t: t,
        lambda t: (t, 1),
        lambda t: [(t,)],
        lambda t: {"inner": {"deep": t}},
        lambda t: Pair(torch.ones(1), t),
    ],
    ids=["tensor", "tuple", "list of tuples", "dicts", "dataclass"],
)
def test_a_value_changed_in_place_counts_as_not_there_however_deep_its_tensor_lies(wrap):
    memo, tensor = Memo(Shelf(budget=5 * SMALL)), torch.ones(3)
    memo["shared"] = wrap(tensor)
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
