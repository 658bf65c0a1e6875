import io
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.videos import HEIGHT, REAL, WIDTH, numbered, numbers_of, real_video, save_sound, save_video, silence

from foveate.data import video
from foveate.data.video import count_frames, read_frames, read_video_header
from foveate.errors import DataError, MissingExtra
from foveate.rules import ReadRules, reading

WRITTEN = [
    ("mp4", "mpeg4", "yuv420p"),
    ("mp4", "libx264", "yuv420p"),  # with frames that are shown in another order than they are stored
    ("m4v", "libx264", "yuv420p"),
    ("mov", "mjpeg", "yuvj420p"),
    ("avi", "mjpeg", "yuvj420p"),
    ("avi", "mpeg4", "yuv420p"),
    ("mkv", "libx264", "yuv420p"),
    ("webm", "libvpx", "yuv420p"),
    ("webm", "libvpx-vp9", "yuv420p"),
    ("gif", "gif", "rgb8"),
    ("mpg", "mpeg1video", "yuv420p"),
    ("mpeg", "mpeg2video", "yuv420p"),
]
TIMES = [0, 100, 150, 160, 400, 1000, 1010, 1500, 1600, 1620, 1640, 1700]


def decoded(path: Path) -> int:
    """How many frames PyAV shows."""
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    return path


def copy_of(source: Path, path: Path) -> Path:
    path.write_bytes(source.read_bytes())
    return path


@pytest.mark.parametrize(("ending", "codec", "pixels"), WRITTEN)
def test_frames_are_read_by_number_in_the_order_asked_for(tmp_path: Path, ending: str, codec: str, pixels: str):
    path = save_video(tmp_path / f"a.{ending}", numbered(), codec, pixels)
    assert count_frames(path) == decoded(path) == 12
    clip = read_frames(path, 3, [7, 0, 11, 7])
    assert clip.shape == (3, 4, HEIGHT, WIDTH)
    assert clip.dtype == torch.uint8
    assert numbers_of(clip) == [7, 0, 11, 7]
    assert clip[:, :, 2, 2].min() > 245
    grey = read_frames(path, 1, [7, 0, 11, 7])
    assert grey.shape == (1, 4, HEIGHT, WIDTH)
    luma = (clip.float() * torch.tensor([0.299, 0.587, 0.114]).reshape(3, 1, 1, 1)).sum(dim=0)
    assert (grey[0] - luma).abs().mean() < 2
    assert read_video_header(path) == (False, (HEIGHT, WIDTH))


def test_what_was_stored_without_loss_is_read_without(tmp_path: Path):
    frames = list(np.random.RandomState(0).randint(256, size=(3, 5, 7, 3)).astype(np.uint8))
    path = save_video(tmp_path / "a.mov", frames, "png", "rgb24")
    assert torch.equal(
        read_frames(path, 3, [2, 0]), torch.from_numpy(np.stack([frames[2], frames[0]])).permute(3, 0, 1, 2)
    )


def test_a_grey_video_is_grey(tmp_path: Path):
    frames = list(np.random.RandomState(0).randint(256, size=(3, 6, 8)).astype(np.uint8))
    path = save_video(tmp_path / "a.mkv", frames, "ffv1", "gray")
    assert read_video_header(path) == (True, (6, 8))
    assert torch.equal(read_frames(path, 1, [2])[0, 0], torch.from_numpy(frames[2]))
    assert torch.equal(read_frames(path, 3, [2])[:, 0], torch.from_numpy(frames[2]).expand(3, 6, 8))


@pytest.mark.parametrize(("ending", "codec", "pixels"), [("mp4", "libx264", "yuv420p"), ("gif", "gif", "rgb8")])
def test_the_time_between_frames_does_not_matter(tmp_path: Path, ending: str, codec: str, pixels: str):
    path = save_video(tmp_path / f"a.{ending}", numbered(), codec, pixels, times=TIMES)
    assert count_frames(path) == decoded(path) == 12
    assert numbers_of(read_frames(path, 1, range(12))) == list(range(12))


