"""Owns the proof of which functions there are."""

from proxy.cel.library import FUNCTIONS


def test_the_documented_functions_are_there() -> None:
    """What the policy language promises can be called."""
    promised = (
        "size contains startsWith endsWith matches int uint double string bytes bool duration timestamp type dyn "
        "charAt indexOf lastIndexOf join lowerAscii upperAscii replace split substring trim reverse format "
        "strings.quote math.greatest math.least math.ceil math.floor math.round math.trunc math.abs math.sign "
        "math.sqrt math.isNaN math.isInf math.isFinite math.bitAnd math.bitOr math.bitXor math.bitNot "
        "math.bitShiftLeft math.bitShiftRight sets.contains sets.equivalent sets.intersects getFullYear getMonth "
        "getDate getDayOfMonth getDayOfWeek getDayOfYear getHours getMinutes getSeconds getMilliseconds "
        "default num json glob containsWord containsAny urls hostIn sum hash similar"
    )

    assert set(promised.split()) == set(FUNCTIONS)


def test_every_function_can_be_called_some_way() -> None:
    """A function is a method, plain, or both; and its fewest arguments are not more than its most."""
    for name, function in FUNCTIONS.items():
        least, most = function.arity()

        assert (name, True) == (name, (function.method or function.plain) and 1 <= least <= most)
