"""Names that people type for an item and that it does not have here: what they mean."""

import re
from collections.abc import Iterable

from harness.errors import UserError, unknown

OWN_MODEL = "python model.factory=FILE:FUNCTION"
# Kind -> name -> what to choose. A text with = in it is typed as it stands.
OTHER_NAMES = {
    "dataset": {
        **dict.fromkeys(("csv", "parquet", "tsv", "excel", "dataframe", "pandas", "tabular", "table_file"), "table"),
        **dict.fromkeys(("folder", "images", "imagefolder", "image", "photo_folder", "pictures"), "image_folder"),
        **dict.fromkeys(("txt", "texts", "text_file"), "text"),
        **dict.fromkeys(("numpy", "npz", "npy", "array", "tensors", "hdf5", "h5"), "arrays"),
        **dict.fromkeys(("hf", "hub", "datasets"), "huggingface"),
        **dict.fromkeys(("mnist", "cifar10", "fashion_mnist"), "torchvision"),
        **dict.fromkeys(("wdbc", "cancer"), "breast_cancer"),
    },
    "model": {
        **dict.fromkeys(("torch", "pytorch", "own", "mine", "custom", "module", "factory", "function"), OWN_MODEL),
        **dict.fromkeys(("onnx", "torchscript", "jit", "pt2", "exported_program"), "exported"),
        **dict.fromkeys(("hf", "hub", "transformers", "bert", "gpt2", "vit"), "huggingface"),
    },
    "explainer": {
        **dict.fromkeys(("ig", "integrated", "integratedgradients"), "integrated_gradients"),
        **dict.fromkeys(("gradcam", "cam"), "grad_cam"),
        **dict.fromkeys(("gradcam++", "gradcampp", "grad_cam++"), "grad_cam_pp"),
        **dict.fromkeys(("scorecam",), "score_cam"),
        **dict.fromkeys(("layercam",), "layer_cam"),
        **dict.fromkeys(("ablationcam",), "ablation_cam"),
        **dict.fromkeys(("smoothgradcampp", "smooth_grad_cam_pp", "smoothgradcam++"), "smoothgrad_cam_pp"),
        **dict.fromkeys(("fullgrad",), "full_grad"),
        **dict.fromkeys(("blurig", "blur_integrated_gradients"), "blur_ig"),
        **dict.fromkeys(("attcat",), "att_cat"),
        **dict.fromkeys(("vitcx",), "vit_cx"),
        **dict.fromkeys(("chefer", "transformer_explainability"), "transformer_attribution"),
        **dict.fromkeys(("shap", "kernelshap"), "kernel_shap"),
        **dict.fromkeys(("gradient_shap", "gradientshap", "gradshap"), "expected_gradients"),
        **dict.fromkeys(("deeplift",), "deep_lift"),
        **dict.fromkeys(("deep_shap", "deepshap", "deepliftshap"), "deep_lift_shap"),
        **dict.fromkeys(("smooth_grad",), "smoothgrad"),
        **dict.fromkeys(("vanilla_gradient", "grad", "gradients_map"), "gradient"),
        **dict.fromkeys(("gradient_x_input", "gradientxinput", "grad_x_input", "inputxgradient"), "input_x_gradient"),
        **dict.fromkeys(("guided_backpropagation", "guidedbackprop"), "guided_backprop"),
        **dict.fromkeys(("deconv", "deconvolution"), "deconvnet"),
        **dict.fromkeys(("ablation",), "feature_ablation"),
        **dict.fromkeys(("sliding_window",), "occlusion"),
        **dict.fromkeys(("rollout",), "attention_rollout"),
        **dict.fromkeys(("sobol",), "sobol_attribution"),
        **dict.fromkeys(("hsic",), "hsic_attribution"),
        **dict.fromkeys(("extremal_perturbations", "extremalperturbation"), "extremal_perturbation"),
        **dict.fromkeys(("dynamask", "dynamic_mask", "dynamic_masks"), "dyna_mask"),
        **dict.fromkeys(("extr_mask", "extremal_mask", "extremalmask"), "extrmask"),
        **dict.fromkeys(("anchor",), "anchors"),
        **dict.fromkeys(("dice", "counterfactual"), "counterfactuals"),
    },
    "metric": {
        **dict.fromkeys(("pixel_flipping", "pixelflipping"), "deletion"),
        **dict.fromkeys(("region_perturbation", "regionperturbation"), "aopc"),
        **dict.fromkeys(("faithfulness", "faith_corr"), "faithfulness_correlation"),
        **dict.fromkeys(("sensitivityn",), "sensitivity_n"),
        **dict.fromkeys(("pointinggame", "pointing"), "pointing_game"),
        **dict.fromkeys(("stability", "lipschitz"), "local_lipschitz"),
        **dict.fromkeys(("sensitivity",), "max_sensitivity"),
        **dict.fromkeys(("randomisation", "randomization", "model_randomization"), "parameter_randomization"),
        **dict.fromkeys(("sparsity", "gini"), "sparseness"),
        **dict.fromkeys(("entropy",), "complexity"),
        **dict.fromkeys(("time", "seconds", "runtime", "speed"), "seconds_per_sample"),
    },
}
ARCHITECTURES = re.compile(
    r"(alexnet|vgg|resnet|wide_resnet|resnext|densenet|inception|googlenet|mobilenet|efficientnet|convnext|regnet|vit_|"
    r"swin|squeezenet|shufflenet|mnasnet)[\w.]*"
)


def meant_by(kind: str, name: str) -> list[str]:
    """What is meant by this name of an item, as it is typed; empty if it is not known."""
    plain = name.lower().replace("-", "_").replace(" ", "_")
    if kind == "model" and ARCHITECTURES.fullmatch(plain):
        return [f"model=torchvision model.architecture={name}"]
    meant = OTHER_NAMES.get(kind, {}).get(plain)
    return [] if meant is None else [meant]


def unknown_item(kind: str, name: object, choices: Iterable[str]) -> UserError:
    """The error for an unknown item: what is meant, or the nearest names, and the command that lists all."""
    return unknown(kind, name, choices, f"harness list {kind}s", meant_by(kind, str(name)))
