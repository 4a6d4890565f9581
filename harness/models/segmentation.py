"""Segmentation models, explained by the mean logit of a class over a region of the image.

Seg-Grad-CAM (Vinogradova et al. 2020, arXiv 2002.11434) explains the sum of a class's logits over a set of pixels: all
pixels of an object, or one pixel. The mean, used here, differs by the factor 1 / (number of pixels), so that scores of
regions of different sizes can be compared.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.errors import UserError

MAP_NAMES = ("out", "logits")  # of torchvision's and of Hugging Face's segmentation models
IMAGES_AT_ONCE = 8


class RegionScore(nn.Module):
    """A segmentation model as a module from images and regions to the mean logit of each class over the region.

    ``module`` maps images (N, C, H, W) to class maps (N, classes, h, w): a tensor, or a mapping or an object that holds
    it as ``out`` (torchvision) or ``logits`` (Hugging Face). Maps of another size than the image are resized to it
    bilinearly (corners not aligned), as both libraries do before they choose each pixel's class.
    """

    wraps_a_users_module = True  # whose layers keep the names that the user knows

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.train(module.training)

    def forward(self, inputs: Tensor, region: Tensor) -> Tensor:
        """The mean logit of each class, (N, classes), over regions (N, H, W), bool, of images (N, C, H, W).

        NaN for a region without a pixel; ``check_regions`` refuses these.
        """
        maps = class_maps(self.module, inputs)
        if region.shape != (len(inputs), *inputs.shape[2:]):
            raise UserError(
                f"regions are {tuple(region.shape)} for images {tuple(inputs.shape)}, expected (N, H, W), a region of "
                "each image"
            )
        with torch.autocast(inputs.device.type, enabled=False):  # 16 bits are too few for a mean of many pixels
            return _region_means(maps.to(torch.promote_types(maps.dtype, torch.float32)), region)


def class_maps(module: nn.Module, inputs: Tensor) -> Tensor:
    """The class maps (N, classes, h, w) of a segmentation model's outputs; UserError where it returns something else.

    One map alone is refused: whether it means one class against the background is not known.
    """
    outputs: Any = module(inputs)
    named = outputs if isinstance(outputs, Mapping) else vars(outputs) if hasattr(outputs, "__dict__") else {}
    if not isinstance(outputs, Tensor):
        outputs = next((named[name] for name in MAP_NAMES if isinstance(named.get(name), Tensor)), outputs)
    if not isinstance(outputs, Tensor) or outputs.dim() != 4 or len(outputs) != len(inputs):
        came = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise UserError(
            f"the segmentation model returned {came} for {len(inputs)} images, expected class maps ({len(inputs)}, "
            "classes, h, w): a tensor, or 'out' or 'logits' of a mapping or an object"
        )
    if outputs.shape[1] < 2:
        raise UserError(
            "the segmentation model returned one map for each image, expected a map of logits for each of two or more "
            "classes; for one logit z against the background, let the model return torch.cat([-z, z], 1)"
        )
    return outputs


def predicted_classes(module: nn.Module, inputs: Tensor) -> Tensor:
    """The class of each pixel (N, H, W), int64, by the largest logit after resizing to the images' size.

    ``inputs`` (N, C, H, W) lie on the model's device. The model is called without gradients, a few images at a time.
    """
    with torch.no_grad():
        return torch.cat(
            [_at_image_size(class_maps(module, part), part).argmax(1) for part in inputs.split(IMAGES_AT_ONCE)]
        )


def predicted_regions(module: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """The regions (N, H, W), bool, where the model predicts the classes ``targets`` (N,) for images (N, C, H, W).

    UserError for an image without a pixel of its class; the line tells which class is predicted most.
    """
    classes = predicted_classes(module, inputs)
    regions = classes == targets.to(classes.device)[:, None, None]
    missing = next((number for number in range(len(inputs)) if not regions[number].any()), None)
    if missing is not None:
        most = int(classes[missing].flatten().mode().values)
        raise UserError(
            f"the model predicts class {int(targets[missing])} at no pixel of image {missing} (of {_empty(regions)} "
            f"images in all); class {most} is predicted most there; explain another class, a mask or a point"
        )
    return regions


def masked_regions(masks: Tensor, inputs: Tensor) -> Tensor:
    """The regions (N, H, W), bool, of masks (N, H, W), bool or numbers 0 and 1, for images (N, C, H, W).

    UserError for masks of another shape, with other numbers (such as a map of classes) or without a pixel.
    """
    if not isinstance(masks, Tensor) or not ((masks == 0) | (masks == 1)).all():
        came = f"numbers up to {float(masks.max()):g}" if isinstance(masks, Tensor) else type(masks).__name__
        raise UserError(f"masks hold {came}, expected bool or 0 and 1; for a map of classes give masks == CLASS")
    return check_regions(masks.bool(), inputs)


def point_regions(points: Tensor, inputs: Tensor) -> Tensor:
    """The regions (N, H, W), bool, of one pixel each at points (N, 2), integers (row, column), of images (N, C, H, W).

    UserError for a point outside the image.
    """
    points, size = torch.as_tensor(points), inputs.shape[2:]
    if points.shape != (len(inputs), 2) or points.is_floating_point() or points.dtype == torch.bool:
        raise UserError(
            f"points are {points.dtype} {tuple(points.shape)}, expected integers ({len(inputs)}, 2): row and column"
        )
    outside = next(
        (point for point in points.tolist() if not all(0 <= p < s for p, s in zip(point, size, strict=True))), None
    )
    if outside is not None:
        raise UserError(f"point (row, column) {tuple(outside)} lies outside the images of {size[0]} rows x {size[1]}")
    regions = torch.zeros(len(inputs), *size, dtype=torch.bool, device=inputs.device)
    rows, columns = points.to(inputs.device).unbind(1)
    regions[torch.arange(len(inputs), device=inputs.device), rows, columns] = True
    return regions


def check_regions(regions: Tensor, inputs: Tensor) -> Tensor:
    """The regions, if they are bool (N, H, W) for images (N, C, H, W) and none is empty; else UserError."""
    if (
        not isinstance(regions, Tensor)
        or regions.dtype != torch.bool
        or regions.shape != (len(inputs), *inputs.shape[2:])
    ):
        came = f"{regions.dtype} {tuple(regions.shape)}" if isinstance(regions, Tensor) else type(regions).__name__
        raise UserError(f"regions are {came}, expected bool {(len(inputs), *inputs.shape[2:])}, a region of each image")
    if _empty(regions):
        first = int((~regions.flatten(1).any(1)).nonzero()[0])
        raise UserError(
            f"{_empty(regions)} of {len(regions)} regions hold no pixel (the first is of image {first}): a mean over "
            "nothing is no score; leave these images out"
        )
    return regions


def _region_means(maps: Tensor, region: Tensor) -> Tensor:
    """The means (N, K) over regions (N, H, W) of maps (N, K, h, w), as if these were resized to (H, W).

    The sum of resized maps is that of the small maps weighted by the region carried back by the same interpolation, so
    that no map of the image's size is made.
    """
    rows, columns = (_interpolation(maps.shape[axis], region.shape[axis - 1], maps) for axis in (2, 3))
    weights = rows @ region.to(maps.dtype) @ columns.T
    return torch.einsum("nkhw,nhw->nk", maps, weights) / region.sum((1, 2))[:, None]


def _empty(regions: Tensor) -> int:
    return int((~regions.flatten(1).any(1)).sum())


def _at_image_size(maps: Tensor, inputs: Tensor) -> Tensor:
    return F.interpolate(maps, size=inputs.shape[2:], mode="bilinear", align_corners=False)


def _interpolation(small: int, large: int, like: Tensor) -> Tensor:
    """The weight (small, large) of each small place in each large one, in linear interpolation along one axis."""
    impulses = torch.eye(small, dtype=like.dtype, device=like.device)
    return F.interpolate(impulses[None], size=large, mode="linear", align_corners=False)[0]
