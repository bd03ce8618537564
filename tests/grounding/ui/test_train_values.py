from dataclasses import fields

from grounding.training.settings import TrainSettings
from grounding.ui.train_values import GROUPS, as_typed


def test_every_setting_stands_in_one_group() -> None:
    grouped = [name for names in GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(spec.name for spec in fields(TrainSettings))


def test_values_are_written_as_they_are_typed() -> None:
    assert [as_typed(value) for value in (0.0015, 4, True, False, "all", (3.0, 0.4))] == [
        *("0.0015", "4", "on", "off", "all", "3, 0.4"),
    ]


def test_what_stands_in_the_form_is_read_as_the_same_value() -> None:
    """A run of a sweep that is duplicated learns at the rate that the sweep has drawn."""
    drawn = 0.0007349812345678901
    assert float(as_typed(drawn)) == drawn
    assert as_typed((1 / 3, 1.0)) == "0.3333333333333333, 1"
