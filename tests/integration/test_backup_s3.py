"""S3 as a place for backups: SeaweedFS, with its signatures checked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fraisier.backup_places.s3 import S3
from fraisier.domain.backup import Destination
from fraisier.domain.errors import Cause, StepFailed
from fraisier.domain.secret import Secret
from tests.desks import desk, folder, open_path
from tests.integration.place_contract import NAMES, PlaceContract, World, content, new_folder, stage
from tests.integration.source_contract import SECRET
from tests.ports import free_port
from tests.servers.seaweed import SeaweedServer, seaweed_server

__all__ = ["desk", "folder", "open_path", "seaweed_server"]


class Bucket:
    """A bucket of its own."""

    def __init__(self, server: SeaweedServer) -> None:
        self.client, self.bucket = server.client, server.bucket()
        self.brand = S3()
        options = {
            "endpoint_url": server.url,
            "access_key": Secret("AKIAFULL", "${KEY}"),
            "secret_key": Secret(SECRET, "${SECRET}"),
        }
        self.place = Destination(
            name="s3", kind="s3", place=f"s3://{self.bucket}/some/where", options=options
        )
        self.wrong = replace(self.place, options={**options, "access_key": "AKIAEXPIRED"})

    def key(self, name: str, file: str) -> str:
        return f"some/where/orders/production/{name}/{file}"

    def close(self, name: str, file: str) -> bool:
        return False

    def damage(self, name: str, file: str, fault: str) -> bool:
        where = {"Bucket": self.bucket, "Key": self.key(name, file)}
        data = bytearray(self.client.get_object(**where)["Body"].read())
        if fault == "missing":
            self.client.delete_object(**where)
            return True
        if fault == "flipped":
            data[1000] ^= 1
        self.client.put_object(**where, Body=bytes(data[: {"empty": 0, "truncated": 5000}.get(fault)]))
        return True

    def leftovers(self) -> list[str]:
        listed = self.client.list_objects_v2(Bucket=self.bucket, Prefix="some/where/orders/production/")
        keys = [each["Key"] for each in listed.get("Contents", ())]
        whole = {key.rpartition("/")[0] for key in keys if key.endswith("/manifest.json")}
        uploads = self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", ())
        return [key for key in keys if key.rpartition("/")[0] not in whole] + [
            each["Key"] for each in uploads
        ]


class TestS3(PlaceContract):
    @pytest.fixture
    def world(self, seaweed_server: SeaweedServer) -> World:
        return Bucket(seaweed_server)

    def test_what_is_larger_than_a_request_comes_in_parts(self, desk, world, folder):
        """Parts of 5 MiB, the least that S3 takes."""
        world.brand = S3(part=5 << 20)
        staged = stage(folder, NAMES[0], size=(12 << 20) + 17)
        world.brand.store(world.place, NAMES[0], str(staged), desk)
        key = {"Bucket": world.bucket, "Key": world.key(NAMES[0], "db.dump")}
        assert world.client.head_object(**key)["ETag"].strip('"').endswith("-3")
        back = folder / "back"
        new_folder(back)
        world.brand.fetch(world.place, NAMES[0], str(back), desk)
        assert content(back) == content(staged)
        assert world.leftovers() == []

    def test_parts_that_nobody_finished_go_with_the_next_store(self, desk, world, staged):
        begun = world.client.create_multipart_upload(Bucket=world.bucket, Key=world.key(NAMES[2], "db.dump"))
        others = world.client.create_multipart_upload(Bucket=world.bucket, Key="theirs/db.dump")
        assert world.leftovers()
        world.brand.store(world.place, NAMES[0], str(staged), desk)
        left = world.client.list_multipart_uploads(Bucket=world.bucket).get("Uploads", ())
        assert [each["UploadId"] for each in left] == [others["UploadId"]] != [begun["UploadId"]]

    def test_a_backup_without_its_manifest_is_none_and_goes_with_the_next_store(self, desk, world, staged):
        world.brand.store(world.place, NAMES[0], str(staged), desk)
        world.damage(NAMES[0], "manifest.json", "missing")
        assert list(world.brand.names(world.place, desk)) == []
        world.brand.store(world.place, NAMES[1], str(staged), desk)
        assert world.leftovers() == []

    def test_who_may_only_read_is_told_so(self, desk, world, staged):
        options = {**world.place.options, "access_key": "AKIAREAD", "secret_key": "reads-only"}
        reader = replace(world.place, options=options)
        world.brand.store(world.place, NAMES[0], str(staged), desk)
        assert list(world.brand.names(reader, desk)) == [NAMES[0]]
        with pytest.raises(StepFailed, match=r"403|AccessDenied"):
            world.brand.store(reader, NAMES[1], str(staged), desk)
        assert list(world.brand.names(world.place, desk)) == [NAMES[0]]

    def test_an_s3_that_does_not_answer_is_the_networks_fault(self, desk, world, staged):
        options = {**world.place.options, "endpoint_url": f"http://127.0.0.1:{free_port()}"}
        with pytest.raises(StepFailed, match="Could not connect") as caught:
            world.brand.names(replace(world.place, options=options), desk)
        assert caught.value.cause is Cause.network

    def test_addresses_are_no_arguments(self, desk, world, staged):
        world.brand.store(world.place, NAMES[0], str(staged), desk)
        for command in desk.commands:
            assert not [word for word in command.argv if "X-Amz-Signature=" in word]
