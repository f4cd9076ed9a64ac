"""S3 requests for any number of buckets under one set of credentials.

botocore finds credentials, region and endpoint in all the places it knows, and lists; single
objects are asked for on zfuse's own HTTP sessions, signed by botocore's signer. That costs
a fifth of aiobotocore's CPU, and it alone can promise that a conditional write is sent only
once. What may be sent twice goes over trio's own sockets where no proxy is in the way.

Coroutine functions named ``_..._there`` run in the asyncio thread.
"""

import ssl
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, NoReturn

import botocore
import botocore.exceptions
import trio
from aiobotocore.client import AioBaseClient
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import RefreshableCredentials
from botocore.httpsession import get_cert_path

from zfuse.errors import (
    AccessDeniedError,
    InvalidInputError,
    StorageError,
    TransientStorageError,
)
from zfuse.storage.asyncio_thread import AsyncioThread
from zfuse.storage.http_pool import HttpPool
from zfuse.storage.http_session import HttpAnswer, HttpRequest, HttpSession
from zfuse.storage.options import StorageOptions
from zfuse.storage.s3_answers import bucket_region, expired, s3_error
from zfuse.storage.s3_key_source import credentials_from

_NO_CREDENTIALS: Final = (
    "no AWS credentials found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, log in "
    "('aws sso login'), name a profile with --profile, or pass --anonymous for public data"
)

_ENDPOINT: Final = (
    "an endpoint (--endpoint-url, AWS_ENDPOINT_URL) is http://HOST:PORT or https://HOST:PORT"
)

_RENEWAL_PAUSE: Final = 5.0
"""Seconds between two looks for newer credentials, so that refusals do not become file reads."""

_FROZEN_S: Final = 60.0
"""Seconds for which credentials are used before botocore is asked again."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a bucket is reached, and how requests to it are signed."""

    bucket: str
    base_url: str
    region: str
    credentials: Any  # None: requests are not signed
    tls: ssl.SSLContext | None


