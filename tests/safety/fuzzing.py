"""How contents are drawn, and limits of what may happen while they are read.

HARNESS_TEST_SEED (tests/conftest.py) chooses other contents; HARNESS_TEST_EXAMPLES=100 draws more of them.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

SEED = int(os.environ["HARNESS_TEST_SEED"])
EXAMPLES = int(os.environ.get("HARNESS_TEST_EXAMPLES", 0))
SECONDS = 120  # that a call may take on a busy machine


def of_contents(examples: int, **drawn: Any) -> Callable:
    """A test as a property of what is drawn: this many examples, without a time limit for each."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    checks += [HealthCheck.function_scoped_fixture]
    phases = (Phase.explicit, Phase.generate)
    options = settings(
        max_examples=EXAMPLES or examples, deadline=None, database=None, phases=phases, suppress_health_check=checks
    )
    return lambda test: seed(SEED)(options(given(**drawn)(test)))


@contextlib.contextmanager
def in_time() -> Iterator[None]:
    """Fails what does not end."""

    def end(*given: Any) -> None:
        raise TimeoutError(f"no end within {SECONDS} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
