"""Classifiers of token ids, explained at their embeddings: the same function, for every way in which models use ids."""

import pytest
import torch
from torch import nn

import harness
from architectures import ARCHITECTURES, END, LENGTH, PAD, START, WORDS, texts
from harness.errors import UserError
from harness.models.token_ids import EmbeddedTokens, check_embedded, check_token_ids, present_tokens

LANGUAGE = ("BERT", "GPT-2", "Llama", "Gemma", "ESM")
SPECIAL = (PAD, START, END)
EVERY = pytest.mark.parametrize("name", LANGUAGE)


def logits_of(outputs):
    return getattr(outputs, "logits", outputs)


def hooks_of(module):
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


class Toy(nn.Module):
    """A classifier of token ids (N, T) with an embedding layer, of which every test has its own kind."""

    def __init__(self, width=4):
        super().__init__()
        self.embed, self.place, self.out = nn.Embedding(WORDS, width), nn.Embedding(32, width), nn.Linear(width, 3)
        self.eval().requires_grad_(False)

    def embedded(self, ids):
        return self.embed(ids) + self.place(torch.arange(ids.shape[1]))

    def forward(self, ids):
        return self.out(self.embedded(ids).tanh().mean(1))


@EVERY
def test_the_clean_embeddings_give_the_outputs_of_the_ids(name):
    made = ARCHITECTURES[name]()
    model, ids, mask = made.module, made.carried["ids"], made.carried["attention_mask"]
    expected = model.module(input_ids=ids, attention_mask=mask).logits
    assert torch.equal(model(made.inputs, ids=ids, attention_mask=mask).logits, expected)
    check_embedded(model, ids, present_tokens(ids, mask, SPECIAL), logits_of, attention_mask=mask)


@EVERY
def test_other_embeddings_give_the_outputs_of_their_tokens(name):
    """A token that is replaced by another one's embedding counts as that one."""
    made = ARCHITECTURES[name]()
    model, ids, mask = made.module, made.carried["ids"], made.carried["attention_mask"]
    others = torch.where(present_tokens(ids, mask, SPECIAL), (ids + 3) % 30 + 5, ids)
    expected = model.module(input_ids=others, attention_mask=mask).logits
    outputs = model(model.embeddings(others), ids=ids, attention_mask=mask).logits
    assert torch.allclose(outputs, expected, atol=1e-5) and not torch.allclose(
        expected, logits_of(model.run(ids, attention_mask=mask))
    )


@EVERY
def test_rows_come_in_any_number_and_order(name):
    made = ARCHITECTURES[name]()
    together, rows = logits_of(made.module(made.inputs, **made.carried)), torch.tensor([2, 2, 0, 1, 0, 2, 1])
    carried = {key: each[rows] for key, each in made.carried.items()}
    assert torch.allclose(logits_of(made.module(made.inputs[rows], **carried)), together[rows], atol=1e-5)


@EVERY
def test_padding_changes_no_output(name):
    made = ARCHITECTURES[name]()
    model, ids, mask = made.module, made.carried["ids"], made.carried["attention_mask"]
    together = logits_of(model(made.inputs, **made.carried))
    for row, length in enumerate(mask.sum(1)):
        alone = {"ids": ids[row : row + 1, :length], "attention_mask": mask[row : row + 1, :length]}
        assert torch.allclose(logits_of(model(model.embeddings(**alone), **alone))[0], together[row], atol=1e-4)


@pytest.mark.parametrize("name", ["GPT-2", "Llama", "Gemma"])
def test_models_that_read_the_last_token_read_the_last_one_that_is_no_padding(name):
    """The gradient reaches the end token and, as attention looks back, every token before it, but no padding."""
    made = ARCHITECTURES[name]()
    inputs, mask = made.inputs.clone().requires_grad_(), made.carried["attention_mask"]
    logits_of(made.module(inputs, **made.carried))[:, 0].sum().backward()
    assert torch.equal(inputs.grad.abs().sum(2) > 0, mask.bool())


