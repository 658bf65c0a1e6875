"""What is kept with weights is checked when it is read: it may have been edited."""

import json

import pytest

from foveate.data.intensity import Intensity
from foveate.tasks.detect.preparation import Preparation as Detect
from foveate.tasks.lesions.preparation import Preparation as Lesions
from foveate.tasks.segment.preparation import Preparation as Segment

SEGMENT = {
    "classes": ["background", "ball"],
    "values": [0, 1],
    "modalities": ["CT"],
    "spatial_dims": 3,
    "spacing": [1.0, 1.0, 2.0],
    "intensities": [{"rule": "window", "low": -100.0, "high": 200.0}],
    "patch_size": [16, 16, 16],
}
DETECT = {"classes": ["cat"], "category_ids": [1], "stuff": [], "short": 20, "longest": 33, "num_queries": 10}
DETECT |= {"masks": False}
LESIONS = {
    "classes": ["cyst"],
    "values": [1],
    "modality": "CT",
    "modalities": ["CT"],
    "plane": "axial",
    "intensity": {"rule": "window", "low": -200.0, "high": 300.0},
    "slice_mm": 2.0,
    "pixel_mm": None,
    "bag_stride": 1,
    "bag_mm": None,
    "masks": True,
    "norm": "batch",
    "norm_eps": 1e-5,
}


@pytest.mark.parametrize(("kind", "held"), [(Segment, SEGMENT), (Detect, DETECT), (Lesions, LESIONS)])
def test_what_was_not_edited_is_read(kind, held):
    assert kind.from_json(kind.from_json(json.dumps(held)).to_json()).classes == held["classes"]


@pytest.mark.parametrize(
    ("kind", "held", "edit", "told"),
    [
        (
            Segment,
            SEGMENT,
            {"spacing": [1, 0, 2]},
            r"spacing must be positive and finite along each axis; got \(1, 0, 2",
        ),
        (Segment, SEGMENT, {"spacing": [1, float("nan"), 2]}, r"spacing must be positive and finite along each axis"),
        (Segment, SEGMENT, {"spacing": [1, 2]}, r"spacing must be positive and finite along each axis"),
        (Segment, SEGMENT, {"patch_size": [16, 16]}, r"patch_size must be a number of voxels for each of 2 or 3 axes"),
        (Segment, SEGMENT, {"patch_size": [16, 0, 16]}, r"patch_size must be a number of voxels"),
        (Segment, SEGMENT, {"values": [0]}, r"each of two classes or more needs a value"),
        (Segment, SEGMENT, {"intensities": [*SEGMENT["intensities"]] * 2}, r"each channel needs a rule"),
        (Segment, SEGMENT, {"classes": ["background", 3]}, r"classes takes a list such as"),
        (Detect, DETECT, {"short": 0}, r"short, longest, num_queries and bits make no sense: 0, 33"),
        (Detect, DETECT, {"longest": 10}, r"short, longest, num_queries and bits make no sense"),
        (Detect, DETECT, {"num_queries": 0}, r"short, longest, num_queries and bits make no sense"),
        (Detect, DETECT, {"category_ids": []}, r"a preparation needs classes and an id for each"),
        (Detect, DETECT, {"masks": "no"}, r"masks takes true or false; got 'no'"),
        (Lesions, LESIONS, {"slice_mm": 0.0}, r"slice_mm must be positive and finite; got 0\.0"),
        (Lesions, LESIONS, {"pixel_mm": float("inf")}, r"pixel_mm must be positive and finite; got inf"),
        (Lesions, LESIONS, {"bag_stride": 0}, r"bag_stride and norm_eps make no sense: 0"),
        (Lesions, LESIONS, {"modality": "MR"}, r"modality must be one of modalities"),
        (Lesions, LESIONS, {"plane": "up"}, r'plane takes "axial" or "coronal" or "sagittal"; got \'up\''),
    ],
)
def test_what_was_edited_is_refused(kind, held, edit, told):
    with pytest.raises(ValueError, match=told):
        kind.from_json(json.dumps(held | edit))


@pytest.mark.parametrize("edit", [{"std": 0.0}, {"std": float("nan")}, {"low": float("-inf")}, {"mean": float("inf")}])
def test_intensities_take_finite_numbers_and_a_deviation(edit):
    numbers = {"low": 0.0, "high": 1.0, "mean": 0.5, "std": 0.1} | edit
    with pytest.raises(ValueError, match=r"the rule 'foreground' takes finite numbers and a std above 0; got \{'low'"):
        Intensity("foreground", **numbers)
