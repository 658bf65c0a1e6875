"""Readers: one a kind of data, each giving typed samples in three splits."""

from foveate.data.clips import Clips, ClipSplit, open_clips
from foveate.data.pictures import SPLITS, Pictures, Split, open_pictures
from foveate.data.reading import SUFFIXES, read_picture

__all__ = [
    "KINDS",
    "SPLITS",
    "SUFFIXES",
    "ClipSplit",
    "Clips",
    "Pictures",
    "Split",
    "open_clips",
    "open_pictures",
    "read_picture",
]

# What --data takes, for `foveate list data`.
KINDS = {
    "demo": "the embedded pictures: cluttered digits, 10 classes, grey, 40x40, the digit's place known",
    "DIR": "a folder of class folders, below train, val and test, or split 70/15/15 by a hash of the names",
    "FILE.npz": "a MedMNIST file: train_images, train_labels and the same for val and test",
    "DATASET": "to segment: dataset.json of the Decathlon or of nnU-Net, or images/ and labels/ with equal names",
    "direction": "the embedded clips: a digit travels left or right, 2 classes, 8 frames, grey, 40x40, its place known",
    "mover": "the embedded clips: which of three digits moves, 10 classes, 8 frames, grey, 48x48, its place known",
    "lesions": "the embedded volumes: cut into slices, with lesions to be found in them, their places known",
    "VOLUMES": "to detect in slices: as DATASET, each connected part of a class being a lesion, or each number",
    "SLICES": "to detect in slices: DL_info.csv of DeepLesion, or COCO json whose images say volume and slice",
    "CLIPS": "videos: class folders as DIR, of video files (with the extra video) or of folders of frames",
}
