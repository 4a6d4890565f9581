"""Compiled models run as they were written, so that hooks on their parts are called."""

import sys
from contextlib import AbstractContextManager, nullcontext

import torch


def as_written() -> AbstractContextManager[None]:
    """Inside, a compiled model runs module by module, with its hooks.

    torch's compiler is loaded only if something was compiled: loading it takes a second.
    """
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
