"""The mask of a text or series is held while its units move: no explainer gives padding a number, in whatever form it
comes, and the map is that of the text without its padding.
"""

import warnings

import pytest
import torch
from torch import nn

import harness
from budgets import small
from harness.errors import UserError
from harness.registry import EXPLAINERS

SIZE, WORDS, LENGTH = 5, 30, 12
COUNTS = (6, 4)  # tokens of each text
TARGETS = torch.tensor([0, 1])
SPECIAL = (0,)


class Bag(nn.Module):
    """A mean over the tokens that a mask leaves."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(WORDS, SIZE)  # whose vector of the padding id is none of zeros
        self.hidden, self.relu, self.out = nn.Linear(SIZE, 16), nn.ReLU(), nn.Linear(16, 3)

    def read(self, x, mask):
        mask = mask[..., None].to(x)
        return self.out((self.relu(self.hidden(x)) * mask).sum(1) / mask.sum(1).clamp(min=1))


class IdsAndMask(Bag):
    def forward(self, input_ids, attention_mask):
        return self.read(self.embed(input_ids), attention_mask)


class Ids(Bag):
    """Computes its mask from its ids."""

    def forward(self, input_ids):
        return self.read(self.embed(input_ids), input_ids != 0)


class VectorsAndMask(Bag):
    def forward(self, x, attention_mask):
        return self.read(x, attention_mask)


class Vectors(Bag):
    """Computes its mask from the inputs that move."""

    def forward(self, x):
        return self.read(x, (x != 0).any(-1))


class Series(Bag):
    """Computes its mask from the inputs that move."""

    def forward(self, x):
        return self.read(x.mT, (x != 0).any(1))


FORMS = {
    "token ids and a mask": (
        IdsAndMask,
        lambda ids, vectors, mask: {"inputs": {"input_ids": ids, "attention_mask": mask}},
    ),
    "token ids": (Ids, lambda ids, vectors, mask: {"inputs": ids, "special": SPECIAL}),
    "vectors and a mask": (
        VectorsAndMask,
        lambda ids, vectors, mask: {"inputs": vectors, "modality": "tokens", "carried": {"attention_mask": mask}},
    ),
    "vectors": (
        Vectors,
        lambda ids, vectors, mask: {"inputs": vectors, "modality": "tokens", "present": mask.bool()},
    ),
    "series": (
        Series,
        lambda ids, vectors, mask: {"inputs": vectors.mT.contiguous(), "modality": "series", "present": mask.bool()},
    ),
}


def given(length):
    """Ids, vectors and masks of the same texts, padded to a length; a text that is longer is cut."""
    generator = torch.Generator().manual_seed(1)
    words = torch.randint(1, WORDS, (len(COUNTS), max(COUNTS)), generator=generator)
    numbers = torch.randn(len(COUNTS), max(COUNTS), SIZE, generator=generator)
    mask = (torch.arange(length) < torch.tensor(COUNTS)[:, None]).long()
    ids, vectors = torch.zeros(len(COUNTS), length, dtype=torch.long), torch.zeros(len(COUNTS), length, SIZE)
    shown = min(length, max(COUNTS))
    ids[:, :shown], vectors[:, :shown] = words[:, :shown], numbers[:, :shown]
    return ids * mask, vectors * mask[..., None], mask


def net_of(form):
    torch.manual_seed(0)
    return FORMS[form][0]().eval()


def data_of(form, row=None):
    """All texts with their padding, or one text without any."""
    parts = given(LENGTH if row is None else COUNTS[row])
    rows = slice(None) if row is None else slice(row, row + 1)
    parts = tuple(each[rows] for each in parts)
    train = torch.randn(9, LENGTH, SIZE, generator=torch.Generator().manual_seed(2))[:, : parts[0].shape[1]]
    known = FORMS[form][1](*parts)
    if "modality" in known:
        known["train"] = train.mT.contiguous() if known["modality"] == "series" else train
    return harness.Data(targets=TARGETS[rows], **known)


def maps_of(name, form, row=None):
    """Attributions (N, T), or why the explainer is not applicable."""
    options = small(EXPLAINERS[name])
    if "beta" in EXPLAINERS[name].options:
        options["beta"] = 10.0  # these nets have ReLUs
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            maps = harness.explain(name, net_of(form), data_of(form, row), **options)
    except harness.NotApplicable as refusal:
        return str(refusal)
    return maps.sum(1) if form == "series" else maps.sum(-1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [name for name, entry in EXPLAINERS.items() if not entry.stored])
def test_padding_has_no_part_in_any_map(name, form):
    padded = maps_of(name, form)
    if isinstance(padded, str):
        return
    mask = given(LENGTH)[2]
    magnitudes = padded.abs()
    assert (magnitudes * (1 - mask)).sum() <= 1e-6 * magnitudes.sum()
    if name.startswith("captum_") and EXPLAINERS[name].stochastic:
        return  # its draws depend on the batch, as its caveat says
    for row, count in enumerate(COUNTS):
        alone = maps_of(name, form, row)
        torch.testing.assert_close(padded[row, :count], alone[0], rtol=1e-4, atol=1e-5)


def heard(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(each.message) for each in caught]


def test_a_model_that_computes_its_mask_from_ids_says_which_token_is_missing():
    ids = given(LENGTH)[0]
    with pytest.raises(UserError, match=r"token 0 for padding .* special=\(0,\)"):
        harness.explain("gradient", Ids().eval(), harness.Data(ids, TARGETS))


def test_where_padding_may_be_it_is_said_in_one_line_what_to_give():
    _, vectors, mask = given(LENGTH)

    class Named(Bag):
        def forward(self, x, keep):
            return self.read(x, keep)

    class Inverse(Bag):
        def forward(self, x, ignored):
            return self.read(x, 1 - ignored)

    def lines(net, inputs, modality="tokens", **carried):
        data = harness.Data(inputs, TARGETS, modality=modality, carried=carried)
        return heard(lambda: harness.explain("gradient", net.eval(), data))

    (line,) = lines(Named(), vectors, keep=mask)
    assert "'keep'" in line and "present=keep.bool()" in line and "\n" not in line
    (line,) = lines(Inverse(), vectors, ignored=1 - mask)
    assert "present=~ignored.bool()" in line
    (line,) = lines(Series(), vectors.mT.contiguous(), modality="series")
    assert "2 series end in zeros, 14 time steps" in line
    whole = torch.randn(2, SIZE, LENGTH)
    whole[:, :, 3] = 0  # a value like others
    assert not lines(Series(), whole, modality="series")
