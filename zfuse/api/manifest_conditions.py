"""Which arrays and dimensions a setting about manifests is meant for."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from zfuse.api.nested import nest


@dataclass(frozen=True, slots=True, repr=False)
class _Condition:
    """A condition: its name, and what it takes.

    The value is a regular expression, other conditions, a range, or None.
    """

    name: str
    value: Any = None

    @classmethod
    def or_conditions(cls, conditions: list[Self]) -> Self:
        """Return the condition that one of *conditions* is fulfilled."""
        return cls("or", tuple(conditions))

    @classmethod
    def and_conditions(cls, conditions: list[Self]) -> Self:
        """Return the condition that all of *conditions* are fulfilled."""
        return cls("and", tuple(conditions))

    @classmethod
    def path_matches(cls, regex: str) -> Self:
        """Return the condition that the array's whole path matches."""
        return cls("path_matches", regex)

    @classmethod
    def name_matches(cls, regex: str) -> Self:
        """Return the condition that the array's name matches."""
        return cls("name_matches", regex)

    def __or__(self, other: Self) -> Self:
        return self.or_conditions([self, other])

    def __and__(self, other: Self) -> Self:
        return self.and_conditions([self, other])

    def __repr__(self) -> str:
        match self.value:
            case None:
                told = ""
            case str(regex):
                told = f'"{regex}"'
            case (int() | None, int() | None) as bounds:
                told = ", ".join(map(str, bounds))
            case conditions:
                told = str(list(conditions))
        name = f"{self.name}_conditions" if self.name in {"or", "and"} else self.name
        return f"{type(self).__name__}.{name}({told})"

    def to_values(self) -> Any:  # noqa: ANN401 - JSON
        """Return the condition as a repository's config stores it."""
        match self.name:
            case "or" | "and":
                return {self.name: [condition.to_values() for condition in self.value]}
            case "path_matches" | "name_matches":
                return {self.name: {"regex": self.value}}
            case "num_refs":
                start, stop = self.value
                return {"num_refs": {"from": _bound("Included", start), "to": _excluded(stop)}}
            case name:
                return name

    @classmethod
    def from_values(cls, values: Any) -> Self:  # noqa: ANN401 - JSON
        """Read what ``to_values`` returned."""
        if not isinstance(values, dict):
            return cls(str(values))
        [(name, value)] = values.items()
        match name:
            case "or" | "and":
                return cls(name, tuple(map(cls.from_values, value)))
            case "num_refs":
                return cls(name, (_number(value.get("from")), _number(value.get("to"))))
            case _:
                return cls(name, value["regex"])


def _bound(kind: str, number: int | None) -> Any:  # noqa: ANN401 - JSON
    return "Unbounded" if number is None else {kind: number}


def _excluded(number: int | None) -> Any:  # noqa: ANN401 - JSON
    return _bound("Excluded", number)


def _number(bound: Any) -> int | None:  # noqa: ANN401 - JSON
    return next(iter(bound.values())) if isinstance(bound, dict) else None


class ManifestPreloadCondition(_Condition):
    """Which manifests are loaded before they are asked for."""

    __slots__ = ()

    @staticmethod
    def num_refs(from_refs: int | None, to_refs: int | None) -> "ManifestPreloadCondition":
        """Return the condition that a manifest has from *from_refs* to below *to_refs* chunks."""
        return ManifestPreloadCondition("num_refs", (from_refs, to_refs))

    @staticmethod
    def true() -> "ManifestPreloadCondition":
        """Return the condition that is always fulfilled."""
        return ManifestPreloadCondition("true")

    @staticmethod
    def false() -> "ManifestPreloadCondition":
        """Return the condition that never is."""
        return ManifestPreloadCondition("false")


class ManifestSplitCondition(_Condition):
    """Which arrays are split in a certain way."""

    __slots__ = ()

    @staticmethod
    def AnyArray() -> "ManifestSplitCondition":  # noqa: N802 - the official name
        """Return the condition that every array fulfils."""
        return ManifestSplitCondition("any_array")


class ManifestSplitDimCondition:
    """Which dimension is split: one of the classes below."""

    __slots__ = ()
    Axis: ClassVar[type["_Axis"]]
    DimensionName: ClassVar[type["_DimensionName"]]
    Any: ClassVar[type["_AnyDimension"]]

    def __repr__(self) -> str:
        match self:
            case _Axis(axis):
                told = f"axis({axis})"
            case _DimensionName(regex):
                told = f'dimension_name("{regex}")'
            case _:
                told = "any()"
        return f"ManifestSplitDimCondition.{told}"

    def to_values(self) -> object:
        """Return the condition as a repository's config stores it."""
        match self:
            case _Axis(axis):
                return {"Axis": axis}
            case _DimensionName(regex):
                return {"DimensionName": regex}
            case _:
                return "Any"

    @staticmethod
    def from_values(values: object) -> "ManifestSplitDimCondition":
        """Read what ``to_values`` returned."""
        match values:
            case {"Axis": int(axis)}:
                return _Axis(axis)
            case {"DimensionName": str(regex)}:
                return _DimensionName(regex)
            case _:
                return _AnyDimension()


@dataclass(frozen=True, slots=True, repr=False)
class _Axis(ManifestSplitDimCondition):
    """The dimension of that number, from 0."""

    axis: int


@dataclass(frozen=True, slots=True, repr=False)
class _DimensionName(ManifestSplitDimCondition):
    """Dimensions with a name that matches."""

    regex: str


@dataclass(frozen=True, slots=True, repr=False)
class _AnyDimension(ManifestSplitDimCondition):
    """Every dimension."""


nest(ManifestSplitDimCondition, Axis=_Axis, DimensionName=_DimensionName, Any=_AnyDimension)
