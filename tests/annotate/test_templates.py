"""Template wording found by structure becomes a placeholder, whatever its words."""

from __future__ import annotations

from annotate.store import Store
from annotate.templates import mark_templates
from annotate_samples import MakeSample

TEMPLATE = "kindly name whatever happens to lie within these four corners"


def fill_with_templates(store: Store, make_sample: MakeSample, count: int = 30) -> None:
    store.import_samples(
        (
            make_sample(f"t{i}", picture=i, phrase=TEMPLATE.upper() if i % 2 else TEMPLATE, category=f"c{i % 5}")
            for i in range(count)
        ),
        source="test",
        who="ann",
    )


def test_the_same_long_wording_on_many_pictures_waits_among_the_placeholders(
    store: Store, make_sample: MakeSample
) -> None:
    fill_with_templates(store, make_sample)
    store.import_samples([make_sample("man", picture=3, phrase="man on the left")], source="test", who="ann")
    assert store.counts().placeholders == 0
    found = mark_templates(store.path)
    assert (len(found.phrases), found.samples) == (1, 30)
    assert store.counts().placeholders == 30 and store.get("man").placeholder is False
    assert (store.get("t0").phrase, store.get("t0").revision) == (TEMPLATE, 1)
    assert mark_templates(store.path).samples == 0


def test_what_a_person_wrote_stays_until_it_is_the_template_itself(store: Store, make_sample: MakeSample) -> None:
    fill_with_templates(store, make_sample)
    store.save("t3", "the red thing", who="ben", expected_revision=1)
    mark_templates(store.path)
    assert not store.get("t3").placeholder
    again = store.save("t3", TEMPLATE, who="ben", expected_revision=2)
    assert again.placeholder, "it is known by now"


def test_later_imports_know_the_template(store: Store, make_sample: MakeSample) -> None:
    fill_with_templates(store, make_sample)
    mark_templates(store.path)
    store.import_samples([make_sample("late", picture=2, phrase=f"  {TEMPLATE}. ")], source="test", who="ann")
    assert store.get("late").placeholder


def test_a_store_without_any(store: Store, make_sample: MakeSample) -> None:
    assert mark_templates(store.path).samples == 0
    store.import_samples([make_sample("a")], source="test", who="ann")
    assert mark_templates(store.path).phrases == ()
