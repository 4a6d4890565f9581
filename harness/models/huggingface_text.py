"""A Hugging Face classifier of texts as a function of word embeddings, with the tokens and words of each text."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import UserError, one_line
from harness.models.state import ready
from harness.sources import LoadedModel, Wording

TRIAL_TEXTS = "a", "a film is a film, and this one is good"  # one that is mostly padding, one of several words
LOGIT_TOLERANCE = 1e-3  # between logits on token ids and on their embeddings, as a share of the largest logit


class TextLogits(nn.Module):
    """A classifier of texts as a module from word embeddings (N, T, D) to logits.

    No position attends to one whose embedding is exactly that of the padding token, unless all of a text are such.
    """

    def __init__(self, model: nn.Module, padding: Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("padding", padding)

    def forward(self, inputs: Tensor) -> Tensor:
        """The logits (N, classes) of word embeddings (N, T, D)."""
        filled = (inputs.detach() != self.padding).any(2)
        attended = filled | ~filled.any(1, keepdim=True)
        return self.model(inputs_embeds=inputs, attention_mask=attended.long()).logits


@dataclass(frozen=True)
class EmbeddingReader:
    """A tokenizer with the model's word embeddings, which turns a text into T tokens, words and embeddings."""

    tokenizer: Any
    embedding: nn.Module
    length: int

    def encoded(self, text: Any) -> Any:
        """The tokenizer's encoding of a text, padded or cut to T tokens."""
        if not isinstance(text, str):
            raise UserError(f"the item is a {type(text).__name__}, expected a text")
        return self.tokenizer(
            text, padding="max_length", truncation=True, max_length=self.length, return_offsets_mapping=True
        )

    def __call__(self, text: Any) -> Tensor:
        """The embeddings (T, D) of a text's tokens."""
        return self.of(self.encoded(text)["input_ids"])

    def of(self, ids: Sequence[int]) -> Tensor:
        """The embeddings of token ids."""
        with torch.no_grad():
            return self.embedding(torch.tensor(ids))

    def tokens(self, text: Any) -> list[str]:
        """The part of the text that each token stands for, or the name of a special token; without padding."""
        encoded = self.encoded(text)
        rows = zip(encoded.tokens(), encoded["offset_mapping"], encoded["attention_mask"], strict=True)
        return [text[start:end].strip() or name for name, (start, end), present in rows if present]

    def present(self, text: Any) -> Tensor:
        """Which of the T positions hold a token of the text (T,), rather than a special token or padding."""
        return torch.tensor([number is not None for number in self.encoded(text).word_ids()])

    def whole_length(self, text: Any) -> int:
        """The number of tokens of a text before it is cut, special tokens included."""
        cut = self.encoded(text).encodings[0]
        return int(sum(cut.attention_mask)) + sum(_own_tokens(rest) for rest in cut.overflowing)

    def words(self, text: Any) -> Tensor:
        """The number (T,) of each token's word; special tokens and padding are one last word."""
        numbers = self.encoded(text).word_ids()
        places = {word: place for place, word in enumerate(dict.fromkeys(n for n in numbers if n is not None))}
        return torch.tensor([places.get(number, len(places)) for number in numbers])


def _own_tokens(piece: Any) -> int:
    """The tokens of a piece of a text without padding and special tokens, which every piece has again."""
    marks = zip(piece.attention_mask, piece.special_tokens_mask, strict=True)
    return sum(present and not special for present, special in marks)


def text_classifier(
    model: nn.Module, tokenizer: Any, length: int, classes: tuple[str, ...], source: str
) -> LoadedModel:
    """The classifier on word embeddings; UserError where the tokenizer or the model does not allow this."""
    _check_tokenizer(tokenizer, source)
    _check_text_length(length, getattr(model.config, "max_position_embeddings", None))
    # The reader has a copy of the embeddings: it works on the CPU, and a metric may change those of the model.
    reader = EmbeddingReader(tokenizer, copy.deepcopy(model.get_input_embeddings()).requires_grad_(False), length)
    marks = {"pad": tokenizer.pad_token_id, "mask": tokenizer.mask_token_id}
    fillers = {name: reader.of([number])[0] for name, number in marks.items() if number is not None}
    module = ready(TextLogits(model, fillers["pad"].clone()))
    _check_outputs(module, reader, source)
    wording = Wording(reader.tokens, reader.words, reader.present, fillers, reader.whole_length)
    return LoadedModel(module, reader, None, classes, wording)


def _check_tokenizer(tokenizer: Any, source: str) -> None:
    if not tokenizer.is_fast:
        raise UserError(
            f"the tokenizer of {source} does not tell which word a token belongs to; expected a tokenizer.json"
        )
    if tokenizer.pad_token_id is None:
        raise UserError(f"the tokenizer of {source} has no padding token, expected one: texts differ in length")
    tokenizer.padding_side = tokenizer.truncation_side = "right"


def _check_text_length(length: int, most: int | None) -> None:
    if length < 3 or (most is not None and length > most):
        raise UserError(f"length is {length}, expected a number of tokens from 3 to {most or 'any'}")


def _check_outputs(module: TextLogits, reader: EmbeddingReader, source: str) -> None:
    """UserError where the logits on embeddings differ from those on token ids: some models use the ids themselves."""
    encoded = [reader.encoded(text) for text in TRIAL_TEXTS]
    ids, mask = (torch.tensor([each[name] for each in encoded]) for name in ("input_ids", "attention_mask"))
    try:
        with torch.no_grad():
            expected = module.model(input_ids=ids, attention_mask=mask).logits
            outputs = module(torch.stack([reader(text) for text in TRIAL_TEXTS]))
    except Exception as error:  # models without support for embeddings can raise anything
        raise UserError(f"{source} cannot be run on word embeddings: {one_line(error)[:200]}") from error
    off = float((outputs - expected).abs().max())
    if not off <= LOGIT_TOLERANCE * float(expected.abs().max()) + 1e-6:
        raise UserError(
            f"{source} gives other logits on word embeddings than on token ids, off by {off:.1e}: it uses the ids "
            "themselves, or its padding token has the embedding of another token"
        )
