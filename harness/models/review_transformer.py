"""A small transformer for film reviews, on the word vectors that come with dianna."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.datasets.movie_reviews import CLASSES, load_texts
from harness.models._movie_words import SIZE, WordVectors, numbers_of, reading
from harness.models.training import Recipe, offered, trained
from harness.registry import model
from harness.sources import LoadedModel

LENGTH, WIDTH, HEADS, LAYERS = 32, 64, 4, 2


@model()
def review_transformer(*, seed: int = 0, epochs: int = 3) -> LoadedModel:
    """A transformer of two layers on frozen word vectors for the sentiment of film reviews, 75,714 weights, trained in
    half a minute: about 77 % right on the test part of the data set movie_reviews.

    A text is its first 32 tokens in lower case; inputs are their vectors (N, 32, 100), so a unit is a token; two
    logits. Four heads a layer; a learnt vector for every place; the mean over the tokens is classified. A token whose
    vector is exactly zero, padding, an unknown word, or one that a baseline removed, is attended by none and not in the
    mean; where all are, all take part. So pad, mask and zero are one baseline here, and what is removed by it leaves
    without moving the rest. The least noise on padding makes tokens of it and moves the logits by about 1: what changes
    every number of an input (smoothgrad, robustness metrics, the baselines mean and noise) shows that leap as well. It
    is trained from ``seed`` for ``epochs`` epochs on the films of the training part, and the weights are cached.
    """
    return reading(trained(RECIPE, seed=seed, epochs=epochs), LENGTH, CLASSES)


class ReviewTransformer(nn.Module):
    """Word vectors with places, layers of attention, and the mean over the tokens that are there."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(SIZE, WIDTH)
        self.places = nn.Parameter(0.02 * torch.randn(LENGTH, WIDTH))
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm, self.classifier = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, len(CLASSES))

    def forward(self, vectors: Tensor) -> Tensor:
        """Word vectors (N, 32, 100) to logits (N, 2)."""
        there = _there(vectors)
        tokens = self.enter(vectors) + self.places
        for layer in self.layers:
            tokens = layer(tokens, there)
        shares = there.to(tokens) / there.sum(1, keepdim=True)
        return self.classifier((self.norm(tokens) * shares[..., None]).sum(1))


class Layer(nn.Module):
    """Attention among the tokens that are there, and two dense layers, each normalised before and added."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.queries, self.keys, self.values = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.leave = nn.Linear(WIDTH, WIDTH)
        self.widen, self.relu, self.narrow = nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU(), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, tokens: Tensor, there: Tensor) -> Tensor:
        """Tokens (N, T, 64), of which those ``there`` (N, T) are attended to."""
        normal = self.before(tokens)
        heads = [part(normal).unflatten(2, (HEADS, -1)).transpose(1, 2) for part in (self.queries, self.keys)]
        values = self.values(normal).unflatten(2, (HEADS, -1)).transpose(1, 2)
        attended = F.scaled_dot_product_attention(*heads, values, attn_mask=there[:, None, None])
        tokens = tokens + self.leave(attended.transpose(1, 2).flatten(2))
        return tokens + self.narrow(self.relu(self.widen(self.between(tokens))))


def _there(vectors: Tensor) -> Tensor:
    """Which tokens are no padding, (N, T) bool; all of them in a text that is nothing else."""
    there = (vectors != 0).any(2)
    return there | ~there.any(1, keepdim=True)


def build() -> nn.Module:
    """The network with its first weights drawn from torch's generator."""
    return ReviewTransformer()


def load_split() -> dict[str, tuple[WordVectors, Tensor]]:
    """``train`` and ``test`` -> word vectors, made when they are asked for, and labels (N,)."""
    return {part: (WordVectors(texts, LENGTH), labels) for part, (texts, labels, _) in load_texts().items()}


RECIPE = offered(Recipe("review_transformer", build, load_split, epochs=3, rate=1e-3, reads=(load_texts, numbers_of)))
