"""Padding and special tokens are no units: a text has the same maps and scores at any length to which it is padded."""

import warnings
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

import harness
from budgets import small
from harness.registry import EXPLAINERS, METRICS
from harness.removal.baselines import NOISE_FOR_RESAMPLED
from harness.sources import LoadedModel, Wording

SIZE, LENGTHS = 5, (8, 40)
COUNTS = (6, 4, 4, 2, 1)  # words of each text, between a token of start and one of end
START, END, PAD = torch.randn(3, SIZE, generator=torch.Generator().manual_seed(5))
SCORED = [name for name, entry in METRICS.items() if entry.kind != "cost"]


class Reader(nn.Module):
    """A classifier of embeddings (N, T, D) with a mask; it fails where somebody has changed what is no word."""

    def forward(self, x, attention_mask):
        places, last = torch.arange(x.shape[1]), attention_mask.sum(1) - 1
        seen, rows = x.detach(), torch.arange(len(x))
        assert (seen[:, 0] == START).all() and (seen[rows, last] == END).all()
        assert (seen[places > last[:, None]] == PAD).all()
        return self.read(x, attention_mask)


class Transformer(Reader):
    def __init__(self):
        super().__init__()
        self.into, self.out = nn.Linear(SIZE, 8), nn.Linear(8, 3)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)

    def read(self, x, mask):
        return self.out(self.layer(self.into(x), src_key_padding_mask=mask == 0)[:, 0])


class CNN(Reader):
    def __init__(self):
        super().__init__()
        self.convolution, self.relu, self.out = nn.Conv1d(SIZE, 8, 3, padding=1), nn.ReLU(), nn.Linear(8, 3)

    def read(self, x, mask):
        mask = mask[:, None].to(x)
        return self.out((self.relu(self.convolution(x.mT * mask)) * mask).sum(2) / mask.sum(2))


class Bag(Reader):
    def __init__(self):
        super().__init__()
        self.hidden, self.relu, self.out = nn.Linear(SIZE, 16), nn.ReLU(), nn.Linear(16, 3)

    def read(self, x, mask):
        mask = mask[..., None].to(x)
        return self.out((self.relu(self.hidden(x)) * mask).sum(1) / mask.sum(1))


NETS = {each.__name__: each for each in (Transformer, CNN, Bag)}


def net_of(kind):
    """A net with weights of such a size that its outputs depend on every word."""
    torch.manual_seed(1)
    net = NETS[kind]().eval()
    with torch.no_grad():
        for weight in net.parameters():
            weight.mul_(2 if weight.dim() > 1 else 1)
    return net


def texts(length, counts=COUNTS, **more):
    """The same texts at a length, with everything that may be known of them."""
    generator, number = torch.Generator().manual_seed(3), len(counts)
    numbers = torch.randn(number, 8, SIZE + 2, generator=generator)
    inputs, mask = PAD.repeat(number, length, 1), torch.zeros(number, length, dtype=torch.long)
    present = torch.zeros(number, length, dtype=torch.bool)
    truth, words = torch.zeros(number, length), torch.full((number, length), 50)
    for row, count in enumerate(counts):
        inputs[row, 0], inputs[row, count + 1] = START, END
        inputs[row, 1 : count + 1] = numbers[row, :count, :SIZE]
        mask[row, : count + 2], present[row, 1 : count + 1] = 1, True
        truth[row, 1 : count + 1] = numbers[row, :count, SIZE]
        words[row, 1 : count + 1] = torch.arange(count) // 2
    object_of = present & (truth > 0)
    object_of[:, 1] = True
    train = PAD.repeat(12, length, 1)
    train[:, :8] = torch.randn(12, 8, SIZE, generator=generator)
    labelled = {"train": train, "train_labels": torch.arange(12) % 3}
    known = labelled | {
        "masks": object_of,
        "truth": truth * object_of,
        "segments": words,
        "fillers": {"pad": PAD, "mask": END},
    }
    targets = torch.arange(number) % 3
    return harness.Data(
        inputs,
        targets,
        modality="tokens",
        carried={"attention_mask": mask},
        present=present,
        **{**known, **more},
    )


