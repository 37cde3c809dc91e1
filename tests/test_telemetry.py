"""No upload, no network: not even by the libraries we stand on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_embedding_leaves_no_trace_in_the_users_home(tmp_path: Path) -> None:
    code = "import mmsearch, time; mmsearch.embed(['a red car'], model='mini'); time.sleep(1)"
    environment = {k: v for k, v in os.environ.items() if k not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")}
    subprocess.run([sys.executable, "-c", code], env={**environment, "HOME": str(tmp_path)}, check=True, timeout=60)
    assert list(tmp_path.rglob("*")) == []
