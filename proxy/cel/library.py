"""Owns which functions every expression may call."""

from . import conversions, extensions, patterns, strings, times
from .functions import Function

FUNCTIONS: dict[str, Function] = {
    **conversions.FUNCTIONS,
    **times.FUNCTIONS,
    **strings.FUNCTIONS,
    **patterns.FUNCTIONS,
    **extensions.FUNCTIONS,
}
