"""Classifiers of token ids, explained at their embedding layer.

Ids cannot be changed a little, and have no gradient; their embeddings can. The classifier runs on its ids as always,
with its attention mask and whatever else it takes, and the output of its embedding layer is replaced by the explained
embeddings. So everything that a model does with the ids stays as it is: pooling at the last real token (GPT-2, Llama),
positions counted without padding (RoBERTa, ESM), embeddings that the model scales.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import UserError, one_line

OUTPUT_TOLERANCE = 1e-4  # between outputs on ids and on embeddings, as a share of the largest output
IDS_NAME = "input_ids"  # Hugging Face's name of the ids in a model's signature


class EmbeddedTokens(nn.Module):
    """A classifier of token ids as a module from the embeddings of the tokens, with the ids carried along.

    ``module`` takes ids (N, T), as ``input_ids`` if its ``forward`` has this name and as its first argument if not, and
    everything else that is carried (``attention_mask``, ...) by name. ``embedding`` is the name of the layer
    that maps ids (N, T) to embeddings (N, T, D), such as ``bert.embeddings.word_embeddings``. Without it the layer is
    the only ``nn.Embedding`` that is called with the ids, found at the first call; UserError if several are or none is.

    A layer that is called with the ids several times has its output replaced each time; calls with other ids, such as
    positions, keep theirs. No hook stays on the module after a call.
    """

    wraps_a_users_module = True  # whose layers keep the names that the user knows

    def __init__(self, module: nn.Module, embedding: str | None = None) -> None:
        super().__init__()
        self.module, self.embedding = module, embedding
        self.train(module.training)
        parameters = inspect.signature(module.forward).parameters
        self.takes = tuple(parameters)
        self.takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
        if embedding is not None and embedding not in dict(module.named_modules()):
            names = [name for name, part in module.named_modules() if isinstance(part, nn.Embedding)]
            raise UserError(f"the model has no layer {embedding!r}; its embedding layers: {', '.join(names) or 'none'}")

    def forward(self, inputs: Tensor, ids: Tensor, **carried: Tensor) -> Any:
        """What the module returns for embeddings (N, T, D) in place of those of the ids (N, T)."""
        with _replaced(self.layer(ids, **carried), inputs, ids) as replaced:
            outputs = self.run(ids, **carried)
        if not replaced:
            raise UserError(f"layer {self.embedding!r} was not called with the ids, expected the one that embeds them")
        return outputs

    def run(self, ids: Tensor, **carried: Tensor) -> Any:
        """What the module itself returns for ids (N, T)."""
        unknown = next((name for name in carried if name not in self.takes and not self.takes_any), None)
        if unknown is not None:
            raise UserError(
                f"the model takes {', '.join(self.takes)}, and no {unknown!r}; name carried inputs as its forward does"
            )
        return self.module(**{IDS_NAME: ids}, **carried) if IDS_NAME in self.takes else self.module(ids, **carried)

    def layer(self, ids: Tensor, **carried: Tensor) -> nn.Module:
        """The layer that embeds the ids, found by one pass of the first sample if it is not known yet."""
        if self.embedding is None:
            first = {name: each[:1] for name, each in carried.items()}
            self.embedding = _only_embedding(self.module, ids[:1], lambda: self.run(ids[:1], **first))
        return self.module.get_submodule(self.embedding)

    def embeddings(self, ids: Tensor, **carried: Tensor) -> Tensor:
        """The clean embeddings (N, T, D) of ids (N, T): what the embedding layer gives, detached."""
        layer = self.layer(check_token_ids(ids), **carried)
        try:
            with torch.no_grad():
                embedded = layer(ids)
        except Exception as error:  # a layer of another kind can raise anything
            raise self._no_embedding(one_line(error)[:200]) from error
        if not isinstance(embedded, Tensor) or embedded.dim() != 3 or embedded.shape[:2] != ids.shape:
            raise self._no_embedding(f"{tuple(embedded.shape)}" if isinstance(embedded, Tensor) else "no tensor")
        return embedded.detach()

    def _no_embedding(self, came: str) -> UserError:
        return UserError(f"layer {self.embedding!r} gives for ids (N, T): {came}; expected embeddings (N, T, D)")


def check_embedded(
    model: EmbeddedTokens, ids: Tensor, present: Tensor, outputs_of: Callable[[Any], Tensor], **carried: Tensor
) -> None:
    """UserError unless the classifier depends on its ids only through their embeddings.

    Its outputs for the embeddings of the ids (N, T) must be those for the ids. With the same embeddings, other ids in
    the positions ``present`` (N, T), bool, must change nothing: otherwise the model reads ids by a second way, such as
    the decoder of an encoder-decoder, and a token would be half removed. ``outputs_of`` gives the tensor of outputs
    (N, ...) from what the module returns.
    """
    expected = _answer(lambda: outputs_of(model.run(ids, **carried)), ids)
    embedded = model.embeddings(ids, **carried)
    largest = OUTPUT_TOLERANCE * float(expected.abs().max()) + 1e-6
    off = float((_answer(lambda: outputs_of(model(embedded, ids, **carried)), ids) - expected).abs().max())
    if not off <= largest:
        raise UserError(
            f"the model gives other outputs on the embeddings of its ids than on the ids, off by {off:.1e}: "
            f"{model.embedding!r} is not the layer that maps ids (N, T) to the embeddings"
        )

    def off_by_exchanging(positions: Tensor) -> float:
        """How much the outputs change with other ids, and the same embeddings, in these positions."""
        others = _exchanged(ids, positions)
        with _replaced(model.layer(ids), embedded, others):
            return float((_answer(lambda: outputs_of(model.run(others, **carried)), ids) - expected).abs().max())

    off = off_by_exchanging(present)
    if not off <= largest:
        filling = _filling_id(ids)
        words = present & (ids != filling)
        if not words.equal(present) and words.any() and off_by_exchanging(words) <= largest:
            raise UserError(
                f"the model takes token {filling} for padding and computes a mask from it, and the data does not say "
                f"that it is no token of the text; expected harness.Data(..., special=({filling},))"
            )
        raise UserError(
            f"the model reads its ids by another way than {model.embedding!r} too (other ids with the same embeddings "
            f"change its outputs by {off:.1e}), so that its embeddings do not explain it"
        )


def present_tokens(ids: Tensor, attention_mask: Tensor | None, special: tuple[int, ...]) -> Tensor:
    """Which positions (N, T), bool, hold a token of the text: attended to, and not one of the ``special`` ids.

    ``attention_mask`` (N, T) is 0 at padding and 1 elsewhere; without it all positions count as attended to.
    """
    check_token_ids(ids)
    if attention_mask is not None and attention_mask.shape != ids.shape:
        raise UserError(
            f"attention_mask is {tuple(attention_mask.shape)}, expected one number for each of {tuple(ids.shape)} ids"
        )
    if attention_mask is not None and not ((attention_mask == 0) | (attention_mask == 1)).all():
        raise UserError("attention_mask holds other numbers than 0 (padding) and 1")
    attended = torch.ones_like(ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
    return attended & ~torch.isin(ids, torch.tensor(special, dtype=ids.dtype, device=ids.device))


def check_token_ids(ids: Any) -> Tensor:
    """The ids, if they are integers (N, T) with at least one sample and one token; else UserError."""
    whole = isinstance(ids, Tensor) and ids.dtype in (torch.int64, torch.int32)
    if not whole or ids.dim() != 2 or 0 in ids.shape:
        came = f"{ids.dtype} {tuple(ids.shape)}" if isinstance(ids, Tensor) else type(ids).__name__
        raise UserError(f"token ids are {came}, expected a tensor of integers (N, T), one row for each text")
    return ids


@contextmanager
def _replaced(layer: nn.Module, inputs: Tensor, ids: Tensor) -> Iterator[list[bool]]:
    """Inside, ``layer`` gives ``inputs`` (N, T, D) for ids (N, T), or both with time first; the list grows by each."""
    replaced: list[bool] = []

    def put_in(module: nn.Module, given: tuple, named: dict[str, Any], output: Tensor) -> Tensor | None:
        turned = _time_first([*given, *named.values()], ids)
        if turned is None:
            return None
        # A copy: the model may go on in place, and the inputs are somebody else's.
        own = (inputs.transpose(0, 1) if turned else inputs).clone().to(output.dtype)
        if own.shape != output.shape:
            raise UserError(
                f"embeddings are {tuple(own.shape)}, expected {tuple(output.shape)} as the layer gives them"
            )
        replaced.append(True)
        return own

    hook = layer.register_forward_hook(put_in, with_kwargs=True)
    try:
        yield replaced
    finally:
        hook.remove()


def _time_first(values: list[Any], ids: Tensor) -> bool | None:
    """Whether the ids among the values are transposed, (T, N), as some models want them; None if there are no ids."""
    for value in values:
        if isinstance(value, Tensor) and not value.is_floating_point() and value.dim() == 2:
            if value.shape == ids.shape and bool((value == ids).all()):
                return False
            if value.shape == ids.shape[::-1] and bool((value == ids.T).all()):
                return True
    return None


def _only_embedding(module: nn.Module, ids: Tensor, run: Callable[[], Any]) -> str:
    """The name of the only ``nn.Embedding`` that is called with the ids when the module runs."""
    met: list[str] = []
    with ExitStack() as hooks, torch.no_grad():
        for name, part in module.named_modules():
            if isinstance(part, nn.Embedding):
                note = lambda part, given, named, name=name: (
                    met.append(name) if _time_first([*given, *named.values()], ids) is not None else None
                )
                hooks.callback(part.register_forward_pre_hook(note, with_kwargs=True).remove)
        run()
    names = list(dict.fromkeys(met))
    if len(names) != 1:
        came = (
            f"{len(names)} layers embed the ids: {', '.join(names)}"
            if names
            else "no nn.Embedding is called with the ids"
        )
        raise UserError(f"{came}; name the one that maps ids (N, T) to embeddings (N, T, D): embedding='encoder.embed'")
    return names[0]


def _answer(call: Callable[[], Tensor], ids: Tensor) -> Tensor:
    """The outputs that a call gives, without gradients; UserError where the model raises an error."""
    try:
        with torch.no_grad():
            return call()
    except UserError:
        raise
    except Exception as error:  # somebody else's model can raise anything
        raise UserError(f"the model cannot be run on ids {tuple(ids.shape)}: {one_line(error)[:300]}") from error


def _filling_id(ids: Tensor) -> int:
    """The id in ids (N, T) with the longest run at the beginning or the end of a text, as padding has."""
    runs = torch.stack([(each == each[:, :1]).long().cumprod(1).sum(1) for each in (ids, ids.flip(1))], 1)
    row, end = divmod(int(runs.argmax()), 2)
    return int(ids[row, -1 if end else 0])


def _exchanged(ids: Tensor, present: Tensor) -> Tensor:
    """The ids with those at present positions moved on by one such position, from one text to the next too."""
    others = ids.clone()
    others[present] = ids[present].roll(1)
    return others
