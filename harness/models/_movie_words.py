"""Texts as inputs of dianna's film-review network: lower-case tokens, each a word vector of 100 numbers."""

import re
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from harness.assets import DIANNA, read_members
from harness.errors import NotApplicable
from harness.models._onnx import initialisers
from harness.sources import LoadedModel, Wording

NETWORK, VOCABULARY = "dianna/data/movie_review_model.onnx", "dianna/data/movie_reviews_word_vectors.txt"
UNKNOWN, PADDING, VECTOR_SIZE = "<unk>", "<pad>", 100
LEAST_LENGTH = 5  # of an input in tokens: the width of the network's widest filter

# Contractions are two tokens (do n't, it 's), as in the vocabulary; every punctuation mark is one token.
TOKEN = re.compile(r"\w+(?=n't)|n't|'\w+|\w+|[^\w\s]")


@cache
def published_weights() -> dict[str, Tensor]:
    """The weights of dianna's network by their names, word vectors included."""
    (content,) = read_members(DIANNA, NETWORK).values()
    return initialisers(content)


@cache
def vocabulary() -> dict[str, int]:
    """The number of each known word."""
    (content,) = read_members(DIANNA, VOCABULARY).values()
    return {line.split(" ", 1)[0]: number for number, line in enumerate(content.decode().splitlines())}


def tokens_of(text: Any, length: int) -> list[str]:
    """The first ``length`` tokens of a text; ValueError for a text without tokens, NotApplicable for other items."""
    if not isinstance(text, str):
        raise NotApplicable(f"the model reads texts, the data holds {type(text).__name__}")
    tokens = TOKEN.findall(text.lower())
    if not tokens:
        raise ValueError("the text is empty, expected at least one word")
    return tokens[:length]


def word_numbers(text: str, length: int) -> Tensor:
    """The numbers (length,) of a text's words in the vocabulary; unknown words and padding have numbers too."""
    known = vocabulary()
    tokens = tokens_of(text, length)
    padding = [PADDING] * (length - len(tokens))
    return torch.tensor([known.get(token, known[UNKNOWN]) for token in tokens + padding])


def words_of(text: str, length: int) -> Tensor:
    """The word number (length,) of every token: each token is a word, and all padding is the last word."""
    return torch.arange(length).clamp(max=len(tokens_of(text, length)))


def present_words(text: str, length: int) -> Tensor:
    """Which of the positions (length,) hold a token of the text rather than padding."""
    return torch.arange(length) < len(tokens_of(text, length))


def word_vector_model(module: torch.nn.Module, length: int, classes: tuple[str, ...]) -> LoadedModel:
    """A network from word vectors (N, length, 100) to logits, as a model of texts."""
    vectors, known = published_weights()["embedding.weight"], vocabulary()
    wording = Wording(
        tokens=partial(tokens_of, length=length),
        words=partial(words_of, length=length),
        present=partial(present_words, length=length),
        fillers={"pad": vectors[known[PADDING]], "mask": vectors[known[UNKNOWN]]},
        length=lambda text: len(TOKEN.findall(text.lower())),
    )
    return LoadedModel(module, lambda text: vectors[word_numbers(text, length)], classes=classes, wording=wording)


class WordVectors(Sequence):
    """Texts as word vectors (n, length, 100), made when they are accessed by a slice or a tensor of places."""

    def __init__(self, texts: Sequence[str], length: int) -> None:
        self.vectors = published_weights()["embedding.weight"]
        self.numbers = torch.stack([word_numbers(text, length) for text in texts])

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, places: Any) -> Tensor:
        return self.vectors[self.numbers[places]]
