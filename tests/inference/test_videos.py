# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Videos, written and read as files."""

from fractions import Fraction

import numpy as np
import pytest

from cgrseg_hf.inference import UnreadableImageError, Video, VideoWriter

av = pytest.importorskip("av")

FRAME_RATE = Fraction(30000, 1001)


def moving_bar(num_frames: int = 10, height: int = 49, width: int = 97):
    """Frames in which a white bar moves to the right over red."""
    for index in range(num_frames):
        frame = np.zeros((height, width, 3), dtype=np.uint8)
        frame[..., 0] = 200
        frame[:, 8 * index : 8 * index + 8] = 255
        yield frame


@pytest.fixture
def video(tmp_path):
    """A file with ten frames of odd sides, which lose a row and a column."""
    file = tmp_path / "bar.mp4"
    with VideoWriter(file, FRAME_RATE) as writer:
        for frame in moving_bar():
            writer.write(frame)
    return file


def test_frames_come_back(video):
    opened = Video(video)
    assert opened.frame_rate == FRAME_RATE
    assert opened.num_frames == 10
    assert opened.times == []
    frames = list(opened)
    assert len(frames) == 10
    for frame, original in zip(frames, moving_bar()):
        assert frame.shape == (48, 96, 3)
        assert frame.dtype == np.uint8
        assert np.abs(frame.astype(int) - original[:48, :96]).mean() < 8
    assert len(list(opened)) == 10, "a second pass starts from the first frame"
    assert opened.times == pytest.approx([index / float(FRAME_RATE) for index in range(10)], abs=1e-4)


@pytest.mark.parametrize(("options", "expected"), [({}, 10), ({"live": "1"}, None)])
def test_files_without_a_count_of_frames(tmp_path, options, expected):
    """The length in time tells it, which a broadcast has not either."""
    with av.open(str(tmp_path / "bar.mkv"), "w", options=options) as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 48, "yuv420p"
        for frame in moving_bar(height=48, width=96):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    video = Video(tmp_path / "bar.mkv")
    assert (video.num_frames, video.frame_rate, len(list(video))) == (expected, 25, 10)


def test_a_video_that_breaks_off_says_where(video):
    data = video.read_bytes()
    start, end = data.index(b"mdat") + 4, data.index(b"moov")
    middle = (start + end) // 2
    video.write_bytes(data[:middle] + b"\xff" * (end - 4 - middle) + data[end - 4 :])
    read = []
    with pytest.raises(UnreadableImageError, match=r"cannot be read as a video after \d+ frames: it is damaged"):
        read.extend(Video(video))


def test_times_of_a_variable_frame_rate(tmp_path):
    """What phones write in bad light: frames that last differently long."""
    file, times = tmp_path / "variable.mp4", [0.0, 0.04, 0.2, 0.24, 1.0, 1.5]
    with VideoWriter(file, Fraction(25)) as writer:
        for frame, time in zip(moving_bar(), times):
            writer.write(frame, time)
    opened = Video(file)
    assert len(list(opened)) == len(times)
    assert opened.times == pytest.approx(times, abs=1e-4)


def test_a_turned_video_is_turned(video, tmp_path):
    """What phones write: frames as the sensor lies, and a matrix that says how to show them."""
    turned = tmp_path / "turned.mp4"
    with av.open(str(video)) as source, av.open(str(turned), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    data = turned.read_bytes()
    identity = b"".join(value.to_bytes(4, "big") for value in (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000))
    quarter = b"".join(
        (value % 2**32).to_bytes(4, "big") for value in (0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    )
    header = data.index(b"tkhd")
    place = data.index(identity, header)
    turned.write_bytes(data[:place] + quarter + data[place + len(quarter) :])
    first, original = next(iter(Video(turned))), next(iter(Video(video)))
    assert first.shape == (96, 48, 3)
    assert np.array_equal(first, np.rot90(original, -1)), "the matrix turns it clockwise"


def test_what_is_no_video_is_refused(tmp_path, video):
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    with pytest.raises(UnreadableImageError, match=r"text\.mp4 cannot be read as a video"):
        Video(text)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    with pytest.raises(UnreadableImageError, match="it is damaged, or not a video: copy or download it again"):
        Video(damaged)
    with pytest.raises(UnreadableImageError, match="No such file"):
        Video(tmp_path / "none.mp4")
    silent = tmp_path / "sound.mkv"
    with av.open(str(silent), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), dtype=np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(UnreadableImageError, match="has no images"):
        Video(silent)
