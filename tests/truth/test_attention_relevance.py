"""The two rules of transformer attribution and AttCAT beside the papers' equations written out by hand."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import harness
from axes import told
from explainer_worlds import near

WIDTH, HEADS, CLASSES = 8, 2, 3


class Block(nn.Module):
    """A layer of a transformer: attention and a multi-layer perceptron, each with a norm before it."""

    def __init__(self, in_place):
        super().__init__()
        self.first, self.second, self.in_place = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH), in_place
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 12), nn.Linear(12, WIDTH)
        nn.init.normal_(self.qkv.weight, std=0.6)

    def heads(self, z):
        parts = self.qkv(z).chunk(3, -1)
        return [each.unflatten(-1, (HEADS, -1)).transpose(1, 2) for each in parts]

    def forward(self, z):
        mixed = F.scaled_dot_product_attention(*self.heads(self.first(z)))
        if self.in_place:
            attended = self.out(mixed.transpose(1, 2).flatten(2))
            attended += z
            answer = self.down(F.gelu(self.up(self.second(attended))))
            answer += attended
            return answer
        z = z + self.out(mixed.transpose(1, 2).flatten(2))
        return z + self.down(F.gelu(self.up(self.second(z))))


class Transformer(nn.Module):
    """Tokens to logits, read at the first token."""

    def __init__(self, in_place=False, layers=3):
        super().__init__()
        self.blocks = nn.ModuleList(Block(in_place) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.4)

    def forward(self, z):
        for block in self.blocks:
            z = block(z)
        return self.head(self.norm(z)[:, 0])


def quotient(relevance, values):
    return torch.where(values == 0, 0.0, relevance / torch.where(values == 0, 1.0, values))


def through_linear(layer, x, relevance):
    """Relevance of a linear layer's input, in proportion to the contributions above 0, without the bias."""
    up, down = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
    share = quotient(relevance, x.clamp(min=0) @ up.T + x.clamp(max=0) @ down.T)
    return x.clamp(min=0) * (share @ up) + x.clamp(max=0) * (share @ down)


def through_product(a, b, relevance):
    """Half of the relevance of a @ b for each factor, in proportion to the products."""
    share = quotient(relevance, a @ b) / 2
    return a * (share @ b.mT), b * (a.mT @ share)


def through_sum(a, b, relevance):
    """Relevance of the two sides of a residual sum, brought to shares of their absolute sums (equation 10)."""
    share = quotient(relevance, a + b)
    first, second = a * share, b * share
    sizes = first.sum().abs(), second.sum().abs()
    return [
        each * (size / sum(sizes) * relevance.sum() / each.sum())
        for each, size in zip((first, second), sizes, strict=True)
    ]


def through_block(block, z, relevance):
    """Relevance of a block's input, and of its attention (heads, T, T); one sample z (T, width)."""
    x = block.first(z)
    q, k, v = (each.view(len(z), HEADS, -1).transpose(0, 1) for each in block.qkv(x).chunk(3, -1))
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    weights = scores.softmax(-1)
    mixed = (weights @ v).transpose(0, 1).flatten(1)
    attended = z + block.out(mixed)
    normed = block.second(attended)
    hidden = block.up(normed)

    kept, sent = through_sum(attended, block.down(F.gelu(hidden)), relevance)
    sent = through_linear(block.up, normed, through_linear(block.down, F.gelu(hidden), sent))
    kept, sent = through_sum(z, block.out(mixed), kept + sent)
    sent = through_linear(block.out, mixed, sent).view(len(z), HEADS, -1).transpose(0, 1)
    of_weights, of_values = through_product(weights, v, sent)
    of_queries, of_keys = through_product(q, k.mT, of_weights)
    parts = [each.transpose(0, 1).flatten(1) for each in (of_queries, of_keys.mT, of_values)]
    return kept + through_linear(block.qkv, x, torch.cat(parts, 1)), of_weights


