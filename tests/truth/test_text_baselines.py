"""What a removed token becomes: padding, the mask token, or nothing, the others closing ranks."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import harness
from axes import told
from harness.api import make_batch
from harness.engine.explain import Explaining
from harness.engine.score import score_batch
from harness.errors import NotApplicable, UserError
from harness.predictor import Predictor
from harness.registry import EXPLAINERS, METRICS
from harness.removal.baselines import make_baseline
from harness.removal.infilling import infill
from harness.samples import Samples
from harness.units import Units

TOKENS, SIZE = 7, 4

pytestmark = pytest.mark.usefixtures("seed")


class Bag(nn.Module):
    """The sum over tokens of weights times the embedding: a token contributes the same wherever it stands."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(SIZE))

    def forward(self, tokens):
        return torch.stack([(tokens @ self.weight).sum(1), -(tokens @ self.weight).sum(1)], 1)


class Places(nn.Module):
    """The sum over places t of (t + 1) times the first number of the token that stands there."""

    def forward(self, tokens):
        total = (tokens[..., 0] * torch.arange(1, tokens.shape[1] + 1)).sum(1)
        return torch.stack([total, -total], 1)


def texts(model, lengths=(7, 4, 1), fillers=("pad", "mask"), elements=False):
    """Texts of these lengths; padding is zero, as the bag needs it, and the mask token is not."""
    inputs = torch.randn(len(lengths), TOKENS, SIZE)
    places = torch.arange(TOKENS)
    words = torch.stack([places.clamp(max=length) for length in lengths])
    for text, length in zip(inputs, lengths, strict=True):
        text[length:] = 0
    named = {"pad": torch.zeros(SIZE), "mask": torch.randn(SIZE)}
    return Samples(
        inputs,
        torch.zeros(len(lengths), dtype=torch.long),
        Predictor(model.eval().requires_grad_(False), chunk=64),
        units=Units.of(inputs, "tokens", elements=elements),
        given_segments=words,
        fillers={name: named[name] for name in fillers},
    )


def random_keeps(samples, count=20):
    """Rows of samples, and for each which tokens stay."""
    sample = torch.arange(len(samples)).repeat_interleave(count)
    return sample, torch.rand(len(sample), TOKENS) < 0.5


def by_hand(text, kept):
    left = [token for token, stays in zip(text, kept, strict=True) if stays]
    return torch.stack(left + [torch.zeros(SIZE)] * (len(text) - len(left)))


def explained(name, samples, **options):
    explaining = Explaining(EXPLAINERS[name], EXPLAINERS[name].complete(options), samples.predictor.module)
    explaining.prepare(samples)
    return samples.units.reduce(explaining(samples))


def scored(name, samples, attributions, **options):
    entry = METRICS[name]
    return score_batch(entry, entry.complete(options), make_batch(samples, attributions, None, "sum")).values


@pytest.mark.parametrize("name", ["pad", "mask"])
def test_a_removed_token_becomes_the_models_own_and_the_others_stay_where_they_are(name):
    samples = texts(Bag())
    sample, kept = random_keeps(samples)
    found = samples.remover(name)(sample, kept)
    for text, row, stays in zip(found, sample, kept, strict=True):
        assert torch.equal(text[stays], samples.inputs[row][stays])
        assert torch.equal(text[~stays], samples.fillers[name].expand(int((~stays).sum()), -1))


def test_dropped_tokens_vanish_the_rest_close_ranks_and_padding_fills_the_end():
    samples = texts(Bag())
    sample, kept = random_keeps(samples)
    found = samples.remover("drop")(sample, kept)
    for text, row, stays in zip(found, sample, kept, strict=True):
        assert torch.equal(text, by_hand(samples.inputs[row], stays))


@pytest.mark.parametrize("name", ["pad", "drop"])
def test_with_nothing_kept_all_is_padding_and_with_all_kept_nothing_has_changed(name):
    samples = texts(Bag())
    rows, remove = torch.arange(3), samples.remover(name)
    assert not remove(rows, torch.zeros(3, TOKENS, dtype=torch.bool)).any()
    assert torch.equal(remove(rows, torch.ones(3, TOKENS, dtype=torch.bool)), samples.inputs)


def test_padding_that_is_not_zero_fills_the_end_too():
    samples = texts(Bag())
    samples = replace(samples, fillers={"pad": torch.arange(1.0, SIZE + 1)})
    found = samples.remover("drop")(torch.tensor([0]), torch.tensor([[False, True, True, False, True, True, True]]))
    assert torch.equal(found[0, 5:], torch.arange(1.0, SIZE + 1).expand(2, -1))