def test_a_gif_that_repeats_for_ever_ends(tmp_path: Path):
    first, *rest = [Image.fromarray(frame) for frame in numbered(5)]
    first.save(tmp_path / "a.gif", save_all=True, append_images=rest, loop=0)
    assert count_frames(tmp_path / "a.gif") == 5
    with pytest.raises(DataError, match="it has 5 frames"):
        read_frames(tmp_path / "a.gif", 1, [5])


def test_what_is_transparent_becomes_white(tmp_path: Path):
    frame = np.zeros((6, 8, 4), np.uint8)
    frame[:3, :, 3] = 255
    path = save_video(tmp_path / "a.mov", [frame], "png", "rgba")
    for channels in (1, 3):
        clip = read_frames(path, channels, [0])
        assert clip[:, 0, :3].max() == 0
        assert clip[:, 0, 3:].min() == 255


def test_frames_that_are_not_shown_are_not_counted(tmp_path: Path):
    path = save_video(tmp_path / "a.mp4", numbered(), "libx264")
    data = bytearray(path.read_bytes())
    start = data.index(b"elst") + 16  # where in its time the video begins to be shown: here after four frames
    data[start : start + 4] = (int.from_bytes(data[start : start + 4], "big") + 4 * 512).to_bytes(4, "big")
    path.write_bytes(data)
    assert count_frames(path) == decoded(path) == 8
    assert numbers_of(read_frames(path, 1, [0, 7])) == [4, 11]


