"""What is said about texts that are cut."""

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
