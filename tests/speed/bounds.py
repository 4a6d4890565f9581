"""Small nets, their bare forward passes, and metrics run on prepared tensors: what the ratios are made of."""

import ctypes
import threading
import time

import torch
from torch import nn

from harness.api import make_batch, samples_of
from harness.engine.score import score_batch
from harness.predictor import Predictor
from harness.registry import METRICS
from harness.sources import Data

BATCHES = (8, 16, 32, 64, 128, 256)


def small_cnn():
    """A CNN for 28 x 28 digits."""
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(800, 10))


def mlp():
    """An MLP on ten columns."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))


def ready(model, device):
    """The model in eval mode, without parameter gradients, on the device."""
    return model.eval().requires_grad_(False).to(device)


class Work:
    """Inputs with random attributions for a model, to be scored again and again."""

    def __init__(self, model, shape, count, device):
        torch.manual_seed(0)
        self.model, self.inputs = model, torch.randn(count, *shape, device=device)
        self.targets = torch.zeros(count, dtype=torch.long, device=device)
        self.attributions = torch.randn(count, *shape[1:], device=device)

    def scoring(self, predictor, metric, **options):
        """A function that scores once, from nothing."""
        entry = METRICS[metric]
        options = entry.complete(options)

        def score():
            samples = samples_of(self.model, self.inputs, self.targets, predictor=predictor, value_range=(-3.0, 3.0))
            return score_batch(entry, options, make_batch(samples, self.attributions, None))

        return score

    def evaluations(self, metric, **options):
        """Model evaluations of one scoring."""
        predictor = Predictor(self.model)
        self.scoring(predictor, metric, **options)()
        return predictor.forwards

    def bare(self, batch, rows=256):
        """A function that passes ``rows`` inputs forward and does nothing else."""
        inputs = self.inputs[torch.arange(rows, device=self.inputs.device) % len(self.inputs)]

        def forward():
            with torch.inference_mode():
                for part in inputs.split(batch):
                    self.model(part)

        return forward


class Noise:
    """Noise photos made when they are asked for, so that the data themselves take no memory."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index >= self.count:
            raise IndexError(index)
        return torch.rand(3, 224, 224, generator=torch.Generator().manual_seed(index))


def noise_photos(*, count=200):
    """A data set of ``count`` noise photos."""
    return Data(Noise(count), modality="image", value_range=(0.0, 1.0))


def coarse_model():
    """A classifier of photos that costs next to nothing."""
    torch.manual_seed(0)
    return ready(nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 10)), "cpu")


def print_peak_memory(folder, count, device):
    """Run a block on ``count`` noise photos and print the MB that it took beyond what was in use before it: on the
    heap, and in resident pages.

    For a process of its own: memory that one run leaves to the allocator would hide what the next one takes. Cost
    metrics reset the peak that the system keeps, so the sizes are watched from a thread. On a GPU both are what torch
    has reserved there.
    """
    from harness.jobs.plan import Plan
    from harness.jobs.runner import run_plan

    plan = Plan.of(
        {
            "model": "bounds:coarse_model",
            "run": f"of{count}",
            "dataset": {"name": "bounds:noise_photos", "count": count},
            "explainer": ["saliency", "random"],
            "metric": {"srg": {"steps": 4}, "sensitivity_n": {"sizes": 2, "draws": 4}},
            "runtime": {"runs": folder, "quiet": True, "lease": "share", "sheet": 0, "chunk": 32, "device": device},
        }
    )
    on_gpu = lambda: [torch.cuda.memory_reserved() / 2**20] * 2
    used = on_gpu if device == "cuda" else lambda: [_on_the_heap(), _resident()]
    before, peak, done = used(), [0.0, 0.0], threading.Event()

    def watch():
        while not done.is_set():
            peak[:] = map(max, peak, used())
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    run_plan(plan)
    done.set()
    watcher.join()
    print(*(largest - first for largest, first in zip(peak, before, strict=True)))


class HeapFacts(ctypes.Structure):
    """What glibc tells of its heap (``struct mallinfo2`` of malloc.h), in bytes."""

    NAMES = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in NAMES.split()]


def _on_the_heap():
    """Memory in use, MB: what has been asked of the C library and not been freed."""
    ask = ctypes.CDLL(None).mallinfo2
    ask.restype = HeapFacts
    facts = ask()
    return (facts.uordblks + facts.hblkhd) / 2**20


def _resident():
    """Resident size of this process, MB, without pages of files, which the system takes back when it needs them."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) / 2**10
