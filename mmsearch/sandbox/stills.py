"""Small pictures and short clips of files, made in the sandbox: what thumbnails and a server show."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmsearch.sandbox.keeper import Job, Needs
from mmsearch.sandbox.pool import Sandbox
from mmsearch.sandbox.work import Request
from mmsearch.settings import Limits
from mmsearch.types import View

if TYPE_CHECKING:
    from mmsearch.media.cut import Clip
    from mmsearch.spaces import Prepared
    from mmsearch.types import Payload

LIMITS = Limits(pixels=120_000_000, picture_bytes=2**28, frame_pixels=4_096 * 2_304)
"""What a thumbnail may cost: it isn't worth what indexing is."""
LONGEST_S = 5.0
"""How long a picture may take."""
CUT_S = 30.0
"""How long a clip may take."""
_QUALITY = 82


@dataclass(frozen=True, slots=True)
class Still:
    """What a worker makes of a picture: the bytes of a PNG or JPEG file, (n,) uint8, that fits into a box of pixels.

    It stands where an index run has the front end of a tower.
    """

    width: int
    height: int
    kind: str

    max_tokens = 1

    @property
    def side(self) -> int:
        """The least side that is decoded, in pixels."""
        return min(self.width, self.height)

    def __call__(self, payload: Payload) -> Prepared:
        """Return the file."""
        assert not isinstance(payload, str | np.ndarray)
        out = io.BytesIO()
        payload.thumbnail((self.width, self.height))
        payload.save(out, self.kind, quality=_QUALITY)
        return np.frombuffer(out.getvalue(), np.uint8)

    def count_tokens(self, text: str) -> int:
        """Return the length of a text: there is none."""
        return len(text)


def still_of(sandbox: Sandbox, path: bytes, at_s: float, still: Still) -> bytes:
    """Return what is to be seen in a picture, or at a second of a video, as a small file.

    `path` is absolute. Raises `MediaError`, `SandboxError`.
    """
    needs = Needs.of({("still", View.VISUAL): still}, LIMITS)
    content = sandbox.take(sandbox.submit(Job(Request(path, still_s=at_s), needs, LONGEST_S)))
    (((file,),),) = (inputs.values() for inputs in content.segments[0].views.values())
    return file.tobytes()


def clip_of(sandbox: Sandbox, path: bytes, start_s: float, end_s: float) -> Clip:
    """Return a moment of a sound or video as a file of its own. `path` is absolute. Raises what `still_of` does."""
    needs = Needs.of({("still", View.VISUAL): Still(1, 1, "JPEG")}, LIMITS)
    content = sandbox.take(sandbox.submit(Job(Request(path, cut_s=(start_s, end_s)), needs, CUT_S)))
    assert content.clip is not None
    return content.clip