@pytest.mark.parametrize("name", ["BERT", "ESM"])
def test_the_gradient_is_that_of_the_model_on_embeddings(name):
    """Hugging Face's own way, ``inputs_embeds``, has the same gradient where a model needs no ids."""
    made = ARCHITECTURES[name]()
    module, mask = made.module.module, made.carried["attention_mask"]
    if name == "ESM":
        module.esm.embeddings.token_dropout = False
    slopes = []
    for run in (
        lambda x: made.module(x, **made.carried),
        lambda x: module(inputs_embeds=x, attention_mask=mask, **({} if name == "BERT" else {"position_ids": None})),
    ):
        inputs = made.inputs.clone().requires_grad_()
        slopes.append(torch.autograd.grad(run(inputs).logits[:, 1].sum(), inputs)[0])
    assert torch.allclose(*slopes, atol=1e-5) and slopes[0].abs().sum() > 0


class TimeFirst(Toy):
    """An LSTM that wants ids (T, N)."""

    def __init__(self):
        super().__init__()
        self.states = nn.LSTM(4, 4)

    def forward(self, ids):
        return self.out(self.states(self.embed(ids.T))[0][-1])


class InPlace(Toy):
    """Adds positions to its embeddings in place."""

    def forward(self, ids):
        x = self.embed(ids)
        x += self.place(torch.arange(ids.shape[1]))
        return self.out(x.mean(1))


class Scaled(nn.Embedding):
    """An embedding layer that scales, as in M2M100 and Gemma."""

    def forward(self, ids):
        return super().forward(ids) * 7.0


class ScalesInside(Toy):
    def __init__(self):
        super().__init__()
        self.embed = Scaled(WORDS, 4)


class ScalesAfter(Toy):
    def embedded(self, ids):
        return 7.0 * self.embed(ids)


class Twice(Toy):
    """The same layer serves twice."""

    def forward(self, ids):
        return self.out((self.embed(ids).tanh() * self.embed(ids)).mean(1))


class Tied(Toy):
    """Its head is its embedding matrix."""

    def forward(self, ids):
        return self.embedded(ids).tanh().mean(1) @ self.embed.weight[:3].T


class WithLengths(Toy):
    """Takes lengths beside ids, by a name of its own."""

    def forward(self, tokens, lengths):
        counted = torch.arange(tokens.shape[1]) < lengths[:, None]
        return self.out((self.embed(tokens) * counted[..., None]).sum(1) / lengths[:, None])


class Prompts(Toy):
    """Embeds candidate texts of its own with the same layer."""

    def forward(self, ids):
        own = self.embed(torch.tensor([[7, 8, 9], [4, 5, 6], [1, 2, 3]])).mean(1)
        return self.embedded(ids).mean(1) @ own.T


class HalfPrecision(Toy):
    def forward(self, ids):
        return super().forward(ids).float()


KINDS = {kind.__name__: kind for kind in (Toy, TimeFirst, InPlace, ScalesInside, ScalesAfter, Twice, Tied, Prompts)}


@pytest.mark.parametrize("count", [1, 3, LENGTH])
@pytest.mark.parametrize("kind", KINDS)
def test_every_use_of_an_embedding_layer_keeps_its_function(kind, count):
    module, ids = KINDS[kind]().eval(), torch.randint(5, WORDS, (count, LENGTH))
    others = torch.randint(5, WORDS, (count, LENGTH))
    model = EmbeddedTokens(module)
    clean, moved = model.embeddings(ids), model.embeddings(others)
    assert model.embedding == "embed"
    assert torch.allclose(model(clean, ids=ids), module(ids), atol=1e-6)
    assert torch.allclose(model(moved, ids=ids), module(others), atol=1e-6)
    check_embedded(model, ids, torch.ones_like(ids, dtype=torch.bool), logits_of)
    slope = torch.func.vjp(lambda x: model(x, ids=ids), clean)[1](torch.ones(count, 3))[0]
    step = 1e-2 * slope / slope.norm()
    rise = (model(clean + step, ids=ids) - model(clean - step, ids=ids)).sum().item() / 2
    assert rise == pytest.approx((slope * step).sum().item(), rel=0.02)


def test_carried_inputs_go_by_their_names():
    module, (ids, mask) = WithLengths(), texts()
    model, lengths = EmbeddedTokens(module), mask.sum(1)
    assert torch.equal(model(model.embeddings(ids, lengths=lengths), ids=ids, lengths=lengths), module(ids, lengths))
    with pytest.raises(UserError, match="the model takes tokens, lengths, and no 'attention_mask'"):
        model(model.embeddings(ids, lengths=lengths), ids=ids, attention_mask=mask)


