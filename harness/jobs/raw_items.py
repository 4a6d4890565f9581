"""Raw items, such as images, that reach a model whose preprocessing the user has to choose and has not chosen."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from harness.errors import UserError
from harness.sources import Data

OWN_FUNCTION = "package.module:function"
PRESETS_OF_IMAGES = "imagenet | plain"


def check_needs_no_preprocessing(data: Data) -> None:
    """UserError that says what to type if the items of the data are no arrays of numbers."""
    if isinstance(data.inputs, Tensor | np.ndarray | Mapping) or len(data) == 0:
        return
    try:
        item = data.inputs[0]
    except (OSError, ValueError, TypeError, AttributeError):
        return  # reading the inputs names the sample that cannot be read
    if isinstance(item, Tensor | np.ndarray | list | tuple | float | int):
        return
    choices = f"{PRESETS_OF_IMAGES} | {OWN_FUNCTION}" if isinstance(item, Image.Image) else OWN_FUNCTION
    raise UserError(
        f"the data holds {_in_words(item)}, and the model was not told how they become its inputs; "
        f"type model.preprocess={choices}"
    )


def _in_words(item: Any) -> str:
    kinds = ((Image.Image, "images"), (str | bytes, "texts"))
    return next((words for kind, words in kinds if isinstance(item, kind)), f"items of type {type(item).__name__}")
