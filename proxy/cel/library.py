"""Owns which functions every expression may call."""

from . import conversions, extensions, formatting, maths, patterns, sets, strings, texts, times
from .functions import Function

FUNCTIONS: dict[str, Function] = {
    **conversions.FUNCTIONS,
    **times.FUNCTIONS,
    **strings.FUNCTIONS,
    **formatting.FUNCTIONS,
    **maths.FUNCTIONS,
    **sets.FUNCTIONS,
    **patterns.FUNCTIONS,
    **extensions.FUNCTIONS,
    **texts.FUNCTIONS,
}
