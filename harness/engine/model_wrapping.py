"""Wraps models of token ids, of segmentation and of detection into modules with float inputs and outputs (N, K).

The wrapper takes the explained inputs and the carried inputs of each sample: the token ids of a text, the region of an
image to explain, or the box.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from harness.engine.reading import read_inputs, read_item
from harness.engine.several_inputs import Call
from harness.errors import UserError, unknown
from harness.messages import say
from harness.model_outputs import output_tensor
from harness.models.detection import BoxScore, check_boxes, top_detections
from harness.models.segmentation import (
    RegionScore,
    check_regions,
    masked_regions,
    point_regions,
    predicted_classes,
    predicted_regions,
)
from harness.models.token_ids import EmbeddedTokens, check_embedded, check_token_ids, present_tokens
from harness.sources import Data, LoadedModel
from harness.task import one_task

AT_ONCE = 64  # samples that are passed through the model together to find regions, boxes or embeddings
CHECKED_TEXTS = 4  # texts whose outputs on ids and on embeddings are compared
IDS, MASK = "ids", "attention_mask"
# Carried inputs that say what is explained of each image, and do not go to the user's model.
CARRIED_OF_TASK = {"segmentation": ("region",), "detection": ("box", "label")}


@dataclass(frozen=True)
class ModelAndData:
    """A model and data, before or after wrapping.

    call    how the model is called with the explained input
    target  which output is explained: the protocol's ``target``, or ``given`` where wrapping has set the data's targets
    """

    model: LoadedModel
    data: Data
    call: Call
    target: str | int


def wrap_for_explaining(given: ModelAndData, count: int, device: torch.device) -> ModelAndData:
    """The model and data with the wrapper for token ids, segmentation or detection; unchanged for all others.

    The first ``count`` samples are explained. UserError where model and data do not fit together.
    """
    data, told = given.data, one_task(given.model.task, given.data.task)
    if given.model.wording is not None and given.model.wording.carried is not None:
        return _with_ids_of_texts(given, count)
    if isinstance(data.inputs, Tensor) and not data.inputs.is_floating_point():
        return _wrap_token_ids(given, device)
    if told is None or told.name not in CARRIED_OF_TASK:
        return given
    _check_images_alone(data, told.name)
    # The image is the first argument of such a model, whatever its name.
    wrap = _wrap_segmentation if told.name == "segmentation" else _wrap_detection
    return wrap(replace(given, call=Call()), count, device)


def carried_for_task(model: LoadedModel, data: Data) -> tuple[str, ...]:
    """The names of carried inputs that the task takes and the user's model does not."""
    told = one_task(model.task, data.task)
    return () if told is None else CARRIED_OF_TASK.get(told.name, ())


def _check_images_alone(data: Data, task: str) -> None:
    """UserError for inputs beside the images, which models of these tasks are not called with."""
    other = next((name for name in data.carried if name not in CARRIED_OF_TASK[task]), None)
    if other is not None:
        raise UserError(
            f"input {other!r} goes along with each image, but task={task} is for models of images alone; give a module "
            "whose forward takes the images and has the others in it"
        )


def _for_parts_of_inputs(given: ModelAndData, count: int, device: torch.device, work: Callable) -> list[Any]:
    """The results of ``work(inputs, where)`` for the first samples, some at a time."""
    slices = [slice(start, min(start + AT_ONCE, count)) for start in range(0, count, AT_ONCE)]
    return [work(read_inputs(given.model, given.data, where).to(device), where) for where in slices]


def _filled_up(values: Tensor, count: int) -> Tensor:
    """Values of the first samples, with zeros for the others of ``count``, which are not explained."""
    return torch.cat([values, values.new_zeros(count - len(values), *values.shape[1:])])


