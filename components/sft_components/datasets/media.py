"""Media types that tuning takes, told by name, by declaration and by the bytes themselves."""

import base64
import binascii

IMAGES = ("image/jpeg", "image/png", "image/webp")
DOCUMENTS = ("application/pdf", "text/plain")
AUDIO = (
    "audio/mpeg", "audio/mp3", "audio/wav", "audio/x-wav", "audio/flac", "audio/aac", "audio/ogg",
    "audio/aiff", "audio/m4a", "audio/mp4", "audio/opus", "audio/pcm", "audio/webm",
)  # fmt: skip
VIDEO = (
    "video/mp4", "video/mpeg", "video/mov", "video/quicktime", "video/avi", "video/x-flv",
    "video/mpg", "video/webm", "video/wmv", "video/3gpp",
)  # fmt: skip

_BY_EXTENSION = {
    "jpg": "image/jpeg", "jpeg": "image/jpeg", "jpe": "image/jpeg", "jfif": "image/jpeg",
    "png": "image/png", "webp": "image/webp",
    "pdf": "application/pdf", "txt": "text/plain", "mp3": "audio/mpeg", "wav": "audio/wav",
    "flac": "audio/flac", "aac": "audio/aac", "ogg": "audio/ogg", "m4a": "audio/m4a",
    "aiff": "audio/aiff", "opus": "audio/opus", "mp4": "video/mp4", "mpeg": "video/mpeg",
    "mpg": "video/mpeg", "mov": "video/mov", "webm": "video/webm", "avi": "video/avi",
    "flv": "video/x-flv", "wmv": "video/wmv", "3gp": "video/3gpp",
    # What tuning does not take.
    "gif": "image/gif", "heic": "image/heic", "heif": "image/heif", "avif": "image/avif",
    "bmp": "image/bmp", "tif": "image/tiff", "tiff": "image/tiff", "svg": "image/svg+xml",
    "ico": "image/x-icon", "jp2": "image/jp2", "jxl": "image/jxl", "psd": "image/x-psd",
}  # fmt: skip

SYNONYMS = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png"}
"""Content types that are written for others."""


def mime_of_name(uri: str) -> str:
    """The media type that the ending of an address tells; empty when it tells none."""
    _, dot, ending = uri.rpartition("/")[2].partition("?")[0].rpartition(".")
    return _BY_EXTENSION.get(ending.lower(), "") if dot else ""


def mime_of_uri(uri: str) -> str:
    """The same, but images whose ending tells nothing are taken as JPEG."""
    return mime_of_name(uri) or "image/jpeg"


def contradicts(told: str, mime: str) -> bool:
    """Whether media said to be `told` (empty: unknown) cannot be of the declared type `mime`."""
    # Sound and film share containers, each of which has several names.
    played = ("audio/", "video/")
    return told not in ("", mime) and not (told.startswith(played) and mime.startswith(played))


def modality(mime: str) -> str:
    """image, document, audio or video; empty for a type that tuning does not take."""
    if mime in IMAGES:
        return "image"
    if mime in DOCUMENTS:
        return "document"
    if mime in VIDEO:
        return "video"
    return "audio" if mime in AUDIO else ""


def recognise(head: bytes) -> str:
    """The media type that the first bytes tell; empty when unknown."""
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[:2] == b"BM" and head[6:10] == bytes(4):  # as no text goes on
        return "image/bmp"
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return "audio/wav"
    for magic, mime in (
        (b"GIF8", "image/gif"), (b"%PDF", "application/pdf"),
        (b"fLaC", "audio/flac"), (b"OggS", "audio/ogg"), (b"ID3", "audio/mpeg"),
    ):  # fmt: skip
        if head.startswith(magic):
            return mime
    return ""


def unlike(head: bytes, mime: str) -> bool:
    """Whether media that begin with `head` are not of type `mime`, as far as can be told."""
    told = recognise(head)
    return contradicts(told, mime) if told else mime in IMAGES


def decode_base64(data: str) -> bytes | None:
    """The bytes, or None when the text is not base64."""
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return None
