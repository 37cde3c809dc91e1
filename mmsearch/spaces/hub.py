"""Fetches model files from the Hugging Face hub or its cache on this disk. No other module does.

Downloads use `huggingface_hub`. `find` and `answers`, which a query may call, don't import it, since that takes longer
than they do. They read its cache directly: refs/main holds the commit, snapshots/COMMIT the files, .no_exist/COMMIT
empty files for those that the commit doesn't have, and blobs the contents.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mmsearch.errors import FULL, CacheFullError, ModelError, ModelUnavailableError, WrongModelError
from mmsearch.files import read_bounded
from mmsearch.paths import expand

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.hf_api import RepoSibling

_T = TypeVar("_T")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
_REPOSITORY = re.compile(rf"(?!.*(--|\.\.))({_NAME}/)?{_NAME}(?<!\.git)")
_LISTING_TIMEOUT_S = 10.0
"""Time limit for listing a repository's files; huggingface_hub would wait for a name server for ever."""


def check_name(repository: str) -> None:
    """Raise `ModelError` for what can't be a repository's name."""
    if not _REPOSITORY.fullmatch(repository):
        raise WrongModelError(f"{repository!r} can't be the name of a model on the hub: write ORGANISATION/NAME")


def find(repository: str, names: Sequence[str]) -> Path | None:
    """Return the first of these files that is in the hub's cache, None if none is. The network isn't used."""
    check_name(repository)
    folder = _snapshot(repository, [names])
    return folder and _first(folder, names)


def fetch(repository: str, names: Sequence[str], *, fetch: bool = True) -> Path:
    """Return the first of these files that the repository has, from the cache or downloaded. Raises as `fetch_all`."""
    folder = fetch_all(repository, [names], fetch=fetch)
    return _first(folder, names) or folder / names[0]


def fetch_all(
    repository: str, needed: Sequence[Sequence[str]], optional: Sequence[str] = (), *, fetch: bool = True
) -> Path:
    """Return the folder with these files of one commit, whose name is the commit; download missing files.

    It has the first existing file of each group in `needed`, and the existing `optional` files. Cached files aren't
    looked up again, so a model stays the same until its files are removed. Raises `ModelError` if a file is missing or
    refused, a download breaks off, or there is no network or disk space. Without `fetch`, only the cache is used.
    """
    check_name(repository)
    cached, snapshot = _folder_of(repository), _snapshot(repository, needed)
    if snapshot:
        known = (snapshot, cached / ".no_exist" / snapshot.name)
        if not fetch or _offline() or all(any((folder / name).is_file() for folder in known) for name in optional):
            return snapshot
    elif not fetch:
        raise ModelUnavailableError(
            f"{repository} is not complete in the hub's cache on this machine; if you trust it, run 'mmsearch model "
            f"pull hf-hub:{repository}'"
        )
    elif _offline():
        raise ModelUnavailableError(
            f"{repository} is not complete in the cache, and HF_HUB_OFFLINE forbids to fetch it; unset HF_HUB_OFFLINE "
            f"and TRANSFORMERS_OFFLINE, or use --model mini, or copy {cached} from a computer that has it"
        )
    subject = repository
    try:
        with _quiet():
            from huggingface_hub import hf_hub_download
            from huggingface_hub.errors import EntryNotFoundError

            commit, available = _list_files(repository, snapshot.name if snapshot else "main")
            chosen = [] if snapshot else [_choose(repository, names, available) for names in needed]
            _check_room(repository, [available[name] for name in {*optional, *chosen} if name in available])
            for name in (*optional, *chosen):
                subject = f"{name} of {repository}"
                # A missing optional file is requested as well, so that the cache records its absence.
                with nullcontext() if name in available else suppress(EntryNotFoundError):
                    hf_hub_download(repository, name, revision=commit, cache_dir=cached.parent, endpoint=_endpoint())
        if not snapshot:  # written last, so that the cache never names an incomplete commit
            (cached / "refs").mkdir(exist_ok=True)
            (cached / "refs" / "main").write_text(commit, "utf-8")
    except ModelError:
        raise
    except Exception as error:  # the HTTP library, and so its errors, depend on huggingface_hub's version
        if snapshot and subject == repository:
            return snapshot  # everything needed is cached, so the network isn't required
        raise _refusal(repository, subject, error) from error
    return cached / "snapshots" / commit