def _wrap_token_ids(given: ModelAndData, device: torch.device) -> ModelAndData:
    """A classifier of token ids, explained at its embeddings; padding and special tokens are no units."""
    model, data, ids = given.model, given.data, given.data.inputs
    if ids.dim() != 2 or not any(isinstance(part, nn.Embedding) for part in model.module.modules()):
        raise UserError(
            f"inputs are {ids.dtype} {tuple(ids.shape)}; token ids (N, T) are explained at the model's nn.Embedding, "
            "which this model does not have; give other inputs as floats: inputs.float()"
        )
    carried = data.carried
    unnamed = next((name for name in carried if not isinstance(name, str)), None)
    if unnamed is not None:
        raise UserError(f"input {unnamed} beside token ids has no name; give inputs as a dict: {{'input_ids': ...}}")
    embedded = EmbeddedTokens(model.module, model.embedding)
    first = lambda values, count: values[:count].to(device)
    some = lambda count: {name: first(values, count) for name, values in carried.items()}
    layer = embedded.layer(first(check_token_ids(ids), 1), **some(1))
    special = data.special if data.special is not None else _special_ids(model.module, layer, MASK in carried)
    present = present_tokens(ids, carried.get(MASK), special) if data.present is None else data.present
    checked = min(len(ids), CHECKED_TEXTS)
    outputs_of = lambda returned: output_tensor(returned, model.output, checked)
    check_embedded(embedded, first(ids, checked), first(present, checked), outputs_of, **some(checked))
    inputs = torch.cat([embedded.embeddings(part.to(device)).to(ids.device) for part in ids.split(AT_ONCE)])
    fillers = model.fillers or data.fillers or _pad_filler(embedded, model.module, device)
    model = replace(model, module=embedded, fillers=fillers)
    carried = {IDS: _one_id_for_all_units(ids, present), **carried}
    data = replace(data, inputs=inputs, carried=carried, present=present, modality=data.modality or "tokens")
    return ModelAndData(model, data, Call(), given.target)


def _with_ids_of_texts(given: ModelAndData, count: int) -> ModelAndData:
    """Texts, explained at their embeddings: each text's token ids and attention mask go along with it."""
    data, wording = given.data, given.model.wording
    texts = [read_item(data, index, wording.carried) for index in range(count)]
    carried = {name: torch.stack([text[name] for text in texts]) for name in texts[0]}
    present = torch.stack([wording.present(data.inputs[index]) for index in range(count)])
    carried[IDS] = _one_id_for_all_units(carried[IDS], present)
    carried = {name: _filled_up(values, len(data)) for name, values in carried.items()}
    return replace(given, data=replace(data, carried={**data.carried, **carried}))


def _one_id_for_all_units(ids: Tensor, present: Tensor) -> Tensor:
    """The ids (N, T) with one and the same id at all positions that are units.

    Embeddings take the place of these ids, which the model reads in no other way (``check_embedded``). So texts with
    the same pattern of units carry the same, and are explained together.
    """
    return torch.where(present.bool(), ids[present.bool()][0], ids)


def _special_ids(module: nn.Module, layer: nn.Module, masked: bool) -> tuple[int, ...]:
    """The ids of special tokens that the configuration of a Hugging Face model names, or its layer of embeddings.

    It is said which these are, and also that there are none, which makes all positions units that are not ``masked``.
    """
    config = getattr(module, "config", None)
    names = ("pad", "bos", "eos", "cls", "sep")
    found = {name: getattr(config, f"{name}_token_id", None) for name in names}
    ids = {name: number for name, number in found.items() if isinstance(number, int)}
    if getattr(layer, "padding_idx", None) is not None:
        ids.setdefault("pad", layer.padding_idx)
    if not ids:
        units = "that attention_mask does not leave out is" if masked else "is"
        say(
            f"no special tokens are known, so that each token {units} a unit (others: harness.Data(..., special=(...)))"
        )
    else:
        say(
            "tokens that are no units, as the model names them: "
            + ", ".join(f"{name} {number}" for name, number in ids.items())
            + " (others: harness.Data(..., special=(...)))"
        )
    return tuple(dict.fromkeys(ids.values()))


