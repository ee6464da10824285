"""The validation step on a real storage server: where rows and media are, and who may read them."""

import gzip
import json
import shlex
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.datasets.data_sets import DOT, SCOUT, image, lines
from tests.validate_dataset.conftest import ROWS, Step

from sft_components.datasets.convert import convert_set
from sft_components.datasets.findings import Findings
from sft_components.datasets.target import open_target
from sft_components.errors import UserError


@pytest.fixture
def bucket(buckets: Any) -> Any:
    return buckets("rows")[0]


def test_rows_come_from_cloud_storage(step: Step, bucket: Any) -> None:
    local = step.run(ROWS)
    bucket.blob("d/a.jsonl").upload_from_string(lines(ROWS[:100]))
    bucket.blob("d/b.jsonl.gz").upload_from_string(gzip.compress(lines(ROWS[100:])))
    bucket.blob("d/c.txt").upload_from_string("no rows")
    assert step.run("gs://rows/d/?.jsonl*").fingerprint == local.fingerprint
    assert step.run("gs://rows/d/a.jsonl,gs://rows/d/b.jsonl.gz").fingerprint == local.fingerprint


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("gs://rows/none.jsonl", "does not exist.*the Cloud Storage of this machine"),
        ("gs://rows/none.jsonl", "convert IN gs://rows/none.jsonl --model"),
        ("gs://rows/d/e/", "convert IN gs://rows/d/e/rows.jsonl --model"),
        ("gs://none/a.jsonl", "Bucket gs://none does not exist"),
        ("gs://none/*.jsonl", "gs://none does not exist.*the Cloud Storage of this machine"),
        ("gs://rows/*.jsonl", "No object matches.*the Cloud Storage of this machine"),
        ("gs:///a", "write gs://"),
    ],
)
def test_a_wrong_address_is_refused(step: Step, bucket: Any, address: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        step.run(address)


def test_what_copies_a_table_here_is_one_word_to_a_shell(step: Step, bucket: Any) -> None:
    table = "gs://rows/my rows' 1.csv"
    bucket.blob(table.removeprefix("gs://rows/")).upload_from_string("prompt,completion\n1,1\n")
    with pytest.raises(UserError) as raised:
        step.run(table)
    _, command, _ = str(raised.value).split("`")
    assert shlex.split(command)[3:8] == [table, ".", "&&", "vertex-sft", "convert"]


def test_media_that_do_not_exist_are_told(step: Step, bucket: Any) -> None:
    bucket.blob("m/1.png").upload_from_string(b"x")
    rows = [image(i, "gs://rows/m/1.png") for i in range(100)]
    step.run(rows, base_model=SCOUT)
    rows[4] = image(4, "gs://rows/m/4.png")
    rows[5] = image(5, "gs://gone/5.png")
    rows[6:40] = [image(i, f"gs://rows/many/{i}.png") for i in range(6, 40)]
    with pytest.raises(UserError) as raised:
        step.run(rows, base_model=SCOUT)
    said = str(raised.value)
    assert "training.jsonl:5: error missing-object: gs://rows/m/4.png does not exist" in said
    assert "training.jsonl:6: error missing-object: gs://gone/5.png" in said
    assert "many/6.png does not exist. (This is the Cloud Storage of this machine" in said
    assert "many/7.png does not exist." not in said  # once for a folder
    assert "36 errors" in said


def test_media_in_another_bucket_need_roles(step: Step, bucket: Any, buckets: Any) -> None:
    buckets("media")[0].blob("1.png").upload_from_string(b"x")
    rows = [image(i, "gs://media/1.png") for i in range(100)]
    bucket.blob("a.jsonl").upload_from_string(lines(rows))
    step.run("gs://rows/a.jsonl", base_model=SCOUT)
    assert any("other-bucket: media are in gs://media" in line for line in step.said)


def test_local_media_are_uploaded_once_and_the_rows_rewritten(step: Step, bucket: Any) -> None:
    (step.folder / "pictures").mkdir()
    for i in range(8):
        (step.folder / "pictures" / f"{i}.png").write_bytes(DOT + bytes([i // 2]))
    (step.folder / "pictures" / "bad.png").write_bytes(b"no picture")
    rows = [image(i, f"pictures/{i % 8}.png") for i in range(120)]
    for sent in (4, 0):
        before = {blob.name for blob in bucket.list_blobs(prefix="m/")}
        step.run(rows, base_model=SCOUT, output_uri="gs://rows/m/", validation_split=False)
        after = {blob.name for blob in bucket.list_blobs(prefix="m/media/")}
        assert len(after - before) == sent
    urls = [row["messages"][0]["content"][1]["image_url"]["url"] for row in step.rows("training")]
    for i, url in enumerate(urls[:8]):
        blob = bucket.blob(url.removeprefix("gs://rows/"))
        assert blob.download_as_bytes() == DOT + bytes([i // 2])
    assert [image(i, urls[i]) for i in range(120)] == step.rows("training")
    for url, said in (
        ("pictures/none.png", "missing-object: pictures/none.png is no file here"),
        ("pictures/bad.png", "media-mismatch"),
        ("../other.png", r"training.jsonl:121 \$.*: error bad-uri: .*outside"),
        ("\0.png", r"training.jsonl:121 \$.*: error bad-uri: .*cannot be read"),
    ):
        with pytest.raises(UserError, match=said):
            step.run([*rows, image(7, url)], base_model=SCOUT, output_uri="gs://rows/m")
    with pytest.raises(UserError, match="bad-uri"):
        step.run(rows, base_model=SCOUT)
    with pytest.raises(UserError, match="gcloud storage buckets create gs://gone"):
        step.run(rows, base_model=SCOUT, output_uri="gs://gone/m")


def test_paths_beside_a_data_set_in_cloud_storage_are_addresses(step: Step, bucket: Any) -> None:
    bucket.blob("d/pictures/1.png").upload_from_string(DOT)
    rows = [image(i, "pictures/1.png") for i in range(120)]
    bucket.blob("d/a.jsonl").upload_from_string(lines(rows))
    step.run("gs://rows/d/a.jsonl", base_model=SCOUT, validation_split=False)
    assert step.rows("training") == [image(i, "gs://rows/d/pictures/1.png") for i in range(120)]
    bucket.blob("d/b.jsonl").upload_from_string(lines([image(1, "none.png")]))
    with pytest.raises(UserError, match=r"b.jsonl:1: .* gs://rows/d/none.png does not exist"):
        step.run("gs://rows/d/*.jsonl", base_model=SCOUT)


def test_convert_uploads_media_too(tmp_path: Path, bucket: Any) -> None:
    (tmp_path / "a.png").write_bytes(DOT)
    rows, findings = tmp_path / "in.jsonl", Findings()
    rows.write_bytes(lines([image(1, "a.png")]))
    convert_set(str(rows), "messages", tmp_path / "out", findings, media_to="gs://rows/c")
    (name,) = [blob.name for blob in bucket.list_blobs(prefix="c/")]
    assert json.loads((tmp_path / "out").read_bytes()) == image(1, f"gs://rows/{name}")
    assert not findings.counts


def test_rows_are_written_to_cloud_storage_and_replace_none_unasked(
    tmp_path: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in.jsonl").write_bytes(lines(ROWS))

    def convert(output: str = "gs://rows/d/out.jsonl", **options: Any) -> Findings:
        findings = Findings()
        convert_set(str(tmp_path / "in.jsonl"), "messages", output, findings, **options)
        return findings

    assert not convert(validation="gs://rows/d/out.validation.jsonl").counts
    split = {blob.name: blob for blob in bucket.list_blobs()}
    assert list(split) == ["d/out.jsonl", "d/out.validation.jsonl"]
    rows = b"".join(blob.download_as_bytes() for blob in split.values()).splitlines()
    assert sorted(map(json.loads, rows), key=str) == sorted(ROWS, key=str)
    with pytest.raises(UserError, match=r"gs://rows/d/out.jsonl exists already\. .*--force"):
        convert()
    assert bucket.get_blob("d/out.jsonl").generation == split["d/out.jsonl"].generation
    convert(force=True)
    assert len(bucket.blob("d/out.jsonl").download_as_bytes().splitlines()) == len(ROWS)
    for address, said in (
        ("gs://rows", "gs://rows/rows.jsonl"),
        ("gs://rows/d/", "rows/d/rows.jsonl"),
    ):
        with pytest.raises(UserError, match=said):
            convert(address)
    # On this machine a bucket is made; at Google one that is missing is told before the conversion.
    convert("gs://made/d/out.jsonl")
    (made,) = bucket.client.list_blobs("made")
    assert len(made.download_as_bytes().splitlines()) == len(ROWS)
    monkeypatch.setattr("sft_components.vertex.storage.asked_here", lambda: "")
    with pytest.raises(UserError, match="buckets create gs://gone --location=REGION`"):
        open_target("gs://gone/a", [], replace=False)
    with pytest.raises(UserError, match="also the input"):
        convert_set("gs://rows/d/o*.jsonl", "messages", "gs://rows/d/out.jsonl", Findings())


@pytest.mark.parametrize("replace", [False, True])
def test_an_object_that_is_made_meanwhile_is_not_lost(bucket: Any, replace: bool) -> None:
    blob = bucket.blob("a.jsonl")
    if replace:
        blob.upload_from_string("old")
    writer = open_target("gs://rows/a.jsonl", [], replace=replace)
    writer.write(b"mine")
    blob.upload_from_string("another's")
    with pytest.raises(UserError, match="written meanwhile" if replace else "exists already"):
        writer.finish()
    writer.discard()
    assert blob.download_as_bytes() == b"another's"


def test_what_is_stored_as_gzip_comes_as_rows(step: Step, bucket: Any) -> None:
    local = step.run(ROWS)
    blob = bucket.blob("a.jsonl")
    blob.content_encoding = "gzip"
    blob.upload_from_string(gzip.compress(lines(ROWS)))
    assert step.run("gs://rows/a.jsonl").fingerprint == local.fingerprint


# Refusals that no local server makes.

REFUSALS = [
    (403, "p does not have storage.objects.get access.", "Grant roles/storage.objectViewer"),
    (
        403, "p does not have serviceusage.services.use access to the project.",
        "grant roles/serviceusage.serviceUsageConsumer",
    ),
    (403, "The billing account for the owning project is disabled.", "Name a project that exists"),
    (400, "Bucket is a requester pays bucket but no user project provided.", "Name a project"),
    (401, "Invalid Credentials", "gcloud auth application-default login"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "message", "said"), REFUSALS)
def test_a_refusal_names_what_is_missing(
    step: Step, monkeypatch: pytest.MonkeyPatch, status: int, message: str, said: str
) -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"error": {"code": status, "message": message}}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
        for address in ("gs://rows/a.jsonl", "gs://rows/*.jsonl"):
            with pytest.raises(UserError, match=said):
                step.run(address)
        with pytest.raises(UserError, match=f"missing-object: gs://rows/1.png: .*{said}"):
            step.run([image(i, "gs://rows/1.png") for i in range(100)], base_model=SCOUT)
        server.shutdown()
