"""What differs between the environments of two runs: versions of libraries, device, threads, ..."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import printable
from harness.results.run_files import RunFiles, name_damage
from harness.seals import Damaged


def environment_differences(base: str | Path, new: str | Path) -> dict[str, tuple[Any, Any]]:
    """What differs between the environments of two runs, by dotted name; several of one run are joined."""
    before, after = (_environment_of_run(Path(run)) for run in (base, new))
    names = sorted({*before, *after})
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


def _environment_of_run(run: Path) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for path in sorted((run / "environment").glob("*.json")):
        for name, value in dotted(_facts_of_file(run, path)).items():
            if not name.startswith("scoring"):  # which form of the model scored faster is not part of the environment
                found.setdefault(printable(name), set()).add(printable(value))
    return {name: " | ".join(sorted(values)) for name, values in found.items()}


def _facts_of_file(run: Path, path: Path) -> Any:
    """What a file says of an environment, or that it cannot be read."""
    try:
        return RunFiles(run).text(path)
    except Damaged as error:
        name_damage(path, error, "what it says of the machine is not shown")
        return {f"environment/{path.name}": "cannot be read"}


def dotted(value: Any, name: str = "") -> dict[str, Any]:
    """What nested mappings hold, by dotted name."""
    if not isinstance(value, Mapping):
        return {name: value}
    return {k: v for key, each in value.items() for k, v in dotted(each, f"{name}.{key}" if name else str(key)).items()}