def options_of(entry):
    options = small(entry)
    if "similarity" in entry.options:
        options["similarity"] = "spearman"
    if "beta" in entry.options:
        options["beta"] = 10.0  # these nets have ReLUs
    return options


def found_or_refused(call):
    """The result of a call, or why it is not applicable."""
    try:
        return call()
    except harness.NotApplicable as refusal:
        assert "\n" not in str(refusal)
        return str(refusal)


def alike(found):
    """Whether all are the same numbers, or the same refusal."""
    first = found[0]
    if isinstance(first, str):
        return all(each == first for each in found)
    return all(torch.allclose(each, first, rtol=1e-4, atol=1e-5, equal_nan=True) for each in found[1:])


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("name", EXPLAINERS)
def test_an_explainer_explains_a_text_alike_at_any_length(name, kind):
    entry, found = EXPLAINERS[name], []
    options = options_of(entry)
    for length in LENGTHS:
        data = texts(length, COUNTS[:4] if name == "captum_kernel_shap" else COUNTS)
        maps = found_or_refused(lambda data=data: harness.explain(name, net_of(kind), data, **options))
        if isinstance(maps, torch.Tensor):
            assert (maps[~data.present] == 0).all(), "what is no unit has no attribution"
            maps = maps[data.present]
        found.append(maps)
    assert alike(found), found
    served = entry.source == "harness" and "tokens" in entry.modalities and entry.access not in ("activations", "none")
    if served and not entry.stored:
        assert isinstance(found[0], torch.Tensor) or "no attention" in found[0], found[0]


@cache
def explained_texts(kind, length):
    """The texts at a length, a net and its maps of them."""
    data, net = texts(length), net_of(kind)
    return data, net, harness.explain("input_x_gradient", net, data)


@pytest.mark.parametrize("kind", ["Transformer", "CNN"])  # a metric asks a bag of words nothing else
@pytest.mark.parametrize("name", SCORED)
def test_a_metric_scores_a_text_alike_at_any_length(name, kind):
    found = []
    for length in LENGTHS:
        data, net, maps = explained_texts(kind, length)
        found.append(
            found_or_refused(
                lambda data=data, net=net, maps=maps: harness.score(
                    name, net, data, maps, explainer="input_x_gradient", **options_of(METRICS[name])
                )
            )
        )
    assert alike(found), found


@pytest.mark.parametrize("name", ["deletion", "sparseness", "comprehensiveness", "sensitivity_n", "max_sensitivity"])
def test_single_numbers_of_tokens_are_scored_alike_at_any_length(name):
    found = []
    for length in LENGTHS:
        data, net = texts(length), net_of("CNN")
        maps = harness.explain("input_x_gradient", net, data)
        found.append(harness.score(name, net, data, maps, explainer="input_x_gradient", reduction="none"))
    assert alike(found) and found[0].isfinite().all()


def likes_what_is_no_word(model, inputs, targets, *, context):
    """Its attributions lie at padding and special tokens, if it ever sees them."""
    where = (inputs == START).all(-1) | (inputs == END).all(-1) | (inputs == PAD).all(-1)
    return where[..., None].expand_as(inputs).float() + inputs


def test_no_explainer_of_units_sees_what_is_no_unit():
    data = texts(32)
    maps = harness.explain(likes_what_is_no_word, net_of("Bag"), data)
    torch.testing.assert_close(maps, data.inputs * data.present[..., None])


@pytest.mark.parametrize("batch", [1, 2, 16])
def test_texts_of_other_lengths_in_a_batch_change_no_score(batch):
    """Curves have one length, whichever texts come together, and random draws are those of the text alone."""
    data, net = texts(32), net_of("Transformer")
    metrics = {
        name: {} for name in ("deletion", "effective_complexity", "sensitivity_n", "random_order", "monotonicity")
    }
    frame = harness.evaluate(net, data, explainers=["gradient", "random"], metrics=metrics, explain_batch=batch)
    assert set(frame["status"]) == {"ok"}
    for name in metrics:
        lengths = {len(curve) for curve in frame[frame["metric"] == name]["curve"] if curve is not None}
        assert len(lengths) == (name != "effective_complexity"), (name, lengths)
    for row in range(len(COUNTS) - 1):
        one = harness.Data(
            data.inputs[row : row + 1],
            data.targets[row : row + 1],
            modality="tokens",
            carried={"attention_mask": data.carried["attention_mask"][row : row + 1]},
            present=data.present[row : row + 1],
            fillers=data.fillers,
        )
        alone = harness.evaluate(net, one, explainers=["gradient", "random"], metrics=metrics)["value"]
        together = frame[frame["sample"] == str(row)]["value"]
        np.testing.assert_allclose(alone, together, rtol=1e-4, atol=1e-5)