def test_frames_before_the_first_that_stands_alone_are_not_counted(tmp_path: Path):
    whole = save_video(tmp_path / "whole.mp4", numbered(), "libx264", options={"g": "5", "bf": "0"})
    with av.open(str(whole)) as container, av.open(str(tmp_path / "a.mp4"), "w") as out:
        stream = out.add_stream_from_template(container.streams.video[0])
        for packet in [packet for packet in container.demux(video=0) if packet.size][1:]:
            packet.stream = stream
            out.mux(packet)
    assert count_frames(tmp_path / "a.mp4") == decoded(tmp_path / "a.mp4") == 7
    assert numbers_of(read_frames(tmp_path / "a.mp4", 1, [0])) == [5]


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
@pytest.mark.parametrize("mirrored", [False, True])
def test_frames_stand_upright_as_the_file_says(tmp_path: Path, rotation: int, mirrored: bool):
    # Four corners of different brightness, so that no two of the eight ways to lie are alike.
    frame = np.repeat(np.repeat(np.array([[0, 80], [160, 240]], np.uint8), 16, axis=0), 24, axis=1)
    path = save_video(
        tmp_path / "a.mp4", [np.repeat(frame[..., None], 3, axis=2)], rotation=rotation, mirrored=mirrored
    )
    # FFmpeg turns counter-clockwise, and mirrors what it has turned.
    upright = np.rot90(frame, rotation // 90)
    upright = upright[:, ::-1] if mirrored else upright
    clip = read_frames(path, 1, [0])
    assert clip.shape[2:] == upright.shape
    assert (clip[0, 0].int() - torch.from_numpy(upright.copy()).int()).abs().max() < 16
    assert read_video_header(path)[1] == upright.shape


def test_side_data_that_pyav_does_not_know_leaves_the_rotation():
    class Frame:
        rotation = -90

        @property
        def side_data(self):
            raise ValueError("31 is not a valid Type")

    pixels = np.arange(6).reshape(2, 3)
    assert (video._upright(pixels, Frame()) == np.rot90(pixels, -1)).all()


def test_sound_beside_the_pictures_is_passed_over(tmp_path: Path):
    path = save_video(tmp_path / "a.mp4", numbered(), "libx264", audio=True)
    assert count_frames(path) == 12
    assert numbers_of(read_frames(path, 1, [3, 4])) == [3, 4]


def test_sound_alone_is_no_video(tmp_path: Path):
    path = save_sound(tmp_path / "a.mp4")
    for read in (count_frames, read_video_header, lambda path: read_frames(path, 1, [0])):
        with pytest.raises(DataError, match=r"a\.mp4 holds no video stream"):
            read(path)


def test_the_cover_of_a_piece_of_music_is_no_video(tmp_path: Path):
    with av.open(str(tmp_path / "a.mp4"), "w") as out:
        sound = out.add_stream("aac", rate=8000, layout="mono")
        cover = out.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = HEIGHT, WIDTH, "yuvj420p"
        cover.disposition = type(cover.disposition).attached_pic
        out.mux([*cover.encode(av.VideoFrame.from_ndarray(numbered(1)[0], format="rgb24")), *cover.encode()])
        out.mux([*sound.encode(silence()), *sound.encode()])
    assert decoded(tmp_path / "a.mp4") == 1
    with pytest.raises(DataError, match=r"a\.mp4 holds no video stream"):
        count_frames(tmp_path / "a.mp4")


@pytest.mark.parametrize("name", REAL)
@pytest.mark.slow
def test_real_videos_have_their_frames_and_size(name: str):
    path, (count, height, width) = real_video(name), REAL[name]
    assert count_frames(path) == decoded(path) == count
    assert read_video_header(path) == (False, (height, width))
    with pytest.raises(DataError, match=rf"must have frame {count}, counted from 0, to be read; it has {count} frames"):
        read_frames(path, 1, [count])


@pytest.mark.parametrize("name", ["bikes", "carphone_pristine"])
@pytest.mark.slow
def test_a_frame_alone_is_that_of_the_whole_video(name: str):
    path, count = real_video(name), REAL[name][0]
    with av.open(str(path)) as container:
        whole = [
            torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1) for frame in container.decode(video=0)
        ]
    for number in (0, 1, count // 2, count - 1):
        assert torch.equal(read_frames(path, 3, [number])[:, 0], whole[number])
    assert torch.equal(read_frames(path, 3, [9, 7, 9]), torch.stack([whole[9], whole[7], whole[9]], dim=1))


def test_only_as_much_is_decoded_as_is_needed(tmp_path: Path, monkeypatch):
    path = save_video(tmp_path / "a.avi", numbered(), "mjpeg", "yuvj420p")
    seen, turned = [], video._decoded

    def counted(path):
        for frame in turned(path):
            seen.append(frame)
            yield frame

    monkeypatch.setattr(video, "_decoded", counted)
    read_frames(path, 1, [2, 4])
    assert len(seen) == 5


def test_a_container_that_keeps_count_is_not_decoded(tmp_path: Path, monkeypatch):
    path = save_video(tmp_path / "a.mp4", numbered(), "libx264")
    monkeypatch.setattr(video, "_decoded", None)
    assert count_frames(path) == 12


def test_a_file_that_is_cut_off_is_used_to_its_last_whole_frame(tmp_path: Path):
    for name, codec, container in (
        ("a.avi", "mjpeg", {}),
        ("a.webm", "libvpx", {}),
        ("a.gif", "gif", {}),
        ("a.mp4", "libx264", {"movflags": "faststart"}),  # which puts the index first, with the count of the whole
    ):
        noise = np.random.RandomState(0).randint(256, size=(12, HEIGHT, WIDTH, 3)).astype(np.uint8)
        pixels = {"mjpeg": "yuvj420p", "gif": "rgb8"}.get(codec, "yuv420p")
        whole = save_video(tmp_path / name, list(noise), codec, pixels, container=container)
        clip = read_frames(whole, 3, range(12))
        path = cut(whole, 0.6)
        count = count_frames(path)
        assert 0 < count < 12, name
        assert torch.equal(read_frames(path, 3, range(count)), clip[:, :count]), name
        with pytest.raises(DataError, match=f"it has {count} frames"):
            read_frames(path, 3, [count])


def test_a_last_frame_that_misses_a_byte_is_left_out(tmp_path: Path):
    path = save_video(tmp_path / "a.mp4", numbered(), "libx264", container={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[:-1])
    assert count_frames(path) == 11
    assert numbers_of(read_frames(path, 1, [9])) == [9]


def test_a_file_without_its_index_is_told(tmp_path: Path):
    path = cut(save_video(tmp_path / "a.mp4", numbered()), 0.6)
    with pytest.raises(DataError, match=r"a\.mp4 is not a video that can be read \(\.mp4, .*\)"):
        count_frames(path)


def test_a_file_without_a_whole_frame_is_told(tmp_path: Path):
    noise = list(np.random.RandomState(0).randint(256, size=(1, 64, 64, 3)).astype(np.uint8))
    path = cut(save_video(tmp_path / "a.mp4", noise, "libx264", container={"movflags": "faststart"}), 0.8)
    for read in (count_frames, read_video_header, lambda path: read_frames(path, 1, [0])):
        with pytest.raises(DataError, match=r"a\.mp4 holds no frame that can be decoded"):
            read(path)


def test_damage_in_the_middle_is_told_with_the_frame(tmp_path: Path):
    path = save_video(tmp_path / "a.avi", numbered(), "mjpeg", "yuvj420p")
    data = path.read_bytes()
    at = [place for place in range(len(data)) if data[place : place + 3] == b"\xff\xd8\xff"][7]
    path.write_bytes(data[:at] + bytes(550) + data[at + 550 :])
    assert numbers_of(read_frames(path, 1, [6])) == [6]
    for read in (count_frames, lambda path: read_frames(path, 1, [8])):
        with pytest.raises(DataError, match=r"a\.avi is damaged at frame 7"):
            read(path)


def test_a_last_frame_that_is_whole_and_damaged_is_told(tmp_path: Path):
    path = save_video(tmp_path / "a.mov", numbered(), "mjpeg", "yuvj420p", container={"movflags": "faststart"})
    data = path.read_bytes()
    path.write_bytes(data[:-550] + bytes(550))
    assert count_frames(path) == 12
    with pytest.raises(DataError, match=r"a\.mov is damaged at frame 11"):
        read_frames(path, 1, [11])


@pytest.mark.slow
def test_damage_that_the_decoder_hides_is_told_with_the_frame(tmp_path: Path):
    path = copy_of(real_video("bikes"), tmp_path / "a.mp4")
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(data[:middle] + bytes(300) + data[middle + 300 :])
    with pytest.raises(DataError, match=r"a\.mp4 is damaged at frame 124"):
        read_frames(path, 1, [200])
    assert read_frames(path, 1, [100]).shape == (1, 1, 272, 640)


def test_an_empty_file_is_told(tmp_path: Path):
    (tmp_path / "a.mp4").touch()
    with pytest.raises(DataError, match=r"a\.mp4 is empty"):
        count_frames(tmp_path / "a.mp4")


def test_a_file_that_is_not_there_is_told(tmp_path: Path):
    with pytest.raises(DataError, match=r"a\.mp4 does not exist"):
        count_frames(tmp_path / "a.mp4")


def test_a_file_that_only_looks_like_a_video_is_told(tmp_path: Path):
    (tmp_path / "a.avi").write_bytes(b"no video at all" * 100)
    with pytest.raises(DataError, match=r"a\.avi is not a video that can be read \(\.mp4, .*\)"):
        read_frames(tmp_path / "a.avi", 1, [0])


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile '{other}'\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{other}\n#EXT-X-ENDLIST\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/9\n",
    ],
    ids=["concat", "m3u8", "sdp"],
)
def test_what_leads_to_other_files_or_the_network_is_refused(tmp_path: Path, text: str):
    other = save_video(tmp_path / "other.mp4", numbered())
    path = tmp_path / "a.mp4"
    path.write_text(text.format(other=other.name))
    with pytest.raises(DataError, match=r"a\.mp4 is not a video that can be read"):
        read_frames(path, 1, [0])


