"""Hugging Face classifiers of images and of texts, from a folder or a name."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from PIL import Image
from torch import Tensor, nn

from harness.errors import UserError, one_line
from harness.models.huggingface_text import text_classifier
from harness.models.preprocessing import black_and_white
from harness.models.state import needed, ready, weights_alone
from harness.option_types import Range
from harness.places import user_path
from harness.registry import model
from harness.sources import LoadedModel

LOADERS = {"image": "AutoModelForImageClassification", "text": "AutoModelForSequenceClassification"}


@model(name="huggingface")
def huggingface_classifier(
    *,
    path: str | None = None,
    kind: Literal["image", "text"] = "image",
    length: Annotated[int, Range(3, 100_000)] = 128,
    download: bool = False,
) -> LoadedModel:
    """A Hugging Face classifier of images or of texts, from the folder it was saved to or by its name.

    ``path`` is a folder written by ``save_pretrained`` of the model and of its image processor or tokenizer, or a name
    ``owner/model``, which is looked up in the local cache and, with ``download``, on the network. ``kind`` is ``image``
    or ``text``. Weights are read as safetensors or as plain weights; code that comes with a model is not run.

    A classifier of texts is explained on its word embeddings (N, T, D). T is ``length`` tokens: longer texts are cut,
    shorter ones are padded. The token ids and the attention mask of each text go along with its embeddings, so models
    that pool at the last token (GPT-2, Llama) work too. Padding and special tokens are no units. When the model is
    loaded, two texts are tried: the logits must be those on the texts' ids, the ids must matter by their embeddings
    alone, and padding must change nothing. A model whose files lack some of its parameters, such as those of a new
    head, is refused. UserError for all of this, and where transformers is not installed
    (``pip install 'harness[transformers]'``).
    """
    if not path:
        raise UserError("model=huggingface needs model.path=FOLDER, written by save_pretrained, or a name owner/model")
    library = needed("transformers", "model=huggingface", "harness[transformers]")
    source = str(user_path(path)) if user_path(path).is_dir() else path
    load = partial(_from_pretrained, source, download)
    net = _complete_network(load, getattr(library, LOADERS[kind]), source)
    names = tuple(str(net.config.id2label[index]) for index in sorted(net.config.id2label))
    if kind == "text":
        tokenizer = load(library.AutoTokenizer.from_pretrained, "a tokenizer")
        return text_classifier(net, tokenizer, length, names, source)
    processor = load(library.AutoImageProcessor.from_pretrained, "an image processor")
    preprocess = partial(_processed_image, processor)
    return LoadedModel(ready(ImageLogits(net)), preprocess, black_and_white(preprocess), names)


class ImageLogits(nn.Module):
    """A classifier of images as a module from pixel values to logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        """The logits (N, classes) of pixel values (N, C, H, W)."""
        return self.model(pixel_values=inputs).logits


def _from_pretrained(source: str, download: bool, load: Callable[..., Any], what: str, **options: Any) -> Any:
    try:
        with weights_alone():
            return load(source, local_files_only=not download, trust_remote_code=False, **options)
    except Exception as error:  # of the network, of files of another kind, of configurations that do not fit
        where = f"folder {source}" if Path(source).is_dir() else f"{source}, which is no folder here,"
        hint = "" if download or Path(source).is_dir() else ", or model.download=true and a network connection"
        raise UserError(
            f"{what} could not be loaded from {where}: {one_line(error)[:200]}; expected a folder written by "
            f"save_pretrained{hint}"
        ) from error


def _complete_network(load: Callable[..., Any], kind: Any, source: str) -> nn.Module:
    """The network in float32; UserError where the files lack a parameter or hold one of another shape."""
    net, report = load(kind.from_pretrained, "a model", output_loading_info=True, dtype=torch.float32)
    odd = sorted(map(str, {*report["missing_keys"], *report["mismatched_keys"]}))
    if odd:
        raise UserError(
            f"the weights of {source} do not fit {type(net).__name__}, so that parts would be random: {len(odd)} "
            f"parameters are missing or differ in shape, such as {', '.join(odd[:3])}; expected a model trained for "
            "this task"
        )
    return net


def _processed_image(processor: Any, image: Image.Image) -> Tensor:
    return processor(images=image.convert("RGB"), return_tensors="pt")["pixel_values"][0]