@contextmanager
def network_forbidden() -> Iterator[None]:
    """Restrict huggingface_hub, and the libraries that load models through it, to the cache during the context."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def answers(repository: str, within_s: float = 3.0) -> bool:
    """Return whether the hub confirms within the time limit that it has this public repository; False if offline."""
    if _offline() or not _REPOSITORY.fullmatch(repository):
        return False
    import ssl
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import urlopen

    context = ssl.create_default_context()
    with suppress(ImportError):  # the system's certificates, which this Python may not know; huggingface_hub uses them
        import truststore

        context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    url = f"{_endpoint()}/api/models/{repository}/revision/main"  # the first request of `fetch_all`
    try:
        _within(within_s, lambda: urlopen(url, timeout=within_s, context=context)).close()
        return True
    except HTTPError as refusal:
        refusal.close()
    except (OSError, ValueError, HTTPException):
        pass
    return False


def _list_files(repository: str, revision: str) -> tuple[str, dict[str, RepoSibling]]:
    """Return the commit of a revision, and its files by name."""
    from huggingface_hub import HfApi

    request, limit_s = HfApi(endpoint=_endpoint()).model_info, _LISTING_TIMEOUT_S
    info = _within(limit_s, lambda: request(repository, revision=revision, files_metadata=True, timeout=limit_s))
    if not _COMMIT.fullmatch(info.sha or ""):
        raise ValueError
    return str(info.sha), {file.rfilename: file for file in info.siblings or ()}


def _choose(repository: str, names: Sequence[str], available: Collection[str]) -> str:
    if not (chosen := next((name for name in names if name in available), "")):
        raise WrongModelError(f"{repository} on the hub has no {' or '.join(names)}; choose another model")
    return chosen


def _check_room(repository: str, files: Sequence[RepoSibling]) -> None:
    """Raise `ModelError` unless the disk has room for missing files; huggingface_hub would only warn."""
    cache, blobs = _cache_folder(), _folder_of(repository) / "blobs"
    missing = [file for file in files if not (blobs / str(file.lfs.sha256 if file.lfs else file.blob_id)).is_file()]
    need = sum(file.size or 0 for file in missing)
    if need > (free := shutil.disk_usage(next(folder for folder in (cache, *cache.parents) if folder.exists())).free):
        raise CacheFullError(
            f"{repository} needs {need / 1e6:,.1f} MB more in {cache}, where {free / 1e6:,.1f} MB are free; make room "
            "there, or set HF_HOME to a folder on another disk"
        )


def _refusal(repository: str, subject: str, error: BaseException) -> ModelError:
    """Return the error for a repository or file (`subject`) that can't be fetched, with the remedy."""
    from huggingface_hub.errors import FileMetadataError, HfHubHTTPError

    if isinstance(error, OSError) and error.errno:  # a disk error: those of the network are wrapped
        full = error.errno in FULL
        remedy = "make room there" if full else "make that folder writable"
        return (CacheFullError if full else ModelUnavailableError)(
            f"{subject} can't be kept in {_cache_folder()}: {error.strerror}; {remedy}, or set HF_HOME to another "
            "folder"
        )
    misfits = (FileMetadataError, ValueError, TypeError, KeyError)
    while not isinstance(error, (HfHubHTTPError, *misfits)) and (cause := error.__cause__ or error.__context__):
        error = cause
    if isinstance(error, HfHubHTTPError):
        return _http_refusal(repository, subject, error)
    why = "it doesn't answer as the hub does" if isinstance(error, misfits) else str(error) or "no answer in time"
    why = (getattr(error, "strerror", None) or why).splitlines()[0].rstrip(".")  # a bad certificate is a ValueError too
    return ModelUnavailableError(
        f"{subject} can't be fetched from {_endpoint()}: {why}; check the network, the proxy and HF_ENDPOINT and run "
        f"it again, or use --model mini, or copy {_folder_of(repository)} from a computer that has it"
    )


def _http_refusal(repository: str, subject: str, error: HfHubHTTPError) -> ModelError:
    """Return the error for an HTTP status by which the hub refuses a repository or file."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    status, page = error.response.status_code, f"{_endpoint()}/{repository}"
    log_in = "log in with `hf auth login` or set HF_TOKEN"
    if isinstance(error, GatedRepoError):
        return ModelUnavailableError(f"{repository} is gated: accept its terms on {page}, then {log_in}")
    if error.response.headers.get("X-Error-Message", "").startswith("Invalid credentials"):
        return ModelUnavailableError(
            f"the hub doesn't accept your token for {repository}: {log_in}, or remove the token"
        )
    if isinstance(error, RepositoryNotFoundError) or (status in {401, 404} and subject == repository):
        return WrongModelError(f"the hub has no model {repository}, or it is private: check the name, or {log_in}")
    if status == 429:
        return ModelUnavailableError(
            f"the hub accepts no more requests for {subject} now (HTTP 429); wait some minutes, or {log_in}"
        )
    if status >= 500:
        return ModelUnavailableError(
            f"the hub has a fault (HTTP {status} for {subject}); try again later, or use --model mini"
        )
    return ModelUnavailableError(f"the hub refuses {subject} (HTTP {status}); see {page}, and {log_in}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the log lines and warnings of huggingface_hub. Its progress bars show only on a terminal anyway."""
    with warnings.catch_warnings(action="ignore"):
        from huggingface_hub.utils import logging as hub_logging

        level = hub_logging.get_verbosity()
        hub_logging.set_verbosity(logging.CRITICAL)
        try:
            yield
        finally:
            hub_logging.set_verbosity(level)


def _within(seconds: float, call: Callable[[], _T]) -> _T:
    """Return the result of a call, or raise `TimeoutError`. A host name look-up has no time limit of its own."""
    from concurrent.futures import Future
    from threading import Thread

    done: Future[_T] = Future()

    def work() -> None:
        try:
            done.set_result(call())
        except BaseException as error:  # raised again in the caller's thread
            done.set_exception(error)

    Thread(target=work, daemon=True).start()
    return done.result(seconds)


def _snapshot(repository: str, groups: Sequence[Sequence[str]]) -> Path | None:
    """Return the folder of the newest commit in the cache if it has a file of every group."""
    try:
        commit = read_bounded(_folder_of(repository) / "refs" / "main", 256).decode("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    folder = _folder_of(repository) / "snapshots" / commit
    return folder if _COMMIT.fullmatch(commit) and all(_first(folder, names) for names in groups) else None


def _first(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _folder_of(repository: str) -> Path:
    """Return the folder of a repository in the cache."""
    return _cache_folder() / f"models--{repository.replace('/', '--')}"


def _cache_folder() -> Path:
    """Return the hub's cache folder, by the rules of huggingface_hub."""
    home = os.environ.get("HF_HOME") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"
    return Path(os.path.expandvars(expand(named)))


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def _offline() -> bool:
    """Return whether the user forbids the network."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE", "")
    return value.upper() in {"1", "ON", "YES", "TRUE"}