def test_a_container_of_another_kind_is_refused(tmp_path: Path):
    stored = io.BytesIO()
    with av.open(stored, "w", format="flv") as out:
        stream = out.add_stream("flv", rate=25)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for frame in numbered():
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode())
    (tmp_path / "a.mp4").write_bytes(stored.getvalue())
    assert decoded(tmp_path / "a.mp4") == 12
    with pytest.raises(DataError, match=r"a\.mp4 is not a video that can be read"):
        count_frames(tmp_path / "a.mp4")


def test_nothing_in_a_file_may_open_another(tmp_path: Path, monkeypatch):
    save_video(tmp_path / "other.mp4", numbered())
    path = tmp_path / "a.mp4"
    path.write_text("ffconcat version 1.0\nfile 'other.mp4'\n")
    monkeypatch.setattr(video, "CONTAINERS", f"{video.CONTAINERS},concat")
    with pytest.raises(DataError, match=r"a\.mp4 is not a video that can be read"):
        count_frames(path)


def test_a_name_that_looks_like_an_address_is_a_name(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_video(Path("a.mp4"), numbered()).rename("concat:b.mp4")
    assert count_frames(Path("concat:b.mp4")) == 12
    with pytest.raises(DataError, match=r"http:/a\.example/b\.mp4 does not exist"):
        count_frames(Path("http://a.example/b.mp4"))


def test_frames_that_unpack_to_too_much_are_refused(tmp_path: Path, monkeypatch):
    path = save_video(tmp_path / "a.gif", numbered(), "gif", "rgb8")
    data = bytearray(path.read_bytes())
    data[6:10] = (15000).to_bytes(2, "little") * 2
    path.write_bytes(data)
    with pytest.raises(
        DataError, match=r"a\.gif holds no frame that can be decoded; up to 67108864 pixels are, as max_pixels says"
    ):
        count_frames(path)
    path = save_video(tmp_path / "a.mp4", numbered())
    told = r"a\.mp4 holds no frame that can be decoded; up to 1535 pixels are"
    with reading(ReadRules(max_pixels=HEIGHT * WIDTH - 1)), pytest.raises(DataError, match=told):
        read_frames(path, 1, [0])
    assert count_frames(path) == 12


def test_frames_of_several_sizes_are_told(tmp_path: Path):
    small, large = (
        save_video(tmp_path / name, numbered(3, *size), "mpeg2video")
        for name, size in (("b.mpg", (32, 48)), ("c.mpg", (64, 48)))
    )
    path = tmp_path / "a.mpg"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    assert read_frames(path, 1, [0, 1]).shape == (1, 2, 32, 48)
    with pytest.raises(
        DataError, match=r"a\.mpg must have frames of one size; got 48x32 in frame 0 and 48x64 in frame 3"
    ):
        read_frames(path, 1, [0, 3])


def test_frames_that_grow_too_large_are_refused(tmp_path: Path):
    small, large = (save_video(tmp_path / f"{size}.mpg", numbered(3, size, size), "mpeg2video") for size in (32, 640))
    path = tmp_path / "a.mpg"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    with reading(ReadRules(max_pixels=10**5)):
        assert read_frames(path, 1, [1]).shape == (1, 1, 32, 32)
        with pytest.raises(DataError, match=r"a\.mpg is damaged at frame 3"):
            read_frames(path, 1, [3, 4])


def test_frames_must_be_asked_for_by_numbers_from_0(tmp_path: Path):
    for frames in ([], [3, -1]):
        with pytest.raises(ValueError, match=r"frames must be one number or more, none below 0; got \["):
            read_frames(tmp_path / "a.mp4", 1, frames)


def test_names_in_a_file_may_be_written_in_any_way(tmp_path: Path):
    path = save_video(tmp_path / "a.avi", numbered(), "mjpeg", "yuvj420p")
    data = path.read_bytes()
    assert data.count(b"Lavf") == 1
    path.write_bytes(data.replace(b"Lavf", b"\xe9\xff\xfe\xe8"))
    assert count_frames(path) == 12


def test_without_pyav_the_extra_is_named(tmp_path: Path, monkeypatch):
    path = save_video(tmp_path / "a.mp4", numbered())
    monkeypatch.setitem(sys.modules, "av", None)
    for read in (count_frames, read_video_header, lambda path: read_frames(path, 1, [0])):
        with pytest.raises(MissingExtra, match=r"this needs av, .* pip install 'foveate\[video\]'"):
            read(path)
