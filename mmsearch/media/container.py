"""How FFmpeg opens a file that nobody vouches for: no playlist, no network, no other file; and the tags in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import av

from mmsearch import memory

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


def tags_of(file: BinaryIO) -> dict[str, str]:
    """Return the tags of a sound or clip, none where FFmpeg can't read it."""
    try:
        with open_container(file) as container:
            return tags_in(container)
    except Exception as error:  # whatever damaged headers make FFmpeg do
        if memory.is_short(error):
            raise
        return {}


def tags_in(container: InputContainer) -> dict[str, str]:
    """Return a container's tags; those of Ogg belong to its stream of sound."""
    tags = dict(container.metadata)
    if "ogg" in container.format.name and container.streams.audio:
        tags |= container.streams.audio[0].metadata
    return tags


def reason(error: Exception) -> str:
    """Return FFmpeg's word for what is wrong, in one line."""
    said = getattr(error, "strerror", None) or str(error)
    return " ".join(str(said).split())[:120].rstrip(".").lower() or type(error).__name__
