"""How FFmpeg opens a file that nobody vouches for: no playlist, no network, no other file."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import av

if TYPE_CHECKING:
    from av.container import InputContainer

_DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,ogg,mp3,aac,wav,w64,aiff,flac,mpeg,mpegts,asf,flv,caf,amr"
"""What FFmpeg may open: its other demuxers include playlists and scripts that name further files and hosts."""
_READ_BYTES = 2**20


def open_container(file: BinaryIO) -> InputContainer:
    """Open a container at its start. Raises PyAV's `FFmpegError` where it is none of those that are read."""
    file.seek(0)
    options = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "", "enable_drefs": "0"}
    return av.open(file, "r", options=options, metadata_errors="replace", buffer_size=_READ_BYTES)
