"""Explainers on kinds of nets whose layers a GPU computes by other kernels than a CPU."""

import pytest
import torch
from torch import nn

import harness

EXPLAINERS = {
    "saliency": {},
    "integrated_gradients": {"steps": 4},
    "smoothgrad": {"samples": 4},
    "deep_lift": {},
    "lrp": {},
    "attn_lrp": {},
    "cp_lrp": {},
    "attention": {},
    "transformer_attribution": {},
    "attention_rollout": {},
    "att_cat": {},
    "guided_backprop": {},
    "grad_cam": {},
    "eigen_cam": {},
    "occlusion": {},
    "kernel_shap": {"samples": 40, "segments": "grid:3"},
}
METRICS = {
    "srg": {"steps": 8},
    "parameter_randomization": {"stages": 2},
    "relative_representation_stability": {"draws": 2},
}


class Recurrent(nn.Module):
    """Series (N, C, T) through an LSTM, whose kernels on a GPU take no gradients in eval mode."""

    def __init__(self):
        super().__init__()
        self.steps, self.out = nn.LSTM(3, 8, batch_first=True), nn.Linear(8, 4)

    def forward(self, series):
        return self.out(self.steps(series.mT)[0][:, -1])


def vision_transformer():
    """A vision transformer of two layers, with fused attention."""
    from torchvision.models import VisionTransformer

    return VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=4)


def separable():
    """Grouped and strided convolutions, as in mobile nets."""
    layers = nn.Conv2d(3, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU6(), nn.Conv2d(12, 12, 5, 2, 2, groups=12), nn.SiLU()
    return nn.Sequential(*layers, nn.Conv2d(12, 8, 1), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4))


NETS = {
    "vision transformer": (vision_transformer, (3, 32, 32), "image"),
    "separable convolutions": (separable, (3, 32, 32), "image"),
    "lstm": (Recurrent, (3, 9), "series"),
}


def explained_and_scored(name, device):
    """Maps per explainer, and the rows of an evaluation, on a device."""
    make, shape, modality = NETS[name]
    torch.manual_seed(0)
    model = make().eval().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.Linear) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.1)
    inputs, targets, maps = torch.randn(3, *shape), torch.tensor([0, 1, 2]), {}

    def keep_maps(batch):
        """Nothing: the maps are kept."""
        maps[batch.explainer.name] = batch.raw.cpu()
        return torch.zeros(len(batch), dtype=torch.float64)

    rows = harness.evaluate(
        model.to(device),
        harness.Data(inputs, targets, modality=modality),
        explainers=EXPLAINERS,
        metrics={**METRICS, "kept": {"name": keep_maps}},
        tuned=True,
    )
    return maps, rows.sort_values(["explainer", "metric", "sample"], ignore_index=True)


@pytest.mark.parametrize("name", NETS)
def test_explainers_and_metrics_give_there_what_they_give_on_the_cpu(name, device):
    maps, rows = explained_and_scored(name, device)
    expected_maps, expected = explained_and_scored(name, torch.device("cpu"))
    failed = rows[rows["status"] == "failed"]
    assert failed.empty, failed[["explainer", "metric", "error"]].drop_duplicates().to_string()
    assert list(rows["status"]) == list(expected["status"])
    for explainer, map_ in expected_maps.items():
        alike = nn.functional.cosine_similarity(maps[explainer].flatten(1), map_.flatten(1))
        assert (alike > 0.999).all(), f"{explainer}: {alike.tolist()}"
    srg = rows["metric"] == "srg"
    assert (rows[srg]["value"] - expected[srg]["value"]).abs().max() < 0.02


@pytest.mark.parametrize(("name", "expected"), [("lstm", False), ("separable convolutions", True)])
def test_gradients_of_recurrent_layers_alone_are_taken_without_cudnn(name, expected, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "enabled", True)
    make, shape, modality = NETS[name]

    def watching(model, inputs, targets):
        """Says which kernels it may use."""
        return torch.full_like(inputs, float(torch.backends.cudnn.enabled))

    data = harness.Data(torch.randn(2, *shape), torch.zeros(2, dtype=torch.long), modality=modality)
    answer = harness.explain(watching, make().eval(), data)
    assert answer.bool().all() == expected and torch.backends.cudnn.enabled