def attribution_by_relevance(net, x, target):
    """The map (T,) of one sample x (T, width): rollout of the positive part of gradient times relevance."""
    states, maps = [x], []
    for block in net.blocks:
        z = states[-1]
        q, k, v = (each[0] for each in block.heads(block.first(z)[None]))
        maps.append((q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1))
        z = z + block.out((maps[-1] @ v).transpose(0, 1).flatten(1))
        states.append(z + block.down(F.gelu(block.up(block.second(z)))))
    read = net.norm(states[-1])
    gradients = torch.autograd.grad(net.head(read[0])[target], maps)
    start = torch.zeros(CLASSES, dtype=x.dtype)
    start[target] = 1
    relevance = torch.zeros_like(x)
    relevance[0] = through_linear(net.head, read[0], start)
    rows = []
    for block, z, gradient in reversed(
        [*zip(net.blocks, states, gradients, strict=False)]
    ):  # the last state is the head's
        relevance, of_weights = through_block(block, z, relevance)
        rows.insert(0, torch.eye(len(x), dtype=x.dtype) + (gradient * of_weights).clamp(min=0).mean(0))
    product = rows[0]
    for each in rows[1:]:
        product = each @ product
    return product[0].detach()


@pytest.mark.parametrize("in_place", [False, True])
def test_transformer_attribution_by_relevance_is_the_earlier_papers_layer_by_layer(in_place, seed):
    net, x, targets = Transformer(in_place).double().eval(), torch.randn(3, 5, WIDTH).double(), torch.tensor([0, 2, 1])
    expected = torch.stack([attribution_by_relevance(net, *pair) for pair in zip(x, targets, strict=True)])
    found = harness.explain("transformer_attribution", net, told(x, targets), weighting="relevance")[..., 0]
    assert near(found, expected) and near(found[:, 1:], expected[:, 1:], 1e-4), "without the identity, too"
    later = harness.explain("transformer_attribution", net, told(x, targets))[..., 0]
    assert not near(later[:, 1:], expected[:, 1:], 1e-2), "the rules of the two papers differ"


def test_relevance_is_of_each_sample_alone_wherever_the_samples_are(seed):
    class Turned(nn.Module):
        def __init__(self, batch_first):
            super().__init__()
            layer, self.batch_first = nn.TransformerEncoderLayer(WIDTH, HEADS, 16, batch_first=batch_first), batch_first
            self.encoder, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(WIDTH, 3)

        def forward(self, z):
            return self.head(self.encoder(z)[:, 0] if self.batch_first else self.encoder(z.transpose(0, 1))[0])

    net, x, targets = Turned(False).double().eval(), torch.randn(5, 5, WIDTH).double(), torch.tensor([0, 2, 1, 1, 0])
    same = Turned(True).double().eval()
    same.load_state_dict(net.state_dict())
    for name, options in (("transformer_attribution", {"weighting": "relevance"}), ("att_cat", {})):
        together = harness.explain(name, net, told(x, targets), **options)
        alone = [harness.explain(name, net, told(x[i : i + 1], targets[i : i + 1]), **options) for i in range(5)]
        assert near(together, torch.cat(alone)) and near(
            harness.explain(name, same, told(x, targets), **options), together
        )


def test_a_rule_that_is_none_is_told(seed):
    with pytest.raises(ValueError, match="attention or relevance"):
        harness.explain(
            "transformer_attribution", Transformer().eval(), told(torch.randn(1, 4, WIDTH), [0]), weighting="raw"
        )


def test_att_cat_is_the_class_activation_of_hidden_states_weighted_by_the_attention_they_receive(seed):
    """On a BERT, whose hidden states the library gives out, as the paper's code takes them."""
    import transformers

    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
    config = transformers.BertConfig(num_labels=3, attn_implementation="eager", **sizes)
    bert = transformers.BertForSequenceClassification(config).double().eval()
    for parameter in bert.parameters():
        nn.init.normal_(parameter, std=0.3)

    class Logits(nn.Module):
        def __init__(self):
            super().__init__()
            self.bert = bert

        def forward(self, z):
            return self.bert(inputs_embeds=z).logits

    x, targets = torch.randn(3, 7, 16).double(), torch.tensor([0, 2, 1])
    found = harness.explain("att_cat", Logits().eval(), told(x, targets))[..., 0]
    told_all = bert(inputs_embeds=x, output_hidden_states=True, output_attentions=True)
    states = told_all.hidden_states[:-1]
    gradients = torch.autograd.grad(told_all.logits.gather(1, targets[:, None]).sum(), states)
    expected = sum(
        (state * gradient).sum(-1) * weights.mean((1, 2))
        for state, gradient, weights in zip(states, gradients, told_all.attentions, strict=True)
    )
    assert near(found, expected.detach()) and found.min() < 0 < found.max()
