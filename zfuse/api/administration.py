"""What a repository says about itself: metadata, status, feature flags."""

from collections.abc import Mapping
from typing import Any

from zfuse.api.administration_values import FeatureFlag, RepoAvailability, RepoStatus
from zfuse.api.boundary import twins
from zfuse.api.error_kind import ErrorKind
from zfuse.api.exceptions import InvalidInputError
from zfuse.api.opened import Opening, info_of
from zfuse.api.values import properties
from zfuse.format.repo_info import Availability, RepoInfo
from zfuse.format.repo_update import FeatureFlag as EngineFlag
from zfuse.format.repo_update import allows
from zfuse.repo import settings


class Administration:
    """The part of a repository that is about the repository."""

    _opening: Opening

    async def _get_metadata(self) -> dict[str, Any]:
        """Return the metadata of the repository."""
        return dict(info_of(await self._opening.fresh()).metadata)

    async def _set_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Replace the metadata of the repository; values are of the types that JSON has."""
        engine = await self._opening.fresh()
        info_of(engine)
        await settings.set_metadata(engine, properties(metadata))

    async def _update_metadata(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Set some keys of the metadata of the repository, and return all of it."""
        engine = await self._opening.fresh()
        info_of(engine)
        return dict(await settings.update_metadata(engine, properties(metadata)))

    async def _get_status(self) -> RepoStatus:
        """Return whether the repository takes changes."""
        return RepoStatus.of(info_of(await self._opening.fresh()).status)

    async def _set_status(self, status: RepoStatus) -> None:
        """Say whether the repository takes changes, and why not."""
        engine = await self._opening.fresh()
        info_of(engine)
        online = status.availability is RepoAvailability.online
        availability = Availability.ONLINE if online else Availability.READ_ONLY
        await settings.set_status(engine, availability, status.limited_availability_reason)

    async def _feature_flags(self) -> list[FeatureFlag]:
        """Return everything that the repository can forbid."""
        info = info_of(await self._opening.fresh())
        return [_flag(info, flag) for flag in EngineFlag]

    async def _enabled_feature_flags(self) -> list[FeatureFlag]:
        """Return what the repository allows, of all that it can forbid."""
        return [flag for flag in await self._feature_flags() if flag.enabled]

    async def _disabled_feature_flags(self) -> list[FeatureFlag]:
        """Return what the repository forbids."""
        return [flag for flag in await self._feature_flags() if not flag.enabled]

    async def _set_feature_flag(self, name: str, setting: bool | None) -> None:  # noqa: FBT001
        """Allow or forbid something, or leave it to the default (None)."""
        engine = await self._opening.fresh()
        info_of(engine)
        found = {flag.name.lower(): flag for flag in EngineFlag}.get(name)
        if found is None:
            known = ", ".join(flag.name.lower() for flag in EngineFlag)
            raise InvalidInputError(
                f"there is no feature flag {name!r}; there are {known}",
                ErrorKind.INVALID_FEATURE_FLAG,
            )
        await settings.set_feature_flag(engine, found, value=setting)

    get_metadata, get_metadata_async = twins(_get_metadata)
    set_metadata, set_metadata_async = twins(_set_metadata)
    update_metadata, update_metadata_async = twins(_update_metadata)
    get_status, get_status_async = twins(_get_status)
    set_status, set_status_async = twins(_set_status)
    feature_flags, feature_flags_async = twins(_feature_flags)
    enabled_feature_flags, enabled_feature_flags_async = twins(_enabled_feature_flags)
    disabled_feature_flags, disabled_feature_flags_async = twins(_disabled_feature_flags)
    set_feature_flag, set_feature_flag_async = twins(_set_feature_flag)

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata of the repository."""
        return self.get_metadata()

    @property
    def status(self) -> RepoStatus:
        """Whether the repository takes changes."""
        return self.get_status()


def _flag(info: RepoInfo, flag: EngineFlag) -> FeatureFlag:
    is_set = flag in (*(info.enabled_feature_flags or ()), *(info.disabled_feature_flags or ()))
    return FeatureFlag(
        id=int(flag),
        name=flag.name.lower(),
        default_enabled=True,
        setting=allows(info, flag) if is_set else None,
    )
