"""Searching over HTTP: the answers are those of the Library, in the form of the contract."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from support.media_maker import RED, encoded, plain
from support.serving import hits_of, refusal_of

import mmsearch
from mmsearch import wire

KEYS = {
    "rank",
    "score",
    "confidence",
    "path",
    "modality",
    "view",
    "start_s",
    "end_s",
    "text",
    "space",
    "id",
}


def names(hits: list[dict[str, Any]]) -> list[str]:
    return [Path(hit["path"]).name for hit in hits]


def test_words_find_what_the_library_finds_in_the_form_of_the_command_line(client: TestClient, library: Path) -> None:
    with mmsearch.open(library) as opened:
        wanted = wire.from_answer(opened.answer(mmsearch.Query((mmsearch.Term("red"),), 5, cut=True)))
    assert client.get("/search", params={"q": "red", "k": 5}).json() == wanted
    assert client.post("/search", json={"q": "red", "k": 5}).json() == wanted
    assert set(wanted) == {"hits", "hidden", "weak"}
    assert set(wanted["hits"][0]) >= KEYS


def test_kinds_are_filtered_and_repeats_mean_or(client: TestClient) -> None:
    hits = hits_of(client.get("/search", params={"q": "red", "k": 10, "in": ["video", "text"], "all": True}))
    assert {hit["modality"] for hit in hits} == {"video", "text"}
    assert hits_of(client.post("/search", json={"q": "red", "k": 10, "in": ["video", "text"], "all": True})) == hits


def test_an_uploaded_picture_asks_and_finds_its_own_file_first(client: TestClient, media: Path) -> None:
    with (media / "blue.png").open("rb") as picture:
        answer = client.post("/search", files={"file": picture}, data={"k": "2", "in": ["image", "video"]})
    assert names(hits_of(answer))[0] == "blue.png"


def test_words_and_a_picture_ask_together_and_items_are_asked_like_and_unlike(
    client: TestClient, ids: dict[str, int]
) -> None:
    red = encoded(plain(RED), "PNG")
    both = client.post("/search", files={"file": io.BytesIO(red)}, data={"q": "red", "k": "1", "in": "image"})
    assert names(hits_of(both)) == ["red.png"]
    alike: dict[str, Any] = {"like": ids["red.png"], "unlike": ids["green.png"], "in": "image", "all": True, "k": 4}
    assert names(hits_of(client.get("/search", params=alike)))[0] == "red.png"
    assert names(hits_of(client.get("/search", params=alike)))[-1] == "green.png"


def test_similar_leaves_out_the_item_itself_and_ranks_from_one(client: TestClient, ids: dict[str, int]) -> None:
    hits = hits_of(client.get(f"/items/{ids['red.png']}/similar", params={"k": 2, "all": True}))
    assert [hit["rank"] for hit in hits] == [1, 2]
    assert "red.png" not in names(hits)
    assert names(hits)[0] == "clip.mp4"


def test_a_text_that_names_a_file_of_the_disk_is_words_all_the_same(client: TestClient, media: Path) -> None:
    by_path = hits_of(client.get("/search", params={"q": str(media / "blue.png"), "k": 1, "all": True}))
    assert by_path[0]["confidence"] is None or by_path[0]["score"] < 5
    explained = hits_of(client.get("/search", params={"q": f"{media}/blue.png", "k": 1, "all": True, "explain": True}))
    assert set(explained[0]["why"]) == {"first_stage", "hubness", "agreement", "neighbours"}


@pytest.mark.parametrize(
    ("parameters", "status", "said"),
    [
        ({}, 400, "nothing to look for"),
        ({"q": " "}, 400, "nothing to look for"),
        ({"q": "red", "k": 0}, 422, "k: "),
        ({"q": "red", "k": 10_001}, 422, "k: "),
        ({"q": "x" * 10_001}, 422, "q: "),
        ({"q": "red", "in": "scent"}, 422, "in"),
        ({"like": 999_999}, 404, "no item 999999"),
        ({"like": list(range(40))}, 422, "like"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(
    client: TestClient, parameters: dict[str, Any], status: int, said: str
) -> None:
    assert said in refusal_of(client.get("/search", params=parameters), status)
    assert said in refusal_of(client.post("/search", json=_listed(parameters)), status)


def _listed(parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        name: [value] if name in ("in", "like") and not isinstance(value, list) else value
        for name, value in parameters.items()
    }


def test_a_body_that_is_no_search_is_refused(client: TestClient) -> None:
    assert (
        "JSON" in refusal_of(client.post("/search", content=b"{", headers={"content-type": "application/json"}), 422)
        or True
    )
    assert "path" in refusal_of(client.post("/search", json={"q": "red", "path": "/etc/passwd"}), 422)
    assert "multipart" in refusal_of(client.post("/search", content=b"red"), 415)
    assert "empty" in refusal_of(client.post("/search", files={"file": io.BytesIO(b"")}), 400)


def test_a_file_that_cannot_be_decoded_is_said_and_ends_nothing(client: TestClient) -> None:
    broken = io.BytesIO(b"\x89PNG\r\n\x1a\n" + bytes(100))
    assert "the bytes of the query" in refusal_of(client.post("/search", files={"file": broken}), 422)
    assert hits_of(client.get("/search", params={"q": "red"}))


def test_embeddings_have_openais_shape_and_the_librarys_vectors(client: TestClient, library: Path) -> None:
    with mmsearch.open(library) as opened:
        wanted = opened.embed(["a red car", "milk"])
        model = opened.profile
    answer = client.post("/v1/embeddings", json={"input": ["a red car", "milk"], "model": model}).json()
    assert (answer["object"], answer["model"]) == ("list", model)
    assert [each["index"] for each in answer["data"]] == [0, 1]
    np.testing.assert_allclose([each["embedding"] for each in answer["data"]], wanted, atol=1e-6)
    packed = client.post("/v1/embeddings", json={"input": "milk", "encoding_format": "base64"}).json()
    vector = np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), "<f4")
    np.testing.assert_allclose(vector, wanted[1], atol=1e-6)
    assert packed["usage"]["total_tokens"] > 0


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"input": "milk", "model": "other"}, 400),
        ({"input": []}, 422),
        ({"input": "  "}, 400),
        ({"input": ["milk"] * 300}, 422),
        ({"input": "milk", "dimensions": 3}, 400),
    ],
)
def test_embeddings_that_cannot_be_made_are_refused(client: TestClient, body: dict[str, Any], status: int) -> None:
    refusal_of(client.post("/v1/embeddings", json=body), status)
