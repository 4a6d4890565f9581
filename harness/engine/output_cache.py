"""A disk cache of model outputs that do not depend on attributions, so that later runs need not compute them again."""

import logging
import os
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.code_version import code_of, measuring_code
from harness.errors import UserError
from harness.identity import canonical, digest
from harness.places import clear_abandoned, user_path
from harness.results.disk import told_in_one_line, whole_file
from harness.results.run_files import array_content, array_of, content_of, name_damage
from harness.seals import Damaged, check_seal

if TYPE_CHECKING:
    from harness.samples import Samples

LOG = logging.getLogger(__name__)
_TOLD: set[Path] = set()  # the folders of which a warning has said that nothing can be written


@dataclass(frozen=True)
class OutputCache:
    """Tracked outputs in files of ``folder``, one file for each chunk of samples and each use.

    A file's name is a digest of everything that its numbers depend on: ``model`` (weights and code), the samples with
    targets, random keys, training data, segments and range of values, precision and variant of the model, device,
    version of torch, the code of the caller and its options. Files never become stale: a change gives another name.
    They carry a checksum; a damaged one is made again.
    """

    folder: Path
    model: str

    @classmethod
    def of(cls, folder: str, model: str) -> "OutputCache":
        """A cache for one model in a folder, which is created; UserError if that is not possible."""
        path = user_path(folder)
        with told_in_one_line(path, "nothing has been measured yet"):
            path.mkdir(parents=True, exist_ok=True)
        clear_abandoned(path)
        return cls(path, model)

    def load_or_make(self, samples: "Samples", key: Hashable, compute: Callable[[], Tensor]) -> Tensor:
        """The outputs for ``key``: read from their file, or computed and saved."""
        path = self.folder / f"{self._name(samples, key, compute)}.npy"
        outputs = _read_outputs(path) if os.path.lexists(path) else None
        if outputs is None:
            outputs = compute()
            _write_outputs(path, outputs)
        return outputs.to(samples.inputs.device)

    def _name(self, samples: "Samples", key: Hashable, compute: Callable[[], Tensor]) -> str:
        predictor = samples.predictor
        about = canonical(
            {
                "model": self.model,
                "code": [code_of(compute), measuring_code()],
                "variant": predictor.variant.get("variant"),
                "autocast": str(predictor.autocast),
                "task": predictor.task.name,
                "tf32": torch.backends.cuda.matmul.fp32_precision,
                "inputs": samples.inputs,
                "carried": sorted(samples.carried.items(), key=lambda pair: str(pair[0])),
                "keys": samples.keys,
                "targets": samples.targets,
                "train": samples.train,
                "segments": samples.given_segments,
                "fillers": sorted((samples.fillers or {}).items()),
                "seed": samples.seed,
                "units": str(samples.units),
                "range": None if samples.value_range is None else [torch.as_tensor(end) for end in samples.value_range],
                "device": samples.inputs.device.type,
                "torch": torch.__version__,
                "use": _nested_lists(key),
            }
        )
        return digest(about) + digest("again", about)


def _nested_lists(key: Hashable) -> list:
    """A key as nested lists, which can be written as JSON."""
    return [
        _nested_lists(part) if isinstance(part, tuple) else part for part in (key if isinstance(key, tuple) else (key,))
    ]


def _read_outputs(path: Path) -> Tensor | None:
    """The tensor in a file; None, with a warning, if it is damaged."""
    try:
        content = content_of(path, named_folder=True)
        check_seal(content, path.stem)
        return torch.from_numpy(array_of(content))
    except Damaged as error:
        name_damage(path, error, "the outputs are computed again")
        return None


def _write_outputs(path: Path, outputs: Tensor) -> None:
    """Write the file in one step; if that fails, for example on a full disk, one line says it and the run goes on."""
    try:
        with whole_file(path) as temporary:
            temporary.write_bytes(array_content(outputs.cpu().numpy(), path.stem))
    except UserError as error:
        if path.parent in _TOLD:
            return
        _TOLD.add(path.parent)
        LOG.warning("outputs are not kept for another run: %s", error)