def test_where_order_does_not_matter_dropping_is_padding():
    samples = texts(Bag())
    sample, kept = random_keeps(samples)
    dropped, padded = (samples.predictor.module(samples.remover(name)(sample, kept)) for name in ("drop", "pad"))
    torch.testing.assert_close(dropped, padded, rtol=1e-5, atol=1e-5)


def test_where_order_matters_they_differ_by_what_the_moved_tokens_gain_or_lose():
    samples = texts(Places(), lengths=(7,))
    for gone in range(TOKENS):
        kept = (torch.arange(TOKENS) != gone)[None]
        dropped, padded = (
            samples.predictor.module(samples.remover(name)(torch.tensor([0]), kept))[0, 0] for name in ("drop", "pad")
        )
        moved = samples.inputs[0, gone + 1 :, 0].sum()  # each stands one place earlier
        torch.testing.assert_close(padded - dropped, moved, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("baseline", ["pad", "drop"])
@pytest.mark.parametrize("name", ["occlusion", "feature_ablation", "shapley_sampling", "kernel_shap"])
def test_explainers_that_remove_words_find_what_each_contributes(name, baseline):
    samples = texts(Bag())
    options = {"window": 1, "stride": 1} if name == "occlusion" else {"segments": "given"}
    found = explained(name, samples, baseline=baseline, **options)
    torch.testing.assert_close(found, samples.inputs @ samples.predictor.module.weight, rtol=1e-3, atol=1e-4)


def test_ablation_by_dropping_counts_what_moves():
    samples = texts(Places(), lengths=(7,))
    first = samples.inputs[0, :, 0]
    own = first * torch.arange(1, TOKENS + 1)
    moved = torch.stack([first[place + 1 :].sum() for place in range(TOKENS)])
    found = explained("feature_ablation", samples, baseline="drop", segments="given")
    torch.testing.assert_close(found[0], own + moved, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["integrated_gradients", "deep_lift"])
def test_explainers_that_need_one_input_take_padding_as_their_baseline(name):
    samples = texts(Bag())
    found = explained(name, samples, baseline="pad")
    torch.testing.assert_close(found, samples.inputs @ samples.predictor.module.weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("metric", ["sensitivity_n", "faithfulness_correlation", "single_deletion"])
@pytest.mark.parametrize("baseline", ["pad", "drop"])
def test_true_contributions_are_perfectly_faithful_word_by_word(metric, baseline):
    samples = texts(Bag(), lengths=(7, 5))
    options = {"segments": "given", "baseline": baseline, "score": "logit"}
    options |= {} if metric == "single_deletion" else {"granularity": "segment"}
    found = scored(metric, samples, samples.inputs * samples.predictor.module.weight, **options)
    torch.testing.assert_close(found.float(), torch.ones(2), rtol=1e-3, atol=1e-3)


def test_deletion_by_dropping_follows_the_model_on_the_shortened_texts():
    samples = texts(Places(), lengths=(7,))
    attributions = torch.randn(1, TOKENS, 1).expand(-1, -1, SIZE)
    order = attributions[0, :, 0].argsort(descending=True)
    entry = METRICS["deletion"]
    options = entry.complete({"granularity": "segment", "segments": "given", "baseline": "drop", "score": "logit"})
    curve = score_batch(entry, options, make_batch(samples, attributions, None, "sum")).curves[0]
    expected = []
    for gone in range(TOKENS + 1):
        kept = torch.ones(TOKENS, dtype=torch.bool)
        kept[order[:gone]] = False
        expected.append(samples.predictor.module(by_hand(samples.inputs[0], kept)[None])[0, 0])
    torch.testing.assert_close(curve[[0, -1]].float(), torch.stack([expected[0], expected[-1]]), rtol=1e-4, atol=1e-4)
    assert all((curve.float() - value).abs().min() < 1e-3 for value in expected)


def test_weights_between_keeping_and_removing_mix_with_padding_and_let_gradients_flow():
    samples = texts(Bag())
    weights = torch.rand(3, TOKENS).requires_grad_()
    mixed = samples.remover("pad")(torch.arange(3), weights)
    torch.testing.assert_close(mixed, samples.inputs * weights[..., None])
    samples.predictor.module(mixed)[:, 0].sum().backward()
    torch.testing.assert_close(weights.grad, samples.inputs @ samples.predictor.module.weight)


def test_gradients_flow_through_what_is_dropped_to_the_tokens_that_stay():
    samples = texts(Places(), lengths=(7,))
    samples.inputs.requires_grad_()
    kept = torch.tensor([[True, False, True, True, False, False, True]])
    samples.predictor.module(samples.remover("drop")(torch.tensor([0]), kept))[:, 0].sum().backward()
    assert samples.inputs.grad[0, :, 0].tolist() == [1, 0, 2, 3, 0, 0, 4]


def test_words_are_the_automatic_segments_of_texts_and_padding_is_one():
    samples = texts(Bag())
    found = samples.segments("auto")
    assert torch.equal(found.labels, samples.given_segments) and found.counts.tolist() == [7, 5, 2]


def test_tokens_without_words_and_images_keep_their_automatic_segments():
    without = replace(texts(Bag()), given_segments=None, memo={})
    assert without.segments("auto").counts.tolist() == [TOKENS] * 3
    images = torch.randn(2, 1, 3, 3)
    given = Samples(
        images,
        torch.zeros(2, dtype=torch.long),
        None,
        units=Units.of(images),
        given_segments=torch.zeros(2, 3, 3, dtype=torch.long),
    )
    assert given.segments("auto").counts.tolist() == [9, 9]


def refusal(act):
    with pytest.raises(NotApplicable) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["pad", "mask", "drop"])
def test_images_have_no_padding(name):
    images = torch.randn(2, 1, 3, 3)
    samples = Samples(images, torch.zeros(2, dtype=torch.long), None, units=Units.of(images))
    kept = torch.ones(2, 3, 3, dtype=torch.bool)
    assert "needs tokens" in refusal(lambda: samples.remover(name)(torch.arange(2), kept))


@pytest.mark.parametrize(("name", "missing"), [("pad", "pad"), ("mask", "mask"), ("drop", "pad")])
def test_tokens_of_a_model_that_names_no_such_token_cannot_become_one(name, missing):
    samples = texts(Bag(), fillers=("pad", "mask")[missing == "pad" :][:1])
    kept = torch.ones(3, TOKENS, dtype=torch.bool)
    assert f"has no embedding for a {missing} token" in refusal(lambda: samples.remover(name)(torch.arange(3), kept))
    nameless = replace(samples, fillers=None, memo={}, scratch={})
    assert "(it has: none)" in refusal(lambda: nameless.remover(name)(torch.arange(3), kept))


def test_single_numbers_of_a_token_cannot_be_dropped():
    samples = texts(Bag(), elements=True)
    kept = torch.rand(3, TOKENS, SIZE) < 0.5
    assert "whole tokens" in refusal(lambda: samples.remover("drop")(torch.arange(3), kept))


def test_a_part_of_a_token_cannot_be_dropped():
    samples = texts(Bag())
    assert "whole units" in refusal(lambda: infill(samples, "drop", torch.arange(3), torch.rand(3, TOKENS, 1)))


@pytest.mark.parametrize("filler", [torch.zeros(SIZE + 1), [0.0] * SIZE, torch.zeros(SIZE, dtype=torch.long)])
def test_what_is_no_embedding_of_a_token_is_refused_in_one_line(filler):
    with pytest.raises(UserError, match="fillers' pad is"):
        harness.explain(
            "feature_ablation",
            Bag().eval(),
            told(torch.randn(2, TOKENS, SIZE), torch.zeros(2).long(), fillers={"pad": filler}),
            baseline="pad",
        )


@pytest.mark.parametrize("baseline", ["pad", "drop"])
def test_tensors_of_embeddings_are_evaluated_with_the_tokens_named_for_them(baseline):
    model, inputs, targets = Places().eval(), torch.randn(3, TOKENS, SIZE), torch.zeros(3, dtype=torch.long)
    data = told(inputs, targets, fillers={"pad": torch.full((SIZE,), 2.0)})
    options = {"baseline": baseline, "score": "logit"}
    rows = harness.evaluate(model, data, explainers="gradient", metrics={"deletion": options})
    maps = harness.explain("gradient", model, data)
    alone = harness.score("deletion", model, data, maps, **options)
    assert set(rows["status"]) == {"ok"} and rows["value"].tolist() == pytest.approx(alone.tolist())


def test_words_do_not_divide_the_single_numbers_of_tokens():
    assert "with this reduction" in refusal(lambda: texts(Bag(), elements=True).segments("given"))


def test_dropping_gives_no_fixed_input():
    samples = texts(Bag())
    assert "a fixed input is needed" in refusal(lambda: make_baseline(samples, "drop"))