def _pad_filler(embedded: EmbeddedTokens, module: nn.Module, device: torch.device) -> dict[str, Tensor] | None:
    """The embedding of the padding token, which can replace a removed token; None if it is not known."""
    pad = getattr(getattr(module, "config", None), "pad_token_id", None)
    if not isinstance(pad, int):
        return None
    return {"pad": embedded.embeddings(torch.tensor([[pad]], device=device))[0, 0].cpu()}


def _wrap_segmentation(given: ModelAndData, count: int, device: torch.device) -> ModelAndData:
    """Class maps, explained by the mean logit of a class over a region: that of the prediction, a mask or a point."""
    data, module = given.data, given.model.module
    region = data.carried.get("region", "prediction") if data.region is None else data.region
    targets = _explained_classes(given, count, device)

    def regions_of(inputs: Tensor, where: slice) -> Tensor:
        if isinstance(region, str) and region == "prediction":
            return predicted_regions(module, inputs, targets[where]).cpu()
        if isinstance(region, str) and region == "masks":
            if data.masks is None:
                raise UserError("region is masks, but the data has none: harness.Data(..., masks=...)")
            return masked_regions(data.masks[where], inputs.cpu())
        if isinstance(region, str):
            raise unknown("region", region, ("prediction", "masks"))
        values = torch.as_tensor(region)[where]
        return point_regions(values, inputs.cpu()) if values.dim() == 2 else check_regions(values, inputs.cpu())

    regions = torch.cat(_for_parts_of_inputs(given, count, device, regions_of))
    carried = {**data.carried, "region": _filled_up(regions, len(data))}
    data = replace(data, targets=_filled_up(targets, len(data)), labels=None, carried=carried)
    return ModelAndData(replace(given.model, module=RegionScore(module)), data, given.call, "given")


def _explained_classes(given: ModelAndData, count: int, device: torch.device) -> Tensor:
    """The class (count,) that is explained of each of the first images of a segmentation model."""
    data, choice = given.data, given.target
    if data.labels is not None and choice != "label":
        say(f"labels are not used: task=segmentation explains the classes of protocol.target={choice}")
    answers = data.labels if choice == "label" and data.labels is not None else data.targets
    if isinstance(choice, int):
        return torch.full((count,), choice)
    if choice in ("given", "label") and answers is not None:
        return answers[:count].long().cpu()
    say("explained is the class that is predicted at most pixels of each image (others: targets=)")
    modes = lambda inputs, where: predicted_classes(given.model.module, inputs).flatten(1).mode().values.cpu()
    return torch.cat(_for_parts_of_inputs(given, count, device, modes))


def _wrap_detection(given: ModelAndData, count: int, device: torch.device) -> ModelAndData:
    """Detections, explained by one box of each image: its class's score times its overlap with the box."""
    data, module = given.data, given.model.module
    if {"box", "label"} <= data.carried.keys():
        check = lambda inputs, where: check_boxes(
            data.carried["box"][where], data.carried["label"][where], inputs.cpu()
        )
        boxes, labels = zip(*_for_parts_of_inputs(given, count, device, check), strict=True)
    else:
        top = _for_parts_of_inputs(given, count, device, lambda inputs, where: top_detections(module, inputs))
        boxes, labels = [each.box.cpu() for each in top], [each.label.cpu() for each in top]
        say(
            "explained is the detection of the highest score in each image (others: carried={'box': ..., 'label': ...})"
        )
    found = {"box": _filled_up(torch.cat(boxes), len(data)), "label": _filled_up(torch.cat(labels), len(data))}
    targets = torch.zeros(len(data), dtype=torch.long)
    data = replace(data, targets=targets, labels=None, carried={**data.carried, **found})
    return ModelAndData(replace(given.model, module=BoxScore(module)), data, given.call, "given")
