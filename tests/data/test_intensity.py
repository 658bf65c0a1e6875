import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.data.making import OBLIQUE, blob, decathlon, noise, pairs, save_nifti, save_picture

from foveate.data.intensity import (
    WINDOWS,
    Intensity,
    clip_and_standardise,
    foreground_statistics,
    foreground_values,
    scale_window,
    standardise_nonzero,
    suggest_intensity,
)
from foveate.data.volumes import open_volumes
from foveate.errors import DataError


def test_a_window_goes_from_0_to_1():
    x = torch.tensor([-2000.0, -45, 30, 105, 3000])
    assert scale_window(x, *WINDOWS["liver"]).tolist() == [0, 0, 0.5, 1, 1]


def test_what_is_clipped_is_clipped_before_it_is_standardised():
    x = torch.tensor([-2000.0, -10, 15, 40, 3000])
    assert clip_and_standardise(x, -10, 40, 20, 10).tolist() == [-3, -3, -0.5, 2, 2]


def test_only_what_is_not_0_is_standardised_and_0_stays():
    x = torch.tensor([0.0, 1, 0, 3, 5])
    spread = (8 / 3) ** 0.5
    assert standardise_nonzero(x).tolist() == pytest.approx([0, -2 / spread, 0, 0, 2 / spread])


def test_flat_and_empty_volumes_stay_finite():
    assert not standardise_nonzero(torch.zeros(5, 7)).any()
    assert not standardise_nonzero(torch.full((5, 7), 3.0)).any()
    assert clip_and_standardise(torch.full((5,), 3.0), 0, 5, 3, 0).tolist() == [0] * 5


def test_large_values_do_not_lose_their_mean():
    x = torch.from_numpy(noise(11, 13, 17)) + 1.7e6
    scaled = standardise_nonzero(x)
    assert float(scaled.double().mean()) == pytest.approx(0, abs=1e-5)
    assert float(scaled.double().std(correction=0)) == pytest.approx(1, abs=1e-5)


def test_the_numbers_are_those_of_numpy():
    values = torch.from_numpy(noise(997))
    low, high, mean, std = foreground_statistics(values)
    array = values.double().numpy()
    ordered = np.sort(array)
    assert low == pytest.approx(ordered[4] + 0.98 * (ordered[5] - ordered[4]), abs=1e-12)  # 0.5 % of 996 steps is 4.98
    assert high == pytest.approx(ordered[991] + 0.02 * (ordered[992] - ordered[991]), abs=1e-12)
    assert mean == pytest.approx(array.sum() / 997, abs=1e-12)
    assert std == pytest.approx((((array - array.mean()) ** 2).sum() / 997) ** 0.5, abs=1e-12)


def test_the_foreground_is_drawn_evenly_and_always_alike():
    x, label = torch.arange(1000.0).reshape(10, 100), torch.ones(10, 100, dtype=torch.uint8)
    label[0] = 0
    assert torch.equal(foreground_values(x, label), x[1:].flatten())
    assert foreground_values(x, label, 4).tolist() == [100, 400, 699, 999]


@pytest.mark.slow
def test_monai_computes_the_same():
    from monai.transforms import NormalizeIntensity, ScaleIntensityRange

    x = torch.from_numpy(noise(1, 11, 13, 17)).clamp(min=70)
    x[x == 70] = 0
    low, high = WINDOWS["abdomen"]
    window = ScaleIntensityRange(low, high, 0, 1, clip=True)
    torch.testing.assert_close(scale_window(x, low, high), torch.as_tensor(window(x)), rtol=0, atol=1e-6)
    zscore = NormalizeIntensity(nonzero=True)
    torch.testing.assert_close(standardise_nonzero(x), torch.as_tensor(zscore(x.clone())), rtol=0, atol=1e-5)


RULES = {
    "mean 0 and deviation 1 over the nonzero voxels of each volume": Intensity("nonzero"),
    "-45 to 105 becomes 0 to 1": Intensity("window", -45, 105),
    "clip to -17.5 ... 201, subtract 99.4, divide by 39.25": Intensity("foreground", -17.5, 201, 99.4, 39.25),
}


@pytest.mark.parametrize(("said", "rule"), RULES.items())
def test_a_rule_says_its_numbers_and_comes_back_from_json(said: str, rule: Intensity):
    assert str(rule) == said
    assert Intensity(**json.loads(json.dumps(dataclasses.asdict(rule)))) == rule


