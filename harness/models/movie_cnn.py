"""The convolutional network for film reviews that comes with dianna, with its published weights."""

from typing import Annotated

import torch
from torch import Tensor, nn

from harness.datasets.movie_reviews import CLASSES
from harness.models._movie_words import LEAST_LENGTH, VECTOR_SIZE, published_weights, word_vector_model
from harness.option_types import Range
from harness.registry import model
from harness.sources import LoadedModel

FILTERS, FILTER_WIDTHS = 245, (3, 4, 5)  # filters of each width; widths in tokens


@model()
def movie_cnn(*, length: Annotated[int, Range(LEAST_LENGTH, 10_000)] = 32) -> LoadedModel:
    """A CNN on word vectors for the sentiment of film reviews, 0.30 M weights and 1.39 M in vectors (Kim 2014, arXiv
    1408.5882; weights of dianna 1.4.0, Apache-2.0): 76.6 % of the data set movie_reviews right.

    The model sees the first ``length`` tokens of a text in lower case. Inputs are their GloVe vectors (N, length, 100),
    so a unit is a token. Padding, unknown words and 142 rare words have the vector zero, so that the baselines pad,
    mask and zero are equal. The published network has one logit z for "positive"; here the outputs are the two logits
    (-z/2, z/2), which give the same probabilities and can both be explained. dianna does not say which reviews the
    network was trained on. Its vocabulary is that of Pang and Lee's reviews, so sentences of the data set may be among
    them. The weights are fetched once (23 MB); UserError where they cannot be, and where ``length`` is below 5.
    """
    module = MovieCNN()
    module.load_state_dict(_renamed_weights())
    return word_vector_model(module.requires_grad_(False).eval(), length, CLASSES)


class MovieCNN(nn.Module):
    """Filters over 3, 4 and 5 tokens, the largest response of each over the text, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv1d(VECTOR_SIZE, FILTERS, width) for width in FILTER_WIDTHS)
        self.relus = nn.ModuleList(nn.ReLU() for _ in FILTER_WIDTHS)
        self.pools = nn.ModuleList(nn.AdaptiveMaxPool1d(1) for _ in FILTER_WIDTHS)
        self.flatten, self.classifier = nn.Flatten(), nn.Linear(FILTERS * len(FILTER_WIDTHS), len(CLASSES))

    def forward(self, vectors: Tensor) -> Tensor:
        """Word vectors (N, T, 100), T from 5, to logits (N, 2)."""
        channels = vectors.transpose(1, 2)
        branches = zip(self.convolutions, self.relus, self.pools, strict=True)
        largest = [pool(relu(convolution(channels))) for convolution, relu, pool in branches]
        return self.classifier(self.flatten(torch.cat(largest, 1)))


def _renamed_weights() -> dict[str, Tensor]:
    """The published weights under this module's names."""
    published, state = published_weights(), {}
    for number in range(len(FILTER_WIDTHS)):
        state[f"convolutions.{number}.weight"] = published[f"conv_layers.{number}.weight"][:, 0].transpose(1, 2)
        state[f"convolutions.{number}.bias"] = published[f"conv_layers.{number}.bias"]
    for kind in ("weight", "bias"):
        half = published[f"fc.{kind}"] / 2
        state[f"classifier.{kind}"] = torch.cat([-half, half])
    return state
