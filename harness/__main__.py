"""``python -m harness`` is the command ``harness``."""

from harness.command import begin

begin()
