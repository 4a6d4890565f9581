"""Generative in-filling: a small variational autoencoder (Kingma and Welling 2014, 1312.6114) of the training inputs.

It is trained to reconstruct whole inputs from inputs with a random part hidden. The encoder gets the visible part and
its mask, so that the decoder draws inputs that agree with the visible part. It is trained once per block, with the
protocol's seed.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.errors import NotApplicable
from harness.guards import isolated_randomness
from harness.randomness import normal
from harness.removal.originals import Originals
from harness.removal.scales import mean_and_deviation

FEWEST = 36  # training inputs that are needed to learn a distribution
CODE, WIDTH = 16, 128
STEPS, ROWS, RATE = 400, 64, 3e-3
PRIOR = 0.05  # weight of a code's divergence from the prior, relative to the squared error per number
LARGEST_SIDE = 64  # pixels of an image's side; larger images are scaled down before encoding and up after decoding


def vae(originals: Originals, sample: Tensor, kept: Tensor, draw: int) -> Tensor:
    """Inputs (rows, ...) of the samples with indices ``sample``, drawn from the autoencoder given what is ``kept``.

    It works in the model's input space. The code's noise depends on the sample and ``draw``, and not on the mask.
    Raises NotApplicable with fewer than 36 training inputs.
    """
    key = ("vae", originals.seed, originals.units.modality)
    model = originals.for_block(key, lambda: _train_autoencoder(originals))
    inputs, noise = originals.inputs[sample], normal(originals.stream(f"vae {draw}"), CODE)[sample]
    with torch.no_grad():
        return model.draw(inputs.float(), kept.expand_as(inputs).float(), noise.to(inputs.device)).to(inputs)


def _train_autoencoder(originals: Originals) -> "_Autoencoder":
    train = originals.train
    if train is None or len(train) < FEWEST:
        came = "none" if train is None else len(train)
        raise NotApplicable(f"baseline vae needs at least {FEWEST} training inputs to learn from; the data has {came}")
    device = originals.inputs.device
    with isolated_randomness(device), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(originals.seed)
        train = train.detach().clone().to(device, torch.float32)
        image = originals.units.modality == "image"
        model = (_Images if image else _Numbers)(train, originals.units.channel_axis).to(device)
        _fit(model, train, originals.units.channel_axis)
    return model.requires_grad_(False)


def _fit(model: "_Autoencoder", train: Tensor, channel_axis: int | None) -> None:
    optimiser = torch.optim.Adam(model.parameters(), RATE, fused=True)
    for _ in range(STEPS):
        # Drawn on the CPU, so that batches and masks are the same on every device.
        rows = train[torch.randint(len(train), (ROWS,)).to(train.device)]
        kept, noise = _random_masks(rows, channel_axis), torch.randn(ROWS, CODE).to(train.device)
        optimiser.zero_grad()
        model.loss(rows, kept, noise).backward()
        optimiser.step()


def _random_masks(rows: Tensor, channel_axis: int | None) -> Tensor:
    """Random masks (ROWS, ...), 1 where kept and 0 elsewhere: a random share of the units or of the cells of a grid."""
    grid = [1 if axis == channel_axis else length for axis, length in enumerate(rows.shape)][1:]
    coarse = [max(1, -(-length // 4)) for length in grid]
    fine, cells = torch.rand(len(rows), *grid), torch.rand(len(rows), *coarse)
    for axis, length in enumerate(grid, 1):
        cells = cells.repeat_interleave(4, axis).narrow(axis, 0, length)
    one_by_one = torch.rand(len(rows), *[1] * len(grid)) < 0.5
    share = torch.rand(len(rows), *[1] * len(grid))
    return (torch.where(one_by_one, fine, cells) < share).float().expand(rows.shape).to(rows.device)


class _Autoencoder(nn.Module):
    """Standardises inputs by the training data's mean and standard deviation, per channel or column; has the loss."""

    encoder: nn.Module
    decoder: nn.Module

    def __init__(self, train: Tensor, channel_axis: int | None) -> None:
        super().__init__()
        over = [0, *(a for a in range(1, train.dim()) if channel_axis is not None and a != channel_axis)]
        centre, spread = mean_and_deviation(train, over)
        self.register_buffer("centre", centre)
        self.register_buffer("spread", torch.where(spread > 0, spread, 1))

    def draw(self, inputs: Tensor, kept: Tensor, noise: Tensor) -> Tensor:
        """Inputs (rows, ...) drawn given the kept values, with the code's noise (rows, CODE)."""
        drawn, _, _ = self(inputs, kept, noise)
        return drawn * self.spread + self.centre

    def loss(self, inputs: Tensor, kept: Tensor, noise: Tensor) -> Tensor:
        """Squared error of the whole input, including the hidden part, plus the code's divergence from the prior."""
        drawn, mean, log_variance = self(inputs, kept, noise)
        error = (drawn - (inputs - self.centre) / self.spread).square().mean()
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
        return error + PRIOR * divergence / math.sqrt(drawn[0].numel())

    def forward(self, inputs: Tensor, kept: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        visible = (inputs - self.centre) / self.spread * kept
        mean, log_variance = self.encoder(self._scaled(torch.cat([visible, kept], 1))).chunk(2, 1)
        log_variance = log_variance.clamp(-10, 10)
        decoded = self.decoder(mean + (0.5 * log_variance).exp() * noise)
        return self._fitted(decoded, inputs.shape), mean, log_variance

    def _scaled(self, visible: Tensor) -> Tensor:
        return visible

    def _fitted(self, decoded: Tensor, shape: torch.Size) -> Tensor:
        return decoded.view(shape)


class _Numbers(_Autoencoder):
    """A dense network, for tables, tokens and series."""

    def __init__(self, train: Tensor, channel_axis: int | None) -> None:
        super().__init__(train, channel_axis)
        size = train[0].numel()
        self.encoder = nn.Sequential(
            nn.Flatten(),
            nn.Linear(2 * size, WIDTH),
            nn.SiLU(),
            nn.Linear(WIDTH, WIDTH),
            nn.SiLU(),
            nn.Linear(WIDTH, 2 * CODE),
        )
        self.decoder = nn.Sequential(
            nn.Linear(CODE, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, size)
        )


class _Images(_Autoencoder):
    """A convolutional network for images, scaled to sides that are multiples of 4 and at most ``LARGEST_SIDE``."""

    def __init__(self, train: Tensor, channel_axis: int | None) -> None:
        super().__init__(train, channel_axis)
        channels = train.shape[1]
        self.size = tuple(min(LARGEST_SIDE, -(-length // 4) * 4) for length in train.shape[-2:])
        cells = self.size[0] // 4 * (self.size[1] // 4)
        self.encoder = nn.Sequential(
            nn.Conv2d(2 * channels, 16, 3, 2, 1),
            nn.SiLU(),
            nn.Conv2d(16, 32, 3, 2, 1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(32 * cells, WIDTH),
            nn.SiLU(),
            nn.Linear(WIDTH, 2 * CODE),
        )
        self.decoder = nn.Sequential(
            nn.Linear(CODE, WIDTH),
            nn.SiLU(),
            nn.Linear(WIDTH, 32 * cells),
            nn.SiLU(),
            nn.Unflatten(1, (32, self.size[0] // 4, self.size[1] // 4)),
            nn.ConvTranspose2d(32, 16, 4, 2, 1),
            nn.SiLU(),
            nn.ConvTranspose2d(16, channels, 4, 2, 1),
        )

    def _scaled(self, visible: Tensor) -> Tensor:
        return visible if visible.shape[-2:] == self.size else F.interpolate(visible, self.size, mode="area")

    def _fitted(self, decoded: Tensor, shape: torch.Size) -> Tensor:
        if decoded.shape == shape:
            return decoded
        return F.interpolate(decoded, shape[-2:], mode="bilinear", align_corners=False)
