"""The command line: one parser tree, one module for each verb."""

from harness.cli.main import main

__all__ = ["main"]
