"""Composed pictures inside the report: small enough that the file can be sent by mail."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from wsss_zoo.errors import ArtifactError

#: Bytes of all pictures of one report, as they stand in the file (base64).
PICTURE_BUDGET = 8_000_000
_WIDTHS = (1600, 1280, 1024, 800, 640, 480)
_QUALITY = 86


def inline_pictures(files: Mapping[str, Path], budget: int = PICTURE_BUDGET) -> dict[str, str]:
    """Turn pictures into `data:` addresses of JPEG files.

    All pictures share one largest width: the largest at which they fit the budget together.

    Args:
        files: key -> picture file.
        budget: bytes of all addresses together; where even the smallest width takes more, pictures at the
            end are left out.

    Returns:
        Key -> address, in the order of `files`.

    Raises:
        ArtifactError: a picture cannot be read.
    """
    for width in _WIDTHS:
        addresses: dict[str, str] = {}
        total = 0
        for key, file in files.items():
            address = _address(file, width)
            total += len(address)
            if total > budget:
                break
            addresses[key] = address
        else:
            break
    return addresses if files else {}


def _address(file: Path, width: int) -> str:
    try:
        with Image.open(file) as stored:
            picture = stored.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise ArtifactError(
            f"{file}: the picture cannot be read ({error}); delete it and run again"
        ) from error
    if picture.width > width:
        height = max(1, round(picture.height * width / picture.width))
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