def test_a_rule_applies_what_it_says():
    x = torch.from_numpy(noise(5, 7, 3))
    assert torch.equal(Intensity("nonzero").apply(x), standardise_nonzero(x))
    assert torch.equal(Intensity("window", 90, 110).apply(x), scale_window(x, 90, 110))
    assert torch.equal(Intensity("foreground", 90, 110, 3, 5).apply(x), clip_and_standardise(x, 90, 110, 3, 5))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"rule": "zscore"}, r"rule must be one of window, foreground, nonzero; got 'zscore'"),
        ({"rule": "window", "low": 3.0}, r"the rule 'window' takes low, high; got low"),
        ({"rule": "nonzero", "mean": 3.0}, r"the rule 'nonzero' takes no number; got mean"),
        ({"rule": "foreground", "low": 0.0, "high": 1.0}, r"'foreground' takes low, high, mean, std; got low, high"),
        ({"rule": "window", "low": 3.0, "high": 3.0}, r"low must be below high; got 3 and 3"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(fields: dict, told: str):
    with pytest.raises(ValueError, match=told):
        Intensity(**fields)


def test_ct_takes_the_statistics_of_the_foreground_of_the_train_split(tmp_path: Path):
    volumes = open_volumes(decathlon(tmp_path, 5, modality={"0": "CT"}))
    told: list[tuple[int, int]] = []
    (rule,) = suggest_intensity(volumes, progress=lambda done, total: told.append((done, total)))
    inside = [noise(5, 7, 3, seed=seed)[blob(5, 7, 3, seed=seed) > 0] for seed in range(3)]
    values = torch.from_numpy(np.concatenate(inside))
    assert rule.rule == "foreground"
    assert (rule.low, rule.high, rule.mean, rule.std) == pytest.approx(foreground_statistics(values), rel=1e-12)
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_ct_may_take_a_window_and_then_no_file_is_read(tmp_path: Path):
    volumes = open_volumes(decathlon(tmp_path, 5, modality={"0": "CT"}))
    for path in (tmp_path / "imagesTr").iterdir():
        path.unlink()
    assert suggest_intensity(volumes, window="liver") == [Intensity("window", -45, 105)]
    assert suggest_intensity(volumes, window=(-200, 300)) == [Intensity("window", -200, 300)]
    with pytest.raises(LookupError, match=r"no window 'livre'; there are abdomen, bone, .* or give low and high in HU"):
        suggest_intensity(volumes, window="livre")


def test_each_channel_has_its_own_rule(tmp_path: Path):
    volumes = open_volumes(decathlon(tmp_path, 5, (5, 7, 3, 3), modality={"0": "PET", "1": "CT", "2": "T1"}))
    kinds = [rule.rule for rule in suggest_intensity(volumes)]
    assert kinds == ["nonzero", "foreground", "nonzero"]
    with pytest.raises(ValueError, match=r"window is for CT; .* has grey"):
        suggest_intensity(open_volumes(pairs(tmp_path / "pairs", 5)), window="liver")


@pytest.mark.parametrize(
    ("dtype", "factor", "high"), [(np.uint8, 1, 255), (np.uint16, 20, 3000), (np.float32, 0.001, 1)]
)
def test_pictures_go_from_black_to_white(tmp_path: Path, dtype: type, factor: float, high: float):
    volumes = open_volumes(pairs(tmp_path, 5, "{}.tif"))
    for number in range(5):
        image = (noise(5, 7, seed=number).clip(0, 140) * factor).astype(dtype)
        image[0, 0] = 150 * factor
        save_picture(tmp_path / "images" / f"{number}.tif", image)
    assert suggest_intensity(volumes) == [Intensity("window", 0, high)]


def test_ct_without_foreground_is_told(tmp_path: Path):
    volumes = open_volumes(decathlon(tmp_path, 5, modality={"0": "CT"}))
    for number in range(5):
        save_nifti(tmp_path / "labelsTr" / f"case_{number}.nii.gz", blob(5, 7, 3) * 0, OBLIQUE)
    with pytest.raises(DataError, match=r"has nothing but background in the labels of its train split"):
        suggest_intensity(volumes)
