"""A small transformer for film reviews, on the word vectors that come with dianna."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.datasets.movie_reviews import CLASSES, load_texts
from harness.models._movie_words import VECTOR_SIZE, WordVectors, word_numbers, word_vector_model
from harness.models.training import TrainingOptions, TrainingRecipe, offered, trained
from harness.registry import model
from harness.sources import LoadedModel

LENGTH, WIDTH, HEADS, LAYERS = 32, 64, 4, 2
REVIEW_TRAINING = TrainingOptions(epochs=3)


@model()
def review_transformer(*, training: TrainingOptions = REVIEW_TRAINING) -> LoadedModel:
    """A transformer of two layers on frozen word vectors for the sentiment of film reviews, 75,714 weights, trained in
    half a minute: about 77 % right on the test part of the data set movie_reviews.

    The model sees the first 32 tokens of a text in lower case. Inputs are their vectors (N, 32, 100), so a unit is a
    token; two logits. Each layer has four heads, every place has a learnt vector, and the mean over the tokens is
    classified. A token whose vector is exactly zero is masked: no token attends to it, and it is not in the mean. That
    holds for padding, for unknown words and for tokens that the baselines pad, mask and zero remove, which are
    therefore equal. Where all tokens are zero, none is masked. With the smallest noise on an unknown word it is no
    longer masked. So methods that add noise (smoothgrad, robustness metrics) show this jump as well; padding is no unit
    and gets no noise. The model is trained on the films of the training part; the options ``seed`` and ``epochs`` are
    those of ``TrainingOptions``.
    """
    return word_vector_model(trained(RECIPE, training), LENGTH, CLASSES)


class ReviewTransformer(nn.Module):
    """Word vectors plus vectors of places, layers of attention, and the mean over the tokens that are not masked."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(VECTOR_SIZE, WIDTH)
        self.places = nn.Parameter(0.02 * torch.randn(LENGTH, WIDTH))
        self.layers = nn.ModuleList(AttentionLayer() for _ in range(LAYERS))
        self.norm, self.classifier = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, len(CLASSES))

    def forward(self, vectors: Tensor) -> Tensor:
        """Word vectors (N, 32, 100) to logits (N, 2)."""
        there = _unmasked(vectors)
        tokens = self.enter(vectors) + self.places
        for layer in self.layers:
            tokens = layer(tokens, there)
        shares = there.to(tokens) / there.sum(1, keepdim=True)
        return self.classifier((self.norm(tokens) * shares[..., None]).sum(1))


class AttentionLayer(nn.Module):
    """Attention among the tokens that are not masked, then two dense layers, each after a norm and added."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.queries, self.keys, self.values = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.leave = nn.Linear(WIDTH, WIDTH)
        self.widen, self.relu, self.narrow = nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU(), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, tokens: Tensor, there: Tensor) -> Tensor:
        """Tokens (N, T, 64) to tokens of the same shape; only those ``there`` (N, T) are attended to."""
        normal = self.before(tokens)
        heads = [part(normal).unflatten(2, (HEADS, -1)).transpose(1, 2) for part in (self.queries, self.keys)]
        values = self.values(normal).unflatten(2, (HEADS, -1)).transpose(1, 2)
        attended = F.scaled_dot_product_attention(*heads, values, attn_mask=there[:, None, None])
        tokens = tokens + self.leave(attended.transpose(1, 2).flatten(2))
        return tokens + self.narrow(self.relu(self.widen(self.between(tokens))))


def _unmasked(vectors: Tensor) -> Tensor:
    """Which tokens are not masked, (N, T) bool: those that are not zero, or all where all are zero."""
    there = (vectors != 0).any(2)
    return there | ~there.any(1, keepdim=True)


def build() -> nn.Module:
    """The network, with first weights from torch's generator."""
    return ReviewTransformer()


def load_split() -> dict[str, tuple[WordVectors, Tensor]]:
    """``train`` and ``test`` -> word vectors, made when they are accessed, and labels (N,)."""
    return {part: (WordVectors(texts, LENGTH), labels) for part, (texts, labels, _) in load_texts().items()}


RECIPE = offered(
    TrainingRecipe(
        "review_transformer",
        build,
        load_split,
        epochs=REVIEW_TRAINING.epochs,
        rate=1e-3,
        reads=(load_texts, word_numbers),
    )
)
