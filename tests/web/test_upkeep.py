"""What the library holds, index runs as jobs, health, metrics, the description of the API, and the process itself."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import CACHE, Run
from starlette.testclient import TestClient
from support.serving import hits_of, refusal_of, serving

import mmsearch
from mmsearch import IndexReport, MissingPackageError, Progress, Settings, UsageError, wire
from mmsearch.cli.serving import serve


def test_status_and_facets_are_the_librarys(client: TestClient, library: Path) -> None:
    with mmsearch.open(library) as opened:
        status = wire.from_status(opened.status())
    answer = client.get("/status").json()
    assert answer | status == answer
    assert (answer["failed"], answer["job"]) == ([], None)
    assert client.get("/facets").json() == {
        "modalities": {"audio": 0, "image": 4, "text": 2, "video": 2},
        "years": {"2019": 1},
        "cameras": {"Pinhole 3": 1},
    }


def test_a_job_brings_in_what_is_new_and_tells_how_far_it_is(media: Path, tmp_path: Path) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    shutil.copy(media / "red.png", folder)
    with mmsearch.open(tmp_path / "lib", model="hashing", settings=Settings(workers=1)) as library:
        library.index(folder)
    shutil.copy(media / "blue.png", folder)
    with serving(tmp_path / "lib") as client:
        started = client.post("/index", json={"retry": True})
        assert started.status_code == 202
        address = started.headers["location"]
        with client.stream("GET", f"{address}/events") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
        last = json.loads(lines[-1].removeprefix("data: "))
        assert last == client.get(address).json()
        assert (last["state"], last["done"], last["total"], last["error"]) == ("done", 2, 2, None)
        assert last["report"]["added"] == 1
        hits = hits_of(client.get("/search", params={"q": "blue", "k": 1, "all": True}))
        assert hits[0]["path"].endswith("blue.png")
        assert client.get("/status").json()["job"] == last
        refusal_of(client.get("/jobs/99"), 404)
        assert "path" in refusal_of(client.post("/index", json={"path": "/etc"}), 422)


def test_one_job_runs_at_a_time_and_can_be_stopped(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    went_on = threading.Event()

    def run(_: object, *, progress: object, stop: threading.Event, **__: object) -> IndexReport:
        assert callable(progress)
        progress(Progress(1, 9, 0, "decode", Path("long.mp4")))
        went_on.set()
        assert stop.wait(20)
        return IndexReport(interrupted=True)

    monkeypatch.setattr(mmsearch.Library, "index", run)
    with serving(library) as client:
        job = client.post("/index").json()
        assert went_on.wait(20)
        assert "under way" in refusal_of(client.post("/index"), 409)
        under_way = client.get(f"/jobs/{job['id']}").json()
        assert (under_way["state"], under_way["done"], under_way["total"]) == ("running", 1, 9)
        assert under_way["file"] == "long.mp4"
        assert "mmsearch_indexing 1.0" in client.get("/metrics").text
        client.delete(f"/jobs/{job['id']}")
        with client.stream("GET", f"/jobs/{job['id']}/events") as answer:
            assert '"state": "stopped"' in answer.read().decode()
        went_on.clear()
        client.post("/index")  # the end of the server ends this one
        assert went_on.wait(20)


def test_a_job_that_fails_says_why(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> IndexReport:
        raise mmsearch.LockedError("another process writes; wait for it")

    monkeypatch.setattr(mmsearch.Library, "index", run)
    with serving(library) as client:
        number = client.post("/index").json()["id"]
        with client.stream("GET", f"/jobs/{number}/events") as answer:
            answer.read()
        job = client.get(f"/jobs/{number}").json()
    assert (job["state"], job["error"]) == ("failed", "another process writes; wait for it")


def test_metrics_count_answers_by_route_and_status(library: Path) -> None:
    with serving(library) as client:
        client.get("/items/123456")
        client.get("/search?q=red")
        client.get("/search?q=red", headers={"host": "evil.example"})
        client.get("/wp-admin.php")
        text = client.get("/metrics").text
    assert 'mmsearch_requests_total{method="GET",route="/items/{number}",status="404"} 1.0' in text
    assert 'mmsearch_requests_total{method="GET",route="/search",status="200"} 1.0' in text
    assert 'mmsearch_requests_total{method="GET",route="other",status="403"} 1.0' in text
    assert 'mmsearch_media{modality="image"} 4.0' in text
    assert "wp-admin" not in text


def test_the_description_of_the_api_lists_every_address_and_every_answer(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) == {
        "/search",
        "/items/{number}",
        "/items/{number}/similar",
        "/items/{number}/thumbnail",
        "/items/{number}/file",
        "/items/{number}/clip",
        "/facets",
        "/status",
        "/index",
        "/jobs/{number}",
        "/jobs/{number}/events",
        "/v1/embeddings",
        "/healthz",
        "/metrics",
    }
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            assert {"401", "403", "404", "422", "429", "500"} <= set(operation["responses"]), (path, method)
    for unwanted in ("/docs", "/redoc"):  # they load scripts from elsewhere
        refusal_of(client.get(unwanted), 404)


# The process


@contextmanager
def served(library: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "mmsearch", "serve", "--library", str(library), "--port", "0", *options]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={"MMSEARCH_CACHE": CACHE, "PATH": ""}
    ) as process:
        assert process.stderr is not None
        match = re.search(r"at (http://\S+/)", process.stderr.readline())
        assert match is not None
        try:
            yield process, match[1]
        finally:
            process.kill()


def test_sigterm_ends_the_server_cleanly_with_all_its_processes(library: Path, ids: dict[str, int]) -> None:
    with served(library) as (process, address):
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{address}items/{ids['blue.png']}/thumbnail") as answer:
            assert answer.read(2) == b"\xff\xd8"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize(
    ("host", "port", "token", "said"),
    [
        ("0.0.0.0", 0, None, "--token"),
        ("127.0.0.1", 0, "", "token is empty"),
        ("192.0.2.1", 0, "x", "--host"),
        ("127.0.0.1", -1, None, "taken; choose another with --port"),
    ],
)
def test_what_cannot_be_served_is_said_in_a_line(
    library: Path, host: str, port: int, token: str | None, said: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UsageError, match=said) as refused:
        serve(library, host, taken.getsockname()[1] if port < 0 else port, token)
    assert "\n" not in str(refused.value)


def test_without_a_library_or_the_extra_the_command_says_what_to_do(
    run: Run, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run("serve", "--port", "0", library=tmp_path / "none")
    assert (done.returncode, done.stdout) == (2, "")
    assert "mmsearch index PATH" in done.stderr
    monkeypatch.delitem(sys.modules, "mmsearch.web.server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'mmsearch\[serve\]'"):
        serve(library, "127.0.0.1", 0, None)


def test_no_other_command_loads_the_server() -> None:
    code = "import sys, mmsearch.cli.app, mmsearch.library; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"fastapi", "starlette", "uvicorn", "pydantic", "mcp", "prometheus_client", "mmsearch.web"} & set(loaded)