def test_every_metric_takes_texts_of_any_lengths_together():
    """A registered metric has a score, or a reason why it does not apply; its curves have one length."""
    metrics = {name: small(METRICS[name]) for name in SCORED}
    frame = harness.evaluate(net_of("Bag"), texts(32), explainers=["gradient"], metrics=metrics)
    failed = frame[~frame["status"].isin(["ok", "not_applicable"])].drop_duplicates("metric")
    assert failed.empty, failed[["metric", "error"]].to_dict("records")
    scored = frame[frame["status"] == "ok"]
    assert scored["metric"].nunique() > 40
    for name, curves in scored.groupby("metric")["curve"]:
        assert len({len(curve) for curve in curves if curve is not None}) <= 1, name


def test_what_holds_for_all_texts_is_told_once(monkeypatch):
    """Texts of each length are a group of their own, and each finds again that there are no training inputs."""
    lines = []
    monkeypatch.setattr("harness.api.warn_caller", lines.append)
    data = texts(32, train=None, train_labels=None, value_range=(-4.0, 4.0))
    frame = harness.evaluate(net_of("Bag"), data, explainers=["gradient"], metrics=["monotonicity_correlation"])
    assert set(frame["status"]) == {"ok"} and len(set(COUNTS)) > 2
    assert lines.count(NOISE_FOR_RESAMPLED) == 1 and len(lines) == len(set(lines))


def of_several_units(model, inputs, targets):
    """An explainer that has nothing to say about a text of one token."""
    if inputs.shape[1] < 2:
        raise harness.NotApplicable("a single token has no company")
    return inputs**3


def of_several(batch):
    """A metric that has no score for a text of one token."""
    if batch.units.count < 2:
        raise harness.NotApplicable("a single token has no rival")
    return batch.attributions.amax(1) - batch.attributions.amin(1)


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_a_text_of_one_token_has_no_score_with_the_reason_and_the_others_have(batch):
    metrics = [of_several, "effective_complexity", "truth_emd", "sparseness"]
    frame = harness.evaluate(
        net_of("Bag"), texts(8), explainers=["gradient", of_several_units], metrics=metrics, explain_batch=batch
    )
    assert set(frame["status"]) == {"ok"}
    single = frame["sample"] == str(COUNTS.index(1))
    assert frame[~single]["value"].notna().all()
    gradient = frame[single & (frame["explainer"] == "gradient")].set_index("metric")
    assert gradient["value"].isna().tolist() == [True, True, True, False]
    assert gradient.loc["of_several", "error"] == "a single token has no rival"
    refused = frame[single & (frame["explainer"] == "of_several_units")]
    assert refused["value"].isna().all() and refused["flags"].str.contains("a single token has no company").all()


def test_where_every_text_has_one_token_the_cell_is_not_applicable():
    frame = harness.evaluate(
        net_of("Bag"), texts(8, (1, 1)), explainers=["gradient", of_several_units], metrics=[of_several, "sparseness"]
    )
    status = frame.drop_duplicates(["explainer", "metric"]).set_index(["explainer", "metric"])["status"]
    assert status.to_dict() == {
        ("gradient", "of_several"): "not_applicable",
        ("gradient", "sparseness"): "ok",
        ("of_several_units", "of_several"): "not_applicable",
        ("of_several_units", "sparseness"): "not_applicable",
    }


def constant_map(model, inputs, targets):
    """The same number for every unit."""
    return torch.ones_like(inputs)


def test_a_map_that_is_constant_on_the_units_is_called_constant():
    frame = harness.evaluate(net_of("Bag"), texts(32), explainers=constant_map, metrics="sparseness")
    assert f"{len(COUNTS) - 1} of {len(COUNTS)} attributions are constant" in frame["flags"][0]


