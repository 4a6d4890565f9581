"""The C library's memory allocator on a CPU.

By default glibc hands every large block back to the kernel as soon as it is freed, and the next layer's output faults
its pages in again: on two cores that took a third to a half of EfficientNet-Lite0's time at batches of 16 and 32.
"""

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # names of mallopt's settings in malloc.h
LARGEST_REUSED = 2**30  # of a block that is kept, and of freed memory at the heap's end


def keep_freed_memory() -> bool:
    """Let this process keep freed blocks for its next ones; False where the C library is not glibc."""
    libc = _glibc()
    return libc is not None and all(libc.mallopt(what, LARGEST_REUSED) for what in (MMAP_THRESHOLD, TRIM_THRESHOLD))


def give_back_freed_memory() -> None:
    """Hand what has been freed to the kernel now, so that the resident size is what is in use."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
