"""A bucket as Fraisier itself sees it, by boto3: lists, deletes, and signs addresses for others."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from fraisier.application.hear import below
from fraisier.application.ports import Desk
from fraisier.domain.backup import NAME, Destination
from fraisier.domain.errors import Cause, FraisierError, StepFailed
from fraisier.domain.extras import how_to_install
from fraisier.domain.secret import Secret

HINT = "See its credentials and what they may do there: list, get, put and delete objects, abort uploads"
_PLACE = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>[^\s?#]*))?\Z")
_LONGEST = 7 * 86400  # seconds that an address may be good for
_CLASS = "x-amz-storage-class"
_T = TypeVar("_T")


class Bucket:
    """The part of a bucket that is one environment's. `doing` is what cannot be done where it fails.

    Every method raises StepFailed: backup, where S3 refuses; network, where it does not answer; preflight,
    where it cannot be asked at all.
    """

    def __init__(self, place: Destination, desk: Desk, doing: str) -> None:
        found = _PLACE.match(place.place)
        if not found:
            message = f"cannot {doing}: it is not s3://bucket/prefix"
            raise StepFailed(Cause.preflight, message, "Correct `place` in fraises.yaml")
        self._place, self.desk, self.doing = place, desk, doing
        self._bucket = found["bucket"]
        self._prefix = below((found["prefix"] or "").strip("/"), desk.environment) + "/"

    def failed(self, why: str, cause: Cause = Cause.backup) -> StepFailed:
        """The error that says so."""
        return StepFailed(cause, f"cannot {self.doing}: {why}", HINT)

    @property
    def ca_file(self) -> str:
        """Whom to trust besides the machine's own; the same path on both machines."""
        return self._option("ca_file")

    def keys(self, *, most: int = 0) -> dict[str, dict[str, str]]:
        """Objects by the backup that they belong to, and by file; an empty manifest is none."""
        found: dict[str, dict[str, str]] = {}
        for entry in self._do(lambda: list(self._listed(most))):
            name, _, file = entry["Key"][len(self._prefix) :].partition("/")
            if NAME.match(name) and file and (entry["Size"] or file != "manifest.json"):
                found.setdefault(name, {})[file] = entry["Key"]
        return found

    def _listed(self, most: int) -> Iterable[dict[str, Any]]:
        pages = self._client.get_paginator("list_objects_v2")
        limit = {"PaginationConfig": {"MaxItems": most}} if most else {}
        for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix, **limit):
            yield from page.get("Contents", ())

    def content(self, path: str, most: int) -> bytes:
        """An object's bytes, `most` of them."""
        return self._do(lambda: bytes(self._of(self._client.get_object, path)["Body"].read(most)))

    def delete(self, keys: Iterable[str]) -> None:
        """One by one: what speaks S3 does not agree on how several are asked for."""
        for key in list(keys):
            self._do(lambda key=key: self._client.delete_object(Bucket=self._bucket, Key=key))  # type: ignore[misc]

    def abort_uploads(self) -> None:
        """Those in parts that nobody finished: they cost, and are listed nowhere."""
        listed = self._do(
            lambda: self._client.list_multipart_uploads(Bucket=self._bucket, Prefix=self._prefix)
        )
        for each in listed.get("Uploads", ()):
            abort = self._client.abort_multipart_upload
            self._do(
                lambda each=each, abort=abort: abort(  # type: ignore[misc]
                    Bucket=self._bucket, Key=each["Key"], UploadId=each["UploadId"]
                )
            )

    def try_to_tidy(self, name: str) -> None:
        """Remove what came of a backup that failed; if it cannot be, the next store does."""
        with suppress(FraisierError):
            self.abort_uploads()
            self.delete(self.keys().get(name, {}).values())

    # -- parts
    def begin_upload(self, path: str) -> str:
        """The id of an upload in parts."""
        more = {"StorageClass": self._option("storage_class")} if self._option("storage_class") else {}
        made = self._do(lambda: self._of(self._client.create_multipart_upload, path, **more))
        return str(made["UploadId"])

    def finish_upload(self, path: str, upload: str, tags: Iterable[str]) -> None:
        """The parts become an object, all at once."""
        parts = [{"ETag": tag, "PartNumber": number} for number, tag in enumerate(tags, 1)]
        finish = self._client.complete_multipart_upload
        self._do(lambda: self._of(finish, path, UploadId=upload, MultipartUpload={"Parts": parts}))

    # -- addresses
    def address_to_put(self, path: str) -> str:
        """Where one object is sent to."""
        more = {"StorageClass": self._option("storage_class")} if self._option("storage_class") else {}
        return self._signed("put_object", path, **more)

    def address_of_part(self, path: str, upload: str, number: int) -> str:
        """Where a part is sent to; they count from 1."""
        return self._signed("upload_part", path, UploadId=upload, PartNumber=number)

    def address_to_get(self, path: str) -> str:
        """Where one object is read from."""
        return self._signed("get_object", path)

    def headers_to_put(self, url: str) -> Mapping[str, str]:
        """What was signed has to be sent."""
        signed = parse_qs(urlsplit(url).query).get("X-Amz-SignedHeaders", [""])[0].split(";")
        return {_CLASS: self._option("storage_class")} if _CLASS in signed else {}

    def _signed(self, act: str, path: str, **more: object) -> str:
        params = {"Bucket": self._bucket, "Key": self._prefix + path, **more}
        limit = int(min(_LONGEST, max(3600.0, self.desk.job.timeout + 600.0)))
        return str(self._do(lambda: self._client.generate_presigned_url(act, Params=params, ExpiresIn=limit)))

    # -- asking
    def _of(self, act: Callable[..., Any], path: str, **more: object) -> Any:
        return act(Bucket=self._bucket, Key=self._prefix + path, **more)

    def _option(self, name: str) -> str:
        value = self._place.options.get(name, "")
        return value.reveal() if isinstance(value, Secret) else value

    def _do(self, act: Callable[[], _T]) -> _T:
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
        from botocore.exceptions import ConnectionError as NotConnected

        try:
            return act()
        except ClientError as error:
            told = error.response.get("Error", {})
            code, message = told.get("Code", ""), told.get("Message", "")
            raise self.failed(f"S3 says {code}: {message}"[:300]) from error
        except (NotConnected, HTTPClientError) as error:
            raise self.failed(str(error)[:300], Cause.network) from error
        except BotoCoreError as error:
            raise self.failed(str(error)[:300]) from error

    @cached_property
    def _client(self) -> Any:
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError
        except ImportError as error:
            message = f"cannot {self.doing}: boto3 is not installed"
            raise StepFailed(Cause.preflight, message, how_to_install("s3")) from error
        endpoint = self._option("endpoint_url") or None
        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": "path" if endpoint else "auto"},
            connect_timeout=20,
            read_timeout=60,
            retries={"max_attempts": 3, "mode": "standard"},
            # Others than AWS do not know its newer checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        try:
            session = boto3.Session(
                aws_access_key_id=self._option("access_key") or None,
                aws_secret_access_key=self._option("secret_key") or None,
                aws_session_token=self._option("session_token") or None,
                profile_name=self._option("profile") or None,
                region_name=self._option("region") or ("us-east-1" if endpoint else None),
            )
            verify = self.ca_file or None
            return session.client("s3", endpoint_url=endpoint, config=config, verify=verify)
        except (BotoCoreError, ValueError) as error:
            raise self.failed(str(error)[:300], Cause.preflight) from error
