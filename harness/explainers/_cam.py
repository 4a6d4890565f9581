"""What class activation maps have in common: their options, and how a map becomes as large as the input."""

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.explainers._at_layer import MapLayer, enlarged
from harness.explainers._layers import LayerOption, layer_of_options
from harness.samples import Samples


@dataclass(frozen=True)
class CamOptions(LayerOption):
    """Options of the class activation maps.

    layer   a dotted module name; by default the last layer whose output has several places
            (``harness.explainers._layers.choose_layer``)
    relu    whether negative numbers of the map become 0
    """

    relu: bool = True


RECTIFIED = CamOptions()
SIGNED = CamOptions(relu=False)

# The capabilities that all of them declare.
CAM = {"access": "activations", "modalities": ("image", "series", "volume"), "prepare": layer_of_options}


def full_size_map(coarse: Tensor, context: Samples, layer: MapLayer, relu: bool) -> Tensor:
    """Maps (N, 1, *grid), rectified or not, at the input's size; tells the facts ``layer`` and ``contrast``."""
    coarse = coarse.relu() if relu else coarse
    flat = coarse.flatten(1)
    largest = flat.abs().amax(1)
    context.tell(layer=layer.name, contrast=(flat.amax(1) - flat.amin(1)) / largest.where(largest > 0, 1))
    return enlarged(coarse, context.units.shape)


def sum_over_channels(weights: Tensor, values: Tensor) -> Tensor:
    """Activations (n, C, *grid) summed over their channels with weights (n, C): (n, 1, *grid)."""
    return torch.einsum("nc,nc...->n...", weights, values)[:, None]