def test_the_inputs_stay_as_they_are():
    ids = torch.randint(WORDS, (2, LENGTH))
    model = EmbeddedTokens(InPlace())
    inputs = model.embeddings(ids)
    before = inputs.clone()
    model(inputs, ids=ids)
    assert torch.equal(inputs, before)


def test_no_hook_stays_on_the_module_even_after_an_error():
    module, ids = Toy(), torch.randint(WORDS, (2, LENGTH))
    model = EmbeddedTokens(module)
    model(model.embeddings(ids), ids=ids)
    assert hooks_of(module) == 0
    module.out = nn.Linear(5, 3)
    with pytest.raises(RuntimeError):
        model(model.embeddings(ids), ids=ids)
    assert hooks_of(module) == 0
    with pytest.raises(RuntimeError):
        EmbeddedTokens(module).embeddings(ids)
    assert hooks_of(module) == 0


def test_embeddings_take_the_precision_of_the_layer():
    module, ids = HalfPrecision().bfloat16(), torch.randint(WORDS, (2, LENGTH))
    model = EmbeddedTokens(module)
    assert torch.equal(model(model.embeddings(ids).float(), ids=ids), module(ids))


def test_embeddings_of_another_shape_are_refused():
    ids = torch.randint(WORDS, (2, LENGTH))
    with pytest.raises(UserError, match=r"embeddings are \(2, 9, 5\), expected \(2, 9, 4\)"):
        EmbeddedTokens(Toy())(torch.rand(2, LENGTH, 5), ids=ids)


class TwoTables(Toy):
    """Sums the embeddings of two layers, as hashed embeddings do."""

    def __init__(self):
        super().__init__()
        self.second = nn.Embedding(WORDS, 4)

    def embedded(self, ids):
        return self.embed(ids) + self.second(ids)


class Cuts(Toy):
    def forward(self, ids):
        return super().forward(ids[:, :4])


def test_a_layer_is_found_only_where_it_is_certain():
    ids = torch.randint(WORDS, (2, LENGTH))
    with pytest.raises(UserError, match="2 layers embed the ids: embed, second; name the one.*embedding="):
        EmbeddedTokens(TwoTables()).embeddings(ids)
    with pytest.raises(UserError, match="no nn.Embedding is called with the ids; name the one"):
        EmbeddedTokens(Cuts()).embeddings(ids)
    with pytest.raises(UserError, match="no layer 'embd'; its embedding layers: embed, place"):
        EmbeddedTokens(Toy(), "embd")


def test_a_named_layer_may_be_any_that_embeds_the_ids():
    made = ARCHITECTURES["BERT"]()
    model = EmbeddedTokens(made.module.module, "bert.embeddings")  # with positions and the norm
    ids, mask = made.carried["ids"], made.carried["attention_mask"]
    check_embedded(model, ids, present_tokens(ids, mask, SPECIAL), logits_of, attention_mask=mask)
    assert not torch.allclose(model.embeddings(ids), made.inputs)


class CountsCharacters(Toy):
    """Uses the ids beside their embeddings."""

    def forward(self, ids):
        return super().forward(ids) + (ids * torch.arange(ids.shape[1])).float().mean(1, keepdim=True)


class EncoderDecoder(Toy):
    """Its decoder embeds the ids moved on by one place, with the same matrix in a layer of its own, as BART's does."""

    def __init__(self):
        super().__init__()
        self.decoder = nn.Embedding(WORDS, 4)
        self.decoder.weight = self.embed.weight

    def forward(self, ids):
        return self.out((self.embedded(ids).mean(1) + self.decoder(ids.roll(1, 1)).tanh()[:, -1]).tanh())


def test_a_model_that_reads_its_ids_in_a_second_way_is_refused():
    ids = torch.randint(5, WORDS, (3, LENGTH))
    real = torch.ones_like(ids, dtype=torch.bool)
    for model in (
        EmbeddedTokens(EncoderDecoder()),
        EmbeddedTokens(TwoTables(), "second"),
        EmbeddedTokens(CountsCharacters()),
    ):
        with pytest.raises(UserError, match="reads its ids by another way than '(embed|second)' too"):
            check_embedded(model, ids, real, logits_of)