def test_stored_maps_of_the_padded_length_are_those_of_the_units(tmp_path):
    found = []
    for length in LENGTHS:
        data, net = texts(length), net_of("CNN")
        maps = harness.explain("input_x_gradient", net, data)
        np.save(tmp_path / "maps.npy", (maps.sum(-1) + 9.0 * ~data.present).numpy())
        stored = harness.explain("precomputed", net, data, path=str(tmp_path / "maps.npy"))
        torch.testing.assert_close(stored.sum(-1), maps.sum(-1))
        found.append(harness.score("deletion", net, data, stored))
    assert alike(found)


def heard(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(each.message) for each in caught if "embedding of zeros" in str(each.message)]


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(1)[:, :3]


def test_embeddings_of_zeros_are_tokens_and_how_they_become_padding_is_said_once():
    inputs, targets = torch.randn(3, 6, SIZE), torch.tensor([0, 1, 2])
    inputs[1, 4:] = 0
    data = harness.Data(inputs, targets, modality="tokens")
    (line,) = heard(lambda: harness.explain("gradient", Mean().eval(), data))
    assert "2 tokens of 1 texts" in line and "present=(inputs != 0).any(-1)" in line and "\n" not in line
    marked = harness.Data(inputs, targets, modality="tokens", present=(inputs != 0).any(-1))
    assert heard(lambda: harness.explain("gradient", Mean().eval(), marked)) == []
    inputs[1, 4:] = 1
    assert heard(lambda: harness.explain("gradient", Mean().eval(), data)) == []


def loaded_at(length):
    """A model of texts that pads to a length: every letter is a token, between a token of start and one of end."""
    table = torch.randn(128, SIZE, generator=torch.Generator().manual_seed(9))

    def read(text):
        rows = [START, *(table[ord(letter)] for letter in text), END]
        return torch.stack(rows + [PAD] * (length - len(rows)))

    places = torch.arange(length)
    wording = Wording(
        tokens=lambda text: ["<s>", *text, "</s>"],
        words=lambda text: torch.where((places > 0) & (places <= len(text)), places - 1, len(text)),
        present=lambda text: (places > 0) & (places <= len(text)),
        fillers={"pad": PAD},
        length=lambda text: len(text) + 2,
        carried=None,
    )
    net = net_of("Bag")

    class OfPadded(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net.read(x, (x.detach() != PAD).any(-1).long())

    return LoadedModel(OfPadded().eval(), read, classes=("a", "b", "c"), wording=wording)


def test_a_model_of_texts_gives_a_text_the_same_scores_at_any_length():
    data = harness.Data(
        ["some", "words", "of", "a", "letter", "or so"], torch.tensor([0, 1, 2, 0, 1, 2]), modality="tokens"
    )
    frames = [
        harness.evaluate(
            loaded_at(length),
            data,
            explainers=["gradient", "random", "lime"],
            metrics=["deletion", "irof", "sparseness", "comprehensiveness", "random_order"],
        )
        for length in LENGTHS
    ]
    assert set(frames[0]["status"]) == {"ok"} and frames[0]["value"].notna().mean() > 0.8
    for frame in frames[1:]:
        np.testing.assert_allclose(frame["value"], frames[0]["value"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", NETS)
def test_explainers_of_layers_explain_texts_again_for_a_metric(kind):
    """A metric has the words of a text alone; an explainer that reads layers is prepared for all its positions."""
    of_layers = [name for name, entry in EXPLAINERS.items() if entry.access == "activations"]
    explainers = {name: {"name": name, **options_of(EXPLAINERS[name])} for name in of_layers}
    frame = harness.evaluate(net_of(kind), texts(8), explainers=explainers, metrics=["sanity", "complexity"])
    assert not len(frame[frame["status"] == "failed"]), frame[["explainer", "error"]].to_dict("records")
    status = frame.drop_duplicates(["explainer", "metric"]).pivot(index="explainer", columns="metric", values="status")
    assert (status["sanity"] == status["complexity"]).all()
    assert kind != "Transformer" or {"attention", "att_cat"} <= set(status.index[status["sanity"] == "ok"])
