# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Videos as iterators of frames, and frames as videos, through PyAV."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType, TracebackType

import numpy as np

from ..model.image_reading_cgrseg import UnreadableImageError
from ..utils.optional import import_optional

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv")

# FFmpeg's formats of these suffixes. By itself it goes by the content, and follows play lists and the like, which name
# further files and addresses.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpeg,mpegvideo,mpegts,asf"
_OPTIONS = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}

_DEFAULT_FRAME_RATE = Fraction(25)
# The first that PyAV was built with: H.264 plays everywhere.
_ENCODERS = ("libx264", "libopenh264", "mpeg4")
# Frames are shown at multiples of a fraction of a second no larger than this; MPEG-4 takes none below 1 / 65,535.
_TICKS_PER_SECOND = 60_000


class Video:
    """
    A video file, whose frames are decoded one by one as they are asked for.

    Args:
        path (`str` or `Path`): The file.

    Attributes:
        frame_rate (`Fraction`): Frames per second, on average.
        num_frames (`int`, *optional*): Frames, as far as the file says.
        times (`list[float]`): When each frame decoded so far is shown, in seconds after the first one.

    Raises:
        UnreadableImageError: If it is not a video, or is damaged.
        ImportError: If PyAV is not installed.

    Example:

    ```python
    from cgrseg_hf.inference import Segmenter, Video

    segmenter = Segmenter.from_pretrained()
    for segmentation in segmenter(Video("street.mp4")):
        print(segmentation.area_shares)
    ```
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.times: list[float] = []
        self._av = import_av()
        try:
            with self._av.open(str(self.path), options=dict(_OPTIONS)) as container:
                stream = self._find_stream(container)
                self.frame_rate = Fraction(stream.average_rate or _DEFAULT_FRAME_RATE)
                self.num_frames = stream.frames or self._estimate(container, stream)
        except (self._av.FFmpegError, OSError) as error:
            raise self._unreadable(error) from error

    def __iter__(self) -> Iterator[np.ndarray]:
        """
        Decode the frames from the first on.

        Yields:
            `np.ndarray` of shape `(height, width, 3)`: RGB, uint8, turned as a person sees it.

        Raises:
            UnreadableImageError: If the file is damaged from some frame on.
        """
        times, start = [], None
        self.times = times
        try:
            with self._av.open(str(self.path), options=dict(_OPTIONS)) as container:
                stream = self._find_stream(container)
                stream.thread_type = "AUTO"
                for frame in container.decode(stream):
                    start = frame.time if start is None else start
                    unknown = frame.time is None or start is None
                    times.append(float(len(times) / self.frame_rate) if unknown else frame.time - start)
                    yield _turn(frame.to_ndarray(format="rgb24"), frame.rotation)
        except (self._av.FFmpegError, OSError) as error:
            raise self._unreadable(error, f" after {len(times)} frames") from error

    def _find_stream(self, container: object) -> object:
        if not container.streams.video:
            raise UnreadableImageError(f"{self.path} has no images, only sound or text.")
        return container.streams.video[0]

    def _estimate(self, container: object, stream: object) -> int | None:
        """Estimate the number of frames by the length in time, where the file has no count."""
        if container.duration is None:
            return None
        return round(container.duration / self._av.time_base * self.frame_rate) or None

    def _unreadable(self, error: Exception, where: str = "") -> UnreadableImageError:
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, self._av.InvalidDataError):
            reason = (
                "it is damaged, or not a video: copy or download it again, or repair it by `ffmpeg -i FILE new.mp4`"
            )
        elif isinstance(error, ValueError):  # FFmpeg knows the format, but not one of those above
            reason = f"its format is not one of {', '.join(VIDEO_SUFFIXES)}"
        return UnreadableImageError(f"{self.path} cannot be read as a video{where}: {reason}.")


class VideoWriter:
    """
    Write frames of one size as an MP4 file; use it with `with`.

    Args:
        path (`str` or `Path`): The file to write; it ends with .mp4.
        frame_rate (`Fraction`): Frames per second.

    Raises:
        ImportError: If PyAV is not installed.
    """

    def __init__(self, path: str | Path, frame_rate: Fraction):
        self.path = Path(path)
        self._av = import_av()
        self._frame_rate = frame_rate.limit_denominator(1001)
        numerator = self._frame_rate.numerator
        # So that a frame of a constant rate lasts a whole number of ticks.
        self._tick = Fraction(1, numerator * max(_TICKS_PER_SECOND // numerator, 1))
        self._container = self._av.open(str(self.path), "w")
        self._stream = None
        self._num_frames = 0
        self._last = -1

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._stream is not None:
            for packet in self._stream.encode():
                self._container.mux(packet)
        self._container.close()

    def write(self, frame: np.ndarray, time: float | None = None) -> None:
        """
        Add a frame.

        Args:
            frame (`np.ndarray` of shape `(height, width, 3)`):
                RGB, uint8; an odd row or column at the edge is left out, since players need even sides.
            time (`float`, *optional*):
                When it is shown, in seconds from the beginning; by default at the constant frame rate.
        """
        frame = np.ascontiguousarray(frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2])
        if self._stream is None:
            encoder = next(name for name in _ENCODERS if name in self._av.codecs_available)
            self._stream = self._container.add_stream(encoder, rate=self._frame_rate)
            self._stream.height, self._stream.width = frame.shape[:2]
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = self._tick
        encoded = self._av.VideoFrame.from_ndarray(frame, format="rgb24")
        moment = self._num_frames / self._frame_rate if time is None else Fraction(time)
        self._last = max(round(moment / self._tick), self._last + 1)  # no two frames at once, and none backwards
        self._num_frames += 1
        encoded.time_base, encoded.pts = self._tick, self._last
        for packet in self._stream.encode(encoded):
            self._container.mux(packet)


def is_video(path: str | Path) -> bool:
    """Return whether this is the name of a video."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def import_av() -> ModuleType:
    """Import PyAV, or raise an ImportError that says how to install it."""
    return import_optional("av", "video", "Videos")


def _turn(frame: np.ndarray, degrees: int) -> np.ndarray:
    """Turn a frame counter-clockwise, as its file says that it is to be shown."""
    return np.ascontiguousarray(np.rot90(frame, round(degrees / 90) % 4)) if degrees % 360 else frame
