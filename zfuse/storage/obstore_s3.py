"""What obstore is told of S3, so that it goes where zfuse and botocore would go."""

import functools
from typing import Any, Final
from urllib.parse import urlsplit

import botocore
import botocore.config
import botocore.exceptions
import botocore.session

from zfuse.errors import AccessDeniedError, InvalidInputError
from zfuse.storage.options import StorageOptions

_USUAL_REGION: Final = "us-east-1"
_PATIENCE_S: Final = 5


def s3_place(bucket: str, options: StorageOptions) -> tuple[str, str | None]:
    """Return region and endpoint of *bucket*; no endpoint is that of AWS."""
    return _place(_session(options), bucket, options)


def s3_settings(bucket: str, options: StorageOptions) -> dict[str, Any]:
    """Return the keyword arguments of obstore's S3Store for *bucket*.

    Raises:
        AccessDeniedError: there are no credentials.
        InvalidInputError: there is no such profile.
    """
    session = _session(options)
    region, endpoint = _place(session, bucket, options)
    by_path = endpoint is not None or options.force_path_style or "." in bucket
    settings: dict[str, Any] = {
        "region": region,
        "virtual_hosted_style_request": not by_path,
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


def _place(session: Any, bucket: str, options: StorageOptions) -> tuple[str, str | None]:  # noqa: ANN401
    endpoint = options.endpoint_url or _configured_endpoint(session)
    region = options.region
    if region is None and endpoint is None:
        region = bucket_region(session, bucket)
    return region or session.get_config_variable("region") or _USUAL_REGION, endpoint


@functools.lru_cache(maxsize=1000)
def bucket_region(session: Any, bucket: str, endpoint: str | None = None) -> str | None:  # noqa: ANN401
    """Return the region that AWS says *bucket* is in, None if it does not say.

    It tells everybody, in every answer; obstore goes nowhere else by itself.
    """
    config = botocore.config.Config(
        signature_version=botocore.UNSIGNED,
        connect_timeout=_PATIENCE_S,
        read_timeout=_PATIENCE_S,
        retries={"total_max_attempts": 1},
    )
    client = session.create_client(
        "s3", region_name=_USUAL_REGION, endpoint_url=endpoint, config=config
    )
    try:
        answer = client.head_bucket(Bucket=bucket)
    except botocore.exceptions.ClientError as exc:
        answer = exc.response
    except botocore.exceptions.BotoCoreError:
        return None
    finally:
        client.close()
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    found: str | None = headers.get("x-amz-bucket-region")
    return found


def _configured_endpoint(session: Any) -> str | None:  # noqa: ANN401 - botocore has no types
    client = session.create_client("s3", region_name=_USUAL_REGION)
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
