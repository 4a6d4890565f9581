"""Finds the module that defines each item, by searching the text of the modules.

Importing or parsing all of them takes seconds, and a command needs few. One ``@kind(...)`` stands above a function. It
gives ``name="..."``, or the item has the function's name. A test compares what is found with the registry.
"""

import importlib.util
import pkgutil
import re
from collections.abc import Mapping
from functools import cache

from harness.source_values import source_of_module

GIVEN_NAME = re.compile(r'\bname="(\w+)"')


@cache
def modules_of_items(kind: str, package: str) -> Mapping[str, str]:
    """Name of an item -> full name of its module, for all functions in a package with the decorator ``@kind(...)``."""
    decorated = re.compile(rf"^@{kind}\((.*?)^def (\w+)\(", re.DOTALL | re.MULTILINE)
    found = {}
    spec = importlib.util.find_spec(package)
    for module in pkgutil.iter_modules(spec.submodule_search_locations):
        full_name = f"{package}.{module.name}"
        for arguments, function in decorated.findall(source_of_module(full_name).text):
            given = GIVEN_NAME.search(arguments)
            found[given[1] if given else function] = full_name
    return found