def test_bart_whose_decoder_reads_the_ids_again_is_refused():
    from transformers import BartConfig, BartForSequenceClassification

    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    marks = {"pad_token_id": PAD, "bos_token_id": START, "eos_token_id": END, "init_std": 0.3}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 32}
    module = BartForSequenceClassification(BartConfig(vocab_size=WORDS, num_labels=4, **sizes, **marks, **heads))
    ids, mask = texts()
    model = EmbeddedTokens(module.eval())
    with pytest.raises(UserError, match="reads its ids by another way than 'model.encoder.embed_tokens' too"):
        check_embedded(model, ids, present_tokens(ids, mask, SPECIAL), logits_of, attention_mask=mask)


def test_a_layer_that_does_not_embed_the_ids_is_refused():
    ids = torch.randint(5, 30, (3, LENGTH))
    with pytest.raises(UserError, match="layer 'place' was not called with the ids"):
        check_embedded(EmbeddedTokens(Toy(), "place"), ids, torch.ones_like(ids, dtype=torch.bool), logits_of)
    with pytest.raises(UserError, match="layer 'out' gives for ids .*dtype.*expected embeddings"):
        check_embedded(EmbeddedTokens(Toy(), "out"), ids, torch.ones_like(ids, dtype=torch.bool), logits_of)


def test_a_model_that_cannot_take_the_ids_is_told_in_one_line():
    from transformers import GPT2Config, GPT2ForSequenceClassification

    module = GPT2ForSequenceClassification(GPT2Config(vocab_size=WORDS, n_embd=8, n_layer=1, n_head=1)).eval()
    ids, mask = texts()
    with pytest.raises(UserError, match="cannot be run on ids .* no padding token is defined") as caught:
        check_embedded(EmbeddedTokens(module), ids, mask.bool(), logits_of, attention_mask=mask)
    assert "\n" not in str(caught.value)


def test_real_tokens_are_attended_to_and_not_special():
    ids, mask = texts()
    real = present_tokens(ids, mask, SPECIAL)
    assert real.sum(1).tolist() == [LENGTH - 2, 4, 2] and not real[:, 0].any()
    assert torch.equal(present_tokens(ids, None, SPECIAL), real)
    assert torch.equal(present_tokens(ids, mask, ()), mask.bool())


NO_IDS = {
    "floats": (torch.rand(2, 3), "float32"),
    "one text": (torch.tensor([1, 2]), r"int64 \(2,\)"),
    "an axis too many": (torch.zeros(2, 3, 1, dtype=torch.long), r"\(2, 3, 1\)"),
    "no token": (torch.zeros(2, 0, dtype=torch.long), r"\(2, 0\)"),
    "lists": ([[1, 2]], "list"),
    "a mask": (torch.ones(2, 3, dtype=torch.bool), "bool"),
}


@pytest.mark.parametrize("what", NO_IDS)
def test_what_are_no_ids_is_refused_in_one_line(what):
    ids, words = NO_IDS[what]
    with pytest.raises(UserError, match=f"token ids are .*{words}.*expected a tensor of integers"):
        check_token_ids(ids)


def test_masks_that_are_none_are_refused():
    ids, mask = texts()
    with pytest.raises(UserError, match=r"attention_mask is \(3, 1, 1, 9\)"):
        present_tokens(ids, mask[:, None, None], SPECIAL)
    with pytest.raises(UserError, match="other numbers than 0"):
        present_tokens(ids, torch.where(mask == 1, 0, -10_000), SPECIAL)


class Embedded(nn.Module):
    """Classes from the mean embedding, with an embedding layer that may know its padding."""

    def __init__(self, padding):
        super().__init__()
        self.embed, self.out = nn.Embedding(10, 4, padding_idx=padding), nn.Linear(4, 2)
        self.eval()

    def forward(self, ids):
        return self.out(self.embed(ids).tanh().sum(1))


def test_padding_that_only_the_embedding_layer_names_is_no_unit_and_that_none_is_known_is_said():
    ids = torch.tensor([[3, 7, 5, 9], [6, 3, 0, 0]])
    with pytest.warns(UserWarning, match="no units, as the model names them: pad 0"):
        maps = harness.explain("occlusion", Embedded(0), harness.Data(ids, [0, 1]))
    assert torch.equal(maps[:, :, 0] != 0, ids > 0)
    with pytest.warns(UserWarning, match="no special tokens are known, so that each token is a unit"):
        maps = harness.explain("occlusion", Embedded(None), harness.Data(ids, [0, 1]))
    assert (maps != 0).all()
