"""What obstore is told of S3, so that it goes where zfuse and botocore would go."""

from typing import Any
from urllib.parse import urlsplit

import botocore.exceptions
import botocore.session

from zfuse.errors import AccessDeniedError, InvalidInputError
from zfuse.storage.options import StorageOptions


def s3_place(options: StorageOptions) -> tuple[str, str | None]:
    """Return region and endpoint for *options*; no endpoint is that of AWS."""
    return _place(_session(options), options)


def s3_settings(options: StorageOptions) -> dict[str, Any]:
    """Return the keyword arguments of obstore's S3Store for *options*.

    Raises:
        AccessDeniedError: there are no credentials.
        InvalidInputError: there is no such profile.
    """
    session = _session(options)
    region, endpoint = _place(session, options)
    settings: dict[str, Any] = {
        "region": region,
        "virtual_hosted_style_request": endpoint is None and not options.force_path_style,
        "endpoint": endpoint,
    }
    if options.requester_pays:
        settings["request_payer"] = True
    if options.anonymous:
        settings["skip_signature"] = True
    elif options.access_key_id is not None:
        settings["access_key_id"] = options.access_key_id
        settings["secret_access_key"] = options.secret_access_key
        settings["session_token"] = options.session_token
    else:
        settings["credential_provider"] = _credential_provider(session)
    return {name: value for name, value in settings.items() if value is not None}


def _session(options: StorageOptions) -> Any:  # noqa: ANN401 - botocore has no types
    session = botocore.session.Session(profile=options.profile)
    try:
        session.get_scoped_config()
    except botocore.exceptions.ProfileNotFound as exc:
        raise InvalidInputError(f"{exc}; name another one with --profile") from exc
    return session


def _place(session: Any, options: StorageOptions) -> tuple[str, str | None]:  # noqa: ANN401
    region = options.region or session.get_config_variable("region") or "us-east-1"
    return region, options.endpoint_url or _configured_endpoint(session)


def _configured_endpoint(session: Any) -> str | None:  # noqa: ANN401 - botocore has no types
    client = session.create_client("s3", region_name="us-east-1")
    try:
        url = str(client.meta.endpoint_url)
    finally:
        client.close()
    host = urlsplit(url).hostname or ""
    return None if host.endswith((".amazonaws.com", ".amazonaws.com.cn")) else url


def _credential_provider(session: Any) -> Any:  # noqa: ANN401 - botocore has no types
    found = session.get_credentials()
    if found is None:
        raise AccessDeniedError(
            "no AWS credentials found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a"
            " profile with --profile, or pass --anonymous for public data"
        )

    def provide() -> dict[str, Any]:
        frozen = found.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": getattr(found, "_expiry_time", None),
        }

    return provide
