"""Immutable values with named fields, whose classes cost next to nothing to define.

As `dataclasses.dataclass(frozen=True)`, without the code that it generates: a quarter of a
millisecond for each class, at each start of the interpreter, and there are sixty kinds of steps.
"""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn, dataclass_transform


@dataclass_transform(frozen_default=True)
class Value:
    """What is told apart by its class and fields: the inherited, then the annotated ones."""

    names: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        own = (
            name
            for name, annotation in cls.__annotations__.items()
            if not annotation.startswith("ClassVar")
        )
        cls.names = (*cls.names, *own)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        names = self.names
        given = dict(zip(names, args, strict=False)) | kwargs
        if len(given) < len(args) + len(kwargs):
            raise TypeError(f"{type(self).__name__} takes {', '.join(names)}, each once")
        for name in given.keys() ^ names if len(given) != len(names) or kwargs else ():
            if name in given or not hasattr(type(self), name):
                wrong = "has no" if name in given else "needs a"
                raise TypeError(f"{type(self).__name__} {wrong} {name}")
        self.__dict__.update(given)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"cannot delete field {name!r}")

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.names)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Value) or other.__class__ is not self.__class__:
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.names)
        return f"{type(self).__name__}({fields})"
