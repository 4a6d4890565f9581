"""The kinds of inputs: what their axes are, and which kind follows from a shape alone.

A kind is inferred only where a shape has a single usual meaning. Else the user is asked, with the meanings it can have.
"""

from harness.errors import UserError, unknown

AXES = {
    "image": ("N", "C", "H", "W"),
    "table": ("N", "D"),
    "tokens": ("N", "T", "D"),
    "series": ("N", "C", "T"),
    "volume": ("N", "C", "D", "H", "W"),
}
MODALITIES = (*AXES, "other")
OTHER_WORDS = {  # what they are called elsewhere
    "image": ("images", "img", "picture", "pictures", "photo", "photos", "vision"),
    "table": ("tables", "tabular", "features", "csv"),
    "tokens": ("token", "text", "texts", "nlp", "language", "embeddings"),
    "series": ("timeseries", "time_series", "time-series", "time series", "signal", "signals", "audio"),
    "volume": ("volumes", "video", "videos", "voxels", "3d", "mri", "ct"),
}
MOST_CHANNELS = 4  # of an image that may have its channels last: grey, RGB, RGBA


def certain_modality(shape: tuple[int, ...]) -> str:
    """The modality that follows from the shape of one input, without the batch axis.

    UserError with the possible readings, and what to type for each, where there are several.
    """
    came, give = written_shape(shape), "harness.Data(inputs, targets, modality="
    if len(shape) == 1:
        return "table"
    if len(shape) == 2:
        raise UserError(
            f"inputs {came} can be tokens (N, T, D), series (N, C, T) or images without channels (N, H, W): give "
            f'{give}"tokens"), {give}"series"), or images as inputs.unsqueeze(1)'
        )
    if len(shape) == 4:
        raise UserError(
            f"inputs {came} can be volumes or videos (N, C, D, H, W), or something else: give "
            f'{give}"volume"), or {give}"other") where each number is a unit of its own'
        )
    if len(shape) > 4 or not shape:
        raise UserError(
            f'inputs {came} have axes of no known meaning: give {give}"other") where each number is a unit of its own'
        )
    if shape[2] <= MOST_CHANNELS < min(shape[:2]):
        raise UserError(
            f"inputs {came} look like images with their channels last, expected (N, C, H, W): give "
            f'inputs.permute(0, 3, 1, 2), or {give}"image") if they are (N, C, H, W)'
        )
    return "image"


def fitting_modality(modality: str, shape: tuple[int, ...]) -> str:
    """The modality, if it is known and one input of this shape has its axes; else UserError."""
    if modality not in MODALITIES:
        meant = [name for name, words in OTHER_WORDS.items() if str(modality).lower() in words]
        raise unknown("modality", modality, MODALITIES, meant=meant)
    axes = AXES.get(modality)
    if axes is not None and len(axes) != len(shape) + 1:
        without_channels = axes[1] == "C" and len(axes) == len(shape) + 2
        add = "; if only the channel axis is missing, give inputs.unsqueeze(1)" if without_channels else ""
        raise UserError(
            f"inputs are {written_shape(shape)}, expected {len(axes)} axes for modality={modality}: "
            f"({', '.join(axes)}){add}"
        )
    return modality


def written_shape(shape: tuple[int, ...]) -> str:
    """The shape of a batch of inputs, each of this shape, for a message: (N, 3, 8, 8)."""
    return f"({', '.join(map(str, ('N', *shape)))})"
