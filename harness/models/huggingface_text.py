"""A Hugging Face classifier of texts, explained at its word embeddings, with the tokens and words of each text."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import UserError
from harness.models.state import ready
from harness.models.token_ids import EmbeddedTokens, check_embedded
from harness.sources import LoadedModel, Wording

TRIAL_TEXTS = "a", "a film is a film, and this one is good"  # one that is mostly padding, one of several words
LOGIT_TOLERANCE = 1e-3  # between logits with and without padding, as a share of the largest logit


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

    def carried(self, text: Any) -> Mapping[str, Tensor]:
        """The ids (T,) and the attention mask (T,) of a text; ValueError for a text without a token."""
        encoded = self.encoded(text)
        if not self.present(text).any():
            raise ValueError("the text has no token, expected at least one word")
        return {"ids": torch.tensor(encoded["input_ids"]), "attention_mask": torch.tensor(encoded["attention_mask"])}

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
    marks = _checked_marks(tokenizer, source)
    _check_text_length(length, getattr(model.config, "max_position_embeddings", None))
    if getattr(model.config, "pad_token_id", None) is None:
        model.config.pad_token_id = tokenizer.pad_token_id  # without one, models refuse several texts at a time
    # The reader has a copy of the embeddings: it works on the CPU, and a metric may change those of the model.
    layer = model.get_input_embeddings()
    reader = EmbeddingReader(tokenizer, copy.deepcopy(layer).requires_grad_(False), length)
    name = next(name for name, part in model.named_modules() if part is layer)
    module = ready(EmbeddedTokens(model, name))
    _check_outputs(module, reader, source)
    fillers = {name: reader.of([number])[0] for name, number in marks.items()}
    wording = Wording(reader.tokens, reader.words, reader.present, fillers, reader.whole_length, reader.carried)
    return LoadedModel(module, reader, None, classes, wording)


def _checked_marks(tokenizer: Any, source: str) -> dict[str, int]:
    """The ids of the tokens that can replace a removed one; from now on the tokenizer pads, at the end of a text.

    A tokenizer without a padding token pads with its end token, as is usual, which attention leaves out.
    """
    if not tokenizer.is_fast:
        raise UserError(
            f"the tokenizer of {source} does not tell which word a token belongs to; expected a tokenizer.json"
        )
    marks = {"pad": tokenizer.pad_token_id, "mask": tokenizer.mask_token_id}
    if marks["pad"] is None and tokenizer.eos_token_id is None:
        raise UserError(f"the tokenizer of {source} has no padding token, expected one: texts differ in length")
    if marks["pad"] is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    return {name: number for name, number in marks.items() if number is not None}


def _check_text_length(length: int, most: int | None) -> None:
    if most is not None and length > most:
        raise UserError(f"length is {length}, expected at most {most} tokens, as many as the model takes")


def _check_outputs(module: EmbeddedTokens, reader: EmbeddingReader, source: str) -> None:
    """UserError where logits on embeddings are not those on ids, or where padding changes them."""
    texts = [reader.carried(text) for text in TRIAL_TEXTS]
    ids, mask = (torch.stack([text[name] for text in texts]) for name in ("ids", "attention_mask"))
    present = torch.stack([reader.present(text) for text in TRIAL_TEXTS])
    logits = lambda outputs: outputs.logits
    check_embedded(module, ids, present, logits, attention_mask=mask)
    with torch.no_grad():
        padded = logits(module.run(ids, attention_mask=mask))
        for row, count in enumerate(mask.sum(1).tolist()):
            alone = logits(module.run(ids[row : row + 1, :count], attention_mask=mask[row : row + 1, :count]))
            off = float((alone[0] - padded[row]).abs().max())
            if not off <= LOGIT_TOLERANCE * float(alone.abs().max()) + 1e-6:
                raise UserError(
                    f"{source} gives other logits for a text that is padded to {reader.length} tokens, off by "
                    f"{off:.1e}; the padding token of its tokenizer has id {reader.tokenizer.pad_token_id}, that of "
                    f"its configuration {module.module.config.pad_token_id}"
                )
