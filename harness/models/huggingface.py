"""Hugging Face classifiers of images and of texts, from a folder or a name."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from harness.errors import UserError, one_line, unknown
from harness.models.huggingface_text import text_classifier
from harness.models.preprocessing import black_and_white
from harness.models.state import needed, ready, weights_alone
from harness.registry import model
from harness.sources import LoadedModel

LOADERS = {"image": "AutoModelForImageClassification", "text": "AutoModelForSequenceClassification"}


@model()
def huggingface(
    *, path: str | None = None, task: str = "image", length: int = 128, download: bool = False
) -> LoadedModel:
    """A Hugging Face classifier of images or of texts, from the folder it was saved to or by its name.

    ``path`` is a folder written by ``save_pretrained`` of the model and of its image processor or tokenizer, or a name
    ``owner/model``, taken from the local cache and, with ``download``, from the network. ``task`` is ``image`` or
    ``text``. Weights are read as safetensors or as weights alone; no code that comes with a model is ever run.

    A classifier of texts is explained on its word embeddings, (N, T, D): ``length`` T tokens, the rest of a text left
    out, what is short filled with the embedding of the padding token. A position that holds exactly that embedding is
    padding, and no other position attends to it; where all are, all are attended to, so that an emptied text has an
    output. The logits are those of the model on the text's token ids, which is tried on two texts when it is loaded. A
    model that holds parameters which the files lack, such as a new head, is refused, not drawn at random. UserError,
    in one line, for all of this, and where transformers is not installed (``pip install 'harness[transformers]'``).
    """
    if task not in LOADERS:
        raise unknown("task of model huggingface", task, LOADERS)
    if not path:
        raise UserError("model=huggingface needs model.path=FOLDER, written by save_pretrained, or a name owner/model")
    library = needed("transformers", "model=huggingface", "harness[transformers]")
    source = str(Path(path).expanduser()) if Path(path).expanduser().is_dir() else path
    load = partial(_loaded, source, download)
    net = _model(load, getattr(library, LOADERS[task]), source)
    names = tuple(str(net.config.id2label[index]) for index in sorted(net.config.id2label))
    if task == "text":
        tokenizer = load(library.AutoTokenizer.from_pretrained, "a tokenizer")
        return text_classifier(net, tokenizer, length, names, source)
    processor = load(library.AutoImageProcessor.from_pretrained, "an image processor")
    preprocess = partial(_prepare, processor)
    return LoadedModel(ready(ImageLogits(net)), preprocess, black_and_white(preprocess), names)


class ImageLogits(nn.Module):
    """A classifier of images as a module from pixel values to logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        """The logits (N, classes) of pixel values (N, C, H, W)."""
        return self.model(pixel_values=inputs).logits


def _loaded(source: str, download: bool, load: Callable[..., Any], what: str, **options: Any) -> Any:
    try:
        with weights_alone():
            return load(source, local_files_only=not download, trust_remote_code=False, **options)
    except Exception as error:  # of the network, of files that are no such thing, of configurations that do not fit
        where = f"folder {source}" if Path(source).is_dir() else f"{source}, which is no folder here,"
        hint = "" if download or Path(source).is_dir() else ", or model.download=true and a network connection"
        raise UserError(
            f"{what} could not be loaded from {where}: {one_line(error)[:200]}; expected a folder written by "
            f"save_pretrained{hint}"
        ) from error


def _model(load: Callable[..., Any], kind: Any, source: str) -> nn.Module:
    """The network with every parameter of the files, in float32."""
    net, found = load(kind.from_pretrained, "a model", output_loading_info=True, dtype=torch.float32)
    odd = sorted(map(str, {*found["missing_keys"], *found["mismatched_keys"]}))
    if odd:
        raise UserError(
            f"the weights of {source} do not fit {type(net).__name__}, which would be part random: {len(odd)} lack or "
            f"differ in shape, such as {', '.join(odd[:3])}; expected a model trained for this task"
        )
    return net


def _prepare(processor: Any, image: Image.Image) -> Tensor:
    return processor(images=image.convert("RGB"), return_tensors="pt")["pixel_values"][0]
