"""Keys: the canonical text of a call's arguments. How each type is spelled stands in `zoocache.keys.text`."""

from __future__ import annotations

from math import isnan
from typing import Any

from zoocache.anatomy import Parts, locate, parts
from zoocache.digests import blake2b
from zoocache.errors import UnkeyableArgument
from zoocache.keys.text import TABLE, NoText, text_of
from zoocache.keys.tokens import known_token, token_of

_new_hash = blake2b(digest_size=16, person=b"key").copy
_WAY_OUT = "give it a __cache_key__ method, or pass something that has one"

FRONT_TYPES: frozenset[type] = frozenset({int, str, bytes, bool, type(None)})
"""Types of which two values of the same exact type that are `==` have one key, so that they may be a dict's keys."""


def fits_front(value: object) -> bool:
    """Whether a raw argument may stand, with its exact type, for its text in a dict: `FRONT_TYPES` and most floats.

    Not 0.0, which equals -0.0 but has another key, and not nan, which equals nothing.
    """
    return type(value) in FRONT_TYPES or (type(value) is float and value != 0.0 and not isnan(value))


def encode(value: Any) -> str:
    """The canonical text of a value: exact in type and value, the same in every process.

    Args:
        value: any keyable value; see `zoocache.keys.text`.

    Returns:
        Its text, which tells where it ends.

    Raises:
        UnkeyableArgument: it, or something in it, has no stable key.
    """
    try:
        return text_of(value)
    except (NoText, RecursionError):
        raise _refusal("value", value) from None


def encode_call(function: str, names: tuple[str, ...], values: tuple[Any, ...]) -> str:
    """The canonical text of a call's bound arguments.

    Args:
        function: the function as an error names it, such as `get_user()`.
        names: the names of the parameters.
        values: the arguments in the same order, defaults filled in; a tuple for `*args`, a dict for `**kwargs`.

    Returns:
        One text for the call, without the function's identity.

    Raises:
        UnkeyableArgument: an argument has no stable key; the error names the function, the parameter, and the path to
            the part at fault.
    """
    try:
        texts = [TABLE[type(value)](value, 0) for value in values]
    except (NoText, RecursionError):
        raise _call_refusal(function, names, values) from None
    return f"{','.join(names)}({','.join(texts)})"


def encode_self(receiver: Any, function: str = "") -> str:
    """The text that stands for the receiver of a method.

    Args:
        receiver: the object, or the class for a class method.
        function: the method as an error names it.

    Returns:
        Its canonical text if it has one by value (a dataclass, an Enum member, a class, a string, an object with
        `__cache_key__`); else a token that is random for each instance and held as long as it lives, so that two
        instances never share a key. Never its `__eq__` or `__hash__`. Forked children inherit the tokens.

    Raises:
        UnkeyableArgument: it has neither, because it cannot be weakly referenced, or its `__cache_key__` returned
            something without a stable key.
    """
    token = known_token(receiver)
    if token is not None and not isinstance(receiver, type):
        return token
    try:
        return text_of(receiver)
    except (NoText, RecursionError) as error:
        if hasattr(type(receiver), "__cache_key__"):
            raise _refusal(_owner(function, "self"), receiver) from None
        return _token(receiver, function, error)


def digest(text: str) -> bytes:
    """16 bytes of BLAKE2b (RFC 7693) that stand for a full key text, lone surrogates included.

    Personalised, because keys share a table of numbers with the paths of tags (`zoocache.deps`), and a text may be both
    a key that somebody set and a tag.
    """
    hasher = _new_hash()
    hasher.update(text.encode("utf-8", "surrogatepass"))
    return hasher.digest()


def _token(receiver: Any, function: str, _: BaseException) -> str:
    try:
        return token_of(receiver)
    except TypeError:
        owner, kind = _owner(function, "self"), type(receiver).__name__
        raise UnkeyableArgument(
            f"{owner} ({kind}) has no stable key and cannot be weakly referenced, so no token can be tied to its life; "
            "give its class a __cache_key__ method, or add '__weakref__' to its __slots__"
        ) from None


def _owner(function: str, name: str) -> str:
    return f"{function}: argument {name!r}" if function else f"argument {name!r}"


def _reason(value: Any) -> str | None:
    """Why a value has no text; None if it has one."""
    try:
        text_of(value)
    except NoText as error:
        return error.why
    except RecursionError:
        return "it is nested too deeply, or contains itself"
    return None


def _key_parts(value: Any) -> Parts:
    """The parts that a key is made of: an object that makes its own key is a whole."""
    return iter(()) if hasattr(type(value), "__cache_key__") else parts(value)


def _call_refusal(function: str, names: tuple[str, ...], values: tuple[Any, ...]) -> UnkeyableArgument:
    name, value = next(pair for pair in zip(names, values, strict=True) if _reason(pair[1]) is not None)
    return _refusal(_owner(function, name), value)


def _refusal(owner: str, value: Any) -> UnkeyableArgument:
    path, culprit = locate(value, lambda part: _reason(part) is not None, _key_parts)
    why = _reason(culprit)
    because = f" ({why})" if why else ""
    return UnkeyableArgument(f"{owner}{path} ({type(culprit).__name__}) has no stable key{because}; {_WAY_OUT}")