class S3Client:
    """One set of credentials and options; botocore is asked with the first request."""

    def __init__(
        self,
        thread: AsyncioThread,
        session: HttpSession,
        pool: HttpPool,
        options: StorageOptions,
    ) -> None:
        self._thread = thread
        self._http = session
        self._pool = pool
        self._options = options
        self._frozen: dict[str, tuple[Any, float]] = {}
        self._targets: dict[str, Target] = {}
        self._resolving = trio.Lock()
        self._exit = AsyncExitStack()
        self._session = _session(options)
        self._tls: ssl.SSLContext | None = None
        self._renewals = 0
        self._renew_again_at = 0.0
        self._clients: dict[
            str | None, AioBaseClient
        ] = {}  # by region; None is botocore's own choice

    async def send(self, bucket: str, request: HttpRequest, *, once: bool = False) -> HttpAnswer:
        """Sign and send *request*, whose url is the key in the bucket, percent-encoded.

        Goes where the bucket is when told that it is elsewhere, and looks for new credentials
        when told that these have expired; either one time.

        Raises:
            TransientStorageError: the connection failed.
            AccessDeniedError: there are no credentials.
        """
        target = await self._target(bucket)
        renewals = self._renewals
        call = partial(self._send_signed, once=once)
        answer = await call(target, request)
        if (region := bucket_region(answer)) and region != target.region:
            target = await self._moved(target, region)
        elif not expired(answer) or not await self._renewed(target, renewals):
            return answer
        return await call(target, request)

    async def list_page(
        self, bucket: str, prefix: str, token: str | None
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Return one page of botocore's object entries and the token of the next page."""
        target = await self._target(bucket)
        return await self._thread.run(self._list_there, target, prefix, token)

    async def aclose(self) -> None:
        """Close botocore's own connections."""
        await self._thread.run(self._exit.aclose)

    # -- finding the bucket ---------------------------------------------------------------------

    async def _target(self, bucket: str) -> Target:
        if (target := self._targets.get(bucket)) is None:
            async with self._resolving:
                if (target := self._targets.get(bucket)) is None:
                    target = await self._thread.run(
                        self._resolve_there, bucket, self._options.region
                    )
                    self._targets[bucket] = target
        return target

    async def _moved(self, target: Target, region: str) -> Target:
        if self._options.endpoint_url is not None:
            moved = replace(target, region=region)
        else:
            moved = await self._thread.run(self._resolve_there, target.bucket, region)
        self._targets[target.bucket] = moved
        return moved

    async def _renewed(self, target: Target, renewals: int) -> bool:
        """Tell whether there are other credentials than *renewals* ago, looking for them."""
        async with self._resolving:
            self._frozen.clear()
            if self._renewals == renewals and trio.current_time() >= self._renew_again_at:
                self._renew_again_at = trio.current_time() + _RENEWAL_PAUSE
                self._renewals += await self._thread.run(self._renew_there, target)
            return self._renewals != renewals

    # -- signing and sending --------------------------------------------------------------------

    async def _send_signed(self, target: Target, request: HttpRequest, *, once: bool) -> HttpAnswer:
        signed = self._signed(target, request, await self._credentials(target))
        if once:
            return await self._thread.run(self._http.send_once, signed)
        if self._pool.reaches(signed.url):
            return await self._pool.send(signed)
        return await self._thread.run(self._http.send, signed)

    async def _credentials(self, target: Target) -> Any:  # noqa: ANN401 - botocore has no types
        """Return credentials of this moment, None where requests are not signed.

        botocore renews them a quarter of an hour before they expire; asking it once a minute
        is soon enough.
        """
        if target.credentials is None:
            return None
        frozen, until = self._frozen.get(target.bucket, (None, 0.0))
        if trio.current_time() >= until:
            frozen = await self._thread.run(self._frozen_there, target)
            self._frozen[target.bucket] = frozen, trio.current_time() + _FROZEN_S
        return frozen

    def _signed(self, target: Target, request: HttpRequest, credentials: object) -> HttpRequest:
        url = f"{target.base_url}/{request.url}"
        headers = dict(request.headers)
        if self._options.requester_pays:
            headers["x-amz-request-payer"] = "requester"
        if credentials is not None:
            aws = AWSRequest(request.method, url, headers=headers, data=request.body or b"")
            # TLS keeps the body whole; hashing it would cost 0.6 ms a MiB.
            aws.context["payload_signing_enabled"] = not url.startswith("https:")
            S3SigV4Auth(credentials, "s3", target.region).add_auth(aws)
            headers = dict(aws.headers.items())
        return replace(request, url=url, headers=headers, tls=target.tls)

    # -- in the asyncio thread ------------------------------------------------------------------

    async def _resolve_there(self, bucket: str, region: str | None) -> Target:
        try:
            client = await self._client_there(region)
            found = await _located(client, bucket)
            credentials = None
            if not self._options.anonymous:
                credentials = await self._session.get_credentials()
                if credentials is None:
                    raise AccessDeniedError(_NO_CREDENTIALS)
        except botocore.exceptions.BotoCoreError as exc:
            raise _translated(exc) from exc
        if self._tls is None and found.url.startswith("https:"):
            # The authorities that botocore itself would trust: not every machine has its own.
            self._tls = _trusting(self._session.get_config_variable("ca_bundle"))
        base_url = found.url.removesuffix("/" + _PROBE_KEY)
        return Target(bucket, base_url, found.region, credentials, self._tls)

    async def _client_there(self, region: str | None) -> AioBaseClient:
        if region not in self._clients:
            making = self._session.create_client(
                "s3",
                region_name=region,
                endpoint_url=self._options.endpoint_url,
                config=_config(self._options),
            )
            try:
                self._clients[region] = await self._exit.enter_async_context(making)
            except ValueError as exc:  # some of its errors are both
                if isinstance(exc, botocore.exceptions.BotoCoreError):
                    raise
                raise InvalidInputError(f"{_one_line(exc)}; {_ENDPOINT}") from exc
        return self._clients[region]

    async def _renew_there(self, target: Target) -> bool:
        """Read what a login may have written since; botocore reads a profile only once."""
        held = target.credentials
        if held is None or isinstance(held, RefreshableCredentials):  # these renew themselves
            return False
        try:
            found = await _session(self._options).get_credentials()
        except botocore.exceptions.BotoCoreError as exc:
            raise _translated(exc) from exc
        if found is None or (found.access_key, found.token) == (held.access_key, held.token):
            return False
        # In place: the signers of all clients hold the same object.
        held.access_key, held.secret_key, held.token = (
            found.access_key,
            found.secret_key,
            found.token,
        )
        return True

    async def _frozen_there(self, target: Target) -> Any:  # noqa: ANN401 - botocore has no types
        try:
            return await target.credentials.get_frozen_credentials()
        except botocore.exceptions.BotoCoreError as exc:
            raise _translated(exc) from exc

    async def _list_there(
        self, target: Target, prefix: str, token: str | None
    ) -> tuple[list[dict[str, Any]], str | None]:
        client = await self._client_there(
            self._options.region if self._options.endpoint_url else target.region
        )
        query: dict[str, Any] = {"Bucket": target.bucket, "Prefix": prefix}
        if token is not None:
            query["ContinuationToken"] = token
        if self._options.requester_pays:
            query["RequestPayer"] = "requester"
        try:
            page = await client.list_objects_v2(**query)
        except botocore.exceptions.ClientError as exc:
            raise _client_error(target, exc) from exc
        except botocore.exceptions.BotoCoreError as exc:
            raise _translated(exc) from exc
        return page.get("Contents", []), page.get("NextContinuationToken")


# -- asking botocore ----------------------------------------------------------------------------


_PROBE_KEY: Final = "probe"


class _Located(Exception):  # noqa: N818 - an answer, not an error
    def __init__(self, url: str, region: str, signature: object) -> None:
        super().__init__(url)
        self.url = url
        self.region = region
        self.signature = signature


def _tell(
    request: AWSRequest, region_name: str, signature_version: object, **_: object
) -> NoReturn:
    signing = request.context.get("signing", {})
    raise _Located(request.url, signing.get("region") or region_name, signature_version)


async def _located(client: AioBaseClient, bucket: str) -> _Located:
    """Return where *client* would send a request for _PROBE_KEY, which is not sent.

    Endpoint rules, path style, dual stack and all the rest are botocore's business; just before
    it signs a request is the first moment at which it has decided them.
    """
    client.meta.events.register_first("before-sign.s3.HeadObject", _tell, "zfuse-locate")
    try:
        await client.head_object(Bucket=bucket, Key=_PROBE_KEY)
    except _Located as located:
        if located.signature not in {botocore.UNSIGNED, "s3v4", "v4"}:
            raise InvalidInputError(
                f"bucket {bucket} needs signature {located.signature}, which zfuse can not make"
            ) from None
        return located
    finally:
        client.meta.events.unregister("before-sign.s3.HeadObject", unique_id="zfuse-locate")
    raise StorageError(f"botocore does not tell where bucket {bucket} is")


def _session(options: StorageOptions) -> AioSession:
    session = AioSession(profile=options.profile)
    if options.key_source is not None:
        session._credentials = credentials_from(options.key_source)  # noqa: SLF001 - no other way
    elif options.access_key_id is not None:
        session.set_credentials(
            options.access_key_id, options.secret_access_key, options.session_token
        )
    return session


def _config(options: StorageOptions) -> AioConfig:
    settings: dict[str, Any] = {}
    if options.anonymous:
        settings["signature_version"] = botocore.UNSIGNED
    if options.force_path_style:
        settings["s3"] = {"addressing_style": "path"}
    return AioConfig(
        connect_timeout=min(10.0, options.idle_s),
        read_timeout=options.idle_s,
        retries={"total_max_attempts": 1},  # RetryingStorage repeats
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        **settings,
    )


def _trusting(bundle: str | None) -> ssl.SSLContext:
    """Return what checks certificates by *bundle*, None for the authorities of botocore."""
    try:
        return ssl.create_default_context(cafile=get_cert_path(bundle or True))
    except OSError as exc:  # ssl.SSLError is one
        raise InvalidInputError(
            f"{bundle} is no file of certificates that can be read ({exc.strerror or exc});"
            " correct AWS_CA_BUNDLE, or ca_bundle of the AWS configuration"
        ) from exc


def _client_error(target: Target, exc: botocore.exceptions.ClientError) -> StorageError:
    told = exc.response.get("Error", {})
    meta = exc.response.get("ResponseMetadata", {})
    answer = HttpAnswer(meta.get("HTTPStatusCode", 0), "", meta.get("HTTPHeaders", {}), b"")
    return s3_error(target.bucket, "", answer, told.get("Code"), told.get("Message"))


def _translated(exc: botocore.exceptions.BotoCoreError) -> StorageError | InvalidInputError:
    error: StorageError | InvalidInputError
    match exc:
        case botocore.exceptions.NoCredentialsError():
            error = AccessDeniedError(_NO_CREDENTIALS)
        case botocore.exceptions.EndpointProviderError():
            error = InvalidInputError(f"{_one_line(exc)}; {_ENDPOINT}")
        case botocore.exceptions.ParamValidationError() if "Invalid bucket name" in str(exc):
            # What it has to match instead are three lines.
            error = InvalidInputError(
                f"{_one_line(exc).partition(': Bucket name must')[0]}; write s3://BUCKET/PREFIX"
            )
        case (
            botocore.exceptions.ProfileNotFound()
            | botocore.exceptions.ParamValidationError()
            | botocore.exceptions.ConfigParseError()
            | botocore.exceptions.InvalidRegionError()
            | botocore.exceptions.NoRegionError()
            | botocore.exceptions.InvalidConfigError()
            | botocore.exceptions.InvalidDefaultsMode()
            | botocore.exceptions.InvalidRetryModeError()
            | botocore.exceptions.InvalidS3UsEast1RegionalEndpointConfigError()
        ):
            error = InvalidInputError(_one_line(exc))
        case (
            botocore.exceptions.PartialCredentialsError()
            | botocore.exceptions.CredentialRetrievalError()
            | botocore.exceptions.SSOError()
            | botocore.exceptions.TokenRetrievalError()
        ):
            error = AccessDeniedError(f"{_one_line(exc)}; log in again, or pass --anonymous")
        case (
            botocore.exceptions.ConnectTimeoutError()
            | botocore.exceptions.EndpointConnectionError()
            | botocore.exceptions.ProxyConnectionError()
        ):
            error = TransientStorageError(_one_line(exc), refused=True)
        case botocore.exceptions.HTTPClientError() if not isinstance(
            exc, botocore.exceptions.SSLError
        ):
            error = TransientStorageError(_one_line(exc))
        case _:
            error = StorageError(_one_line(exc))
    return error


def _one_line(exc: Exception) -> str:
    return " ".join(str(exc).split())
