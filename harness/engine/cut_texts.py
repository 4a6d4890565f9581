"""What is said about texts: those that are cut, and embeddings that look like padding."""

from torch import Tensor

from harness.messages import say
from harness.sources import Data, LoadedModel


def tell_cut_texts(model: LoadedModel, data: Data, count: int, length: int) -> int:
    """Say how many of the first ``count`` texts have more than ``length`` tokens; returns that number.

    The model reads the first ``length`` tokens of a text, and the rest is neither explained nor scored. Nothing is
    counted for a model that reads no texts.
    """
    if model.wording is None or model.wording.length is None:
        return 0
    texts = ((index, data.inputs[index]) for index in range(count))
    # An item that is no text is refused where it is read.
    cut = [index for index, text in texts if isinstance(text, str) and model.wording.length(text) > length]
    if cut:
        name = cut[0] if data.ids is None else data.ids[cut[0]]
        say(f"{len(cut)} of {count} texts are longer than {length} tokens and were cut, the first is {name!r}")
    return len(cut)


def tell_zero_embeddings(data: Data, count: int) -> int:
    """Say how to mark padding if tokens of the first ``count`` texts are 0 throughout; returns how many texts have any.

    An embedding of zeros may be a token or padding. It counts as a token unless the data says otherwise.
    """
    if data.modality != "tokens" or data.present is not None or not isinstance(data.inputs, Tensor):
        return 0
    zero = (data.inputs[:count] == 0).all(-1)
    texts = int(zero.any(1).sum())
    if texts:
        say(
            f"{int(zero.sum())} tokens of {texts} texts have an embedding of zeros and count as tokens; if they are "
            "padding, say so: harness.Data(..., present=(inputs != 0).any(-1))"
        )
    return texts
