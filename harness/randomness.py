"""Random numbers that depend on the sample and the seed only.

A draw depends on the seed, the name of its use and the sample's own content. It does not depend on the batch, the
order of the samples, the device or the explainer. So all explainers are scored with the same noise, and a sample has
the same score alone and in a batch.

The generator is counter-based (SplitMix64: Steele, Lea and Flood 2014, doi 10.1145/2660193.2660195): element i of a
stream is a function of (key, i) alone. It is computed for all samples at once, on their device, with the same bits on
every device.
"""

import hashlib
import math

import torch
from torch import Tensor


def _signed(value: int) -> int:
    """The signed number with the bits of an unsigned 64-bit number; torch's int64 can hold it."""
    return value - (1 << 64) if value >> 63 else value


_STEP, _FIRST, _SECOND = (_signed(word) for word in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def sample_keys(inputs: Tensor) -> Tensor:
    """One int64 key per sample (N,), a hash of the sample's own values."""
    rows = (inputs.detach().cpu().contiguous().flatten(1).float() + 0.0).numpy()  # -0.0 is 0.0
    digests = (hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows)
    return torch.tensor([int.from_bytes(digest, "little", signed=True) for digest in digests], device=inputs.device)


def stream(keys: Tensor, seed: int, use: str) -> Tensor:
    """The keys (N,) for one use of randomness ("ties", "rise masks", ...) and one seed."""
    digest = hashlib.blake2b(f"{seed}/{use}".encode(), digest_size=8).digest()
    return _mix(keys ^ int.from_bytes(digest, "little", signed=True))


def batch_seed(keys: Tensor, seed: int) -> int:
    """A seed in [0, 2**64) for code that draws for a whole batch at once: a hash of the seed and the samples' keys."""
    digest = hashlib.blake2b(f"{seed}/batch/".encode() + keys.cpu().numpy().tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def seed_torch(seed: int) -> None:
    """As ``torch.manual_seed``, without what takes it half a millisecond where there is no accelerator.

    For each kind that torch was built for it formats the stack of the call, to be told if that kind is initialised
    later. Explainers are called often enough that this was a tenth of the time of small models.
    """
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def bits(keys: Tensor, count: int, start: int = 0) -> Tensor:
    """Elements start .. start+count of each key's stream: (N, count) int64, all 64 bits random."""
    return element(keys[:, None], torch.arange(start, start + count, device=keys.device))


def element(keys: Tensor, index: Tensor) -> Tensor:
    """Element ``index`` of each key's stream, int64; the two are broadcast.

    The result can serve as keys, one for each pair of sample and draw.
    """
    return _mix(keys + (index + 1) * _STEP)


def skip(keys: Tensor, count: Tensor) -> Tensor:
    """The keys of the same streams without their first ``count`` (N,) elements, a number for each row."""
    return keys + count * _STEP


def uniform(keys: Tensor, *shape: int, start: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Uniform draws in [0, 1), (N, *shape); ``start`` is the number of draws that are skipped first."""
    digits = 53 if dtype == torch.float64 else 24
    words = bits(keys, math.prod(shape), start)
    return (_shift_right(words, 64 - digits).to(dtype) * 2.0**-digits).view(len(keys), *shape)


def normal(keys: Tensor, *shape: int, start: int = 0) -> Tensor:
    """Standard normal draws (N, *shape), float32, by the Box-Muller transform."""
    count = math.prod(shape)
    first, second = uniform(keys, 2, count, start=2 * start, dtype=torch.float64).unbind(1)
    draws = (-2 * torch.log1p(-first)).sqrt() * torch.cos(2 * math.pi * second)
    return draws.float().view(len(keys), *shape)


def integers(keys: Tensor, high: int, *shape: int, start: int = 0) -> Tensor:
    """Integers in [0, high), (N, *shape)."""
    return (uniform(keys, *shape, start=start, dtype=torch.float64) * high).long()


def permutations(keys: Tensor, draws: int, length: int, start: int = 0) -> Tensor:
    """Random orders (N, draws, length) of range(length)."""
    return uniform(keys, draws, length, start=start * length, dtype=torch.float64).argsort(dim=-1)


def subsets(keys: Tensor, draws: int, size: int, of: int, start: int = 0) -> Tensor:
    """Random subsets of exactly ``size`` of ``of`` elements: (N, draws, of) bool, all subsets equally likely."""
    if size >= of:
        return torch.ones(len(keys), draws, of, dtype=torch.bool, device=keys.device)
    if size <= 0:
        return torch.zeros(len(keys), draws, of, dtype=torch.bool, device=keys.device)
    values = uniform(keys, draws, of, start=start * of, dtype=torch.float64)
    return values <= values.kthvalue(size, dim=-1, keepdim=True).values


def _shift_right(words: Tensor, by: int) -> Tensor:
    """Shift right and fill with zeros; torch's shift of a signed number fills with the sign bit."""
    return (words >> by) & ((1 << (64 - by)) - 1)


def _mix(words: Tensor) -> Tensor:
    words = (words ^ _shift_right(words, 30)) * _FIRST
    words = (words ^ _shift_right(words, 27)) * _SECOND
    return words ^ _shift_right(words, 31)
