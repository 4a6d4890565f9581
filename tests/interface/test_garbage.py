"""The garbage collector while libraries are imported."""

import gc

import pytest

from harness.garbage import collected_later


@pytest.fixture(autouse=True)
def as_before():
    was_on, frozen = gc.isenabled(), gc.get_freeze_count()
    yield
    (gc.enable if was_on else gc.disable)()
    if not frozen:
        gc.unfreeze()


@pytest.mark.parametrize("was_on", [True, False])
def test_nothing_is_collected_inside_and_afterwards_it_is_as_before(was_on):
    (gc.enable if was_on else gc.disable)()
    searches = []
    gc.callbacks.append(lambda phase, facts: searches.append(phase))
    try:
        with pytest.raises(KeyError), collected_later():
            kept = [[] for _ in range(100_000)]
            assert not searches
            raise KeyError
        assert gc.isenabled() == was_on
        assert gc.get_freeze_count() >= len(kept)
    finally:
        gc.callbacks.pop()
