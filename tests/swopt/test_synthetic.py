"""What the generator says it drew can be seen in the picture."""

import numpy as np

from swopt.workloads.synthetic import ATTRIBUTES, SIDE, draw


def test_equal_seeds_give_equal_bytes_and_others_do_not() -> None:
    first, second, other = draw(7, 9), draw(7, 9), draw(8, 9)
    assert first.images.tobytes() == second.images.tobytes()
    assert all(np.array_equal(first.truth[name], second.truth[name]) for name in ATTRIBUTES)
    assert first.images.tobytes() != other.images.tobytes()
    assert first.images.shape == (9, SIDE, SIDE, 3)


def test_every_image_has_an_answerable_question_and_labels_stay_in_range() -> None:
    drawn = draw(1, 64)
    table = np.stack([drawn.truth[name] for name in ATTRIBUTES])
    assert (table >= 0).any(0).all()
    for name, answers in ATTRIBUTES.items():
        assert drawn.truth[name].max() < len(answers)
    without = drawn.truth["lesion"] == 0
    assert without.any()
    assert all((drawn.truth[name][without] == -1).all() for name in ("margin", "side", "size"))


def test_a_lesion_is_dark_on_its_side_and_larger_when_called_large() -> None:
    drawn = draw(2, 600)
    grey = drawn.images[..., 0].astype(float)
    grey /= grey.mean((1, 2), keepdims=True)
    leftness = grey[:, :, 14:].mean((1, 2)) - grey[:, :, :14].mean((1, 2))
    side = drawn.truth["side"]
    assert leftness[side == 0].mean() > 0.05
    assert leftness[side == 1].mean() < -0.05
    dark_share = (grey < 0.35).mean((1, 2))
    size = drawn.truth["size"]
    assert dark_share[size == 1].mean() > 1.5 * dark_share[size == 0].mean()


def test_more_bright_spots_are_more_bright_pixels() -> None:
    drawn = draw(3, 600)
    red, green = drawn.images[..., 0].astype(float), drawn.images[..., 1].astype(float)
    yellow = (green > 0.7 * red) & (green > 120)
    share = [yellow[drawn.truth["bright"] == level].mean() for level in range(3)]
    assert share[0] < share[1] < share[2]
