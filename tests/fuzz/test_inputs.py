"""Damaged data sets of every format: what can be recovered is recovered, and nothing is lost in silence.

``fuzz_scenes`` knows the objects, ``fuzz_coco`` and its neighbours write and damage them, ``fuzz_desk`` runs
the command line and judges. A test that fails prints scene, mutations and seed; `examine` repeats the run.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from fuzz_cases import Mutation
from fuzz_desk import Unfit, examine
from fuzz_formats import FORMATS, Format
from fuzz_scenes import Scene, SceneImage, Thing, scenes
from hypothesis import HealthCheck, event, given, note, reject, settings
from hypothesis import strategies as st

NAMES = sorted(FORMATS)

# Every shape, two images of one size, one that is square, one without objects, and a folder.
SCENE = Scene(
    labels=("bolt", "螺母", "screw head"),
    splits={
        "train": (
            SceneImage(
                name="cam1/train_0",
                width=48,
                height=32,
                seed=1,
                things=(
                    Thing("bolt", "rectangle", 2, 3, 9, 11),
                    Thing("螺母", "corner", 18, 1, 12, 8),
                    Thing("screw head", "hole", 33, 17, 13, 9),
                ),
            ),
            SceneImage(
                name="cam1/train_1",
                width=48,
                height=32,
                seed=2,
                things=(Thing("bolt", "parts", 1, 18, 12, 10), Thing("bolt", "rectangle", 20, 2, 7, 13)),
            ),
            SceneImage(name="cam1/train_2", width=32, height=48, seed=3, things=()),
        ),
        "val": (
            SceneImage(
                name="cam1/val_0",
                width=32,
                height=32,
                seed=4,
                things=(Thing("螺母", "parts", 17, 17, 13, 9), Thing("bolt", "rectangle", 3, 3, 8, 8)),
            ),
            SceneImage(
                name="cam1/val_1",
                width=32,
                height=48,
                seed=5,
                things=(Thing("screw head", "corner", 17, 34, 9, 12),),
            ),
        ),
    },
)

LOSSLESS = [(name, mutation) for name in NAMES for mutation in FORMATS[name].mutations.of("lossless")]
OTHERS = [
    (name, mutation)
    for name in NAMES
    for mutation in FORMATS[name].mutations.all
    if mutation.label != "lossless"
]


def label_of(value: object) -> str:
    return repr(value) if isinstance(value, Mutation) else str(value)


@pytest.mark.parametrize("name", NAMES)
def test_an_undamaged_data_set_is_taken_as_it_is(name: str) -> None:
    form = FORMATS[name]
    outcome = examine(form.source_type, form.source, SCENE, [], seed=0, ways=form.all_ways)
    assert outcome.faults == ()
    assert outcome.recovered >= form.undamaged


@pytest.mark.parametrize(("name", "mutation"), LOSSLESS, ids=label_of)
def test_what_can_be_recovered_is_recovered(name: str, mutation: Mutation[Any]) -> None:
    form = FORMATS[name]
    outcome = examine(form.source_type, form.source, SCENE, [mutation], seed=0, ways=form.needed)
    assert outcome.faults == ()
    assert outcome.recovered >= form.needed


@pytest.mark.parametrize(("name", "mutation"), OTHERS, ids=label_of)
def test_what_cannot_be_recovered_is_told(name: str, mutation: Mutation[Any]) -> None:
    form = FORMATS[name]
    outcome = examine(form.source_type, form.source, SCENE, [mutation], seed=0, ways=form.needed)
    assert outcome.faults == ()


@pytest.mark.parametrize("name", NAMES)
def test_the_page_can_show_any_of_it(name: str) -> None:
    """A few runs with samples, histogram and page."""
    form, rng = FORMATS[name], random.Random(5)
    for _ in range(3):
        mutations = rng.sample(form.mutations.all, 2)
        outcome = examine(form.source_type, form.source, SCENE, mutations, 0, form.all_ways[-1:], drawn=True)
        assert outcome.faults == (), mutations


def check_examples(form: Format, all_ways: bool, **options: Any) -> Counter[str]:
    """Examine random scenes with up to three random mutations. Returns how often each kind was recovered.

    Without ``all_ways``, each example goes one way.
    """
    statistics: Counter[str] = Counter()
    slow_machines = [HealthCheck.too_slow, HealthCheck.data_too_large]

    @settings(deadline=None, database=None, suppress_health_check=slow_machines, **options)
    @given(
        scene=scenes(),
        mutations=st.lists(st.sampled_from(form.mutations.all), min_size=1, max_size=3, unique=True),
        seed=st.integers(0, 2**16),
    )
    def property_holds(scene: Scene, mutations: Sequence[Mutation[Any]], seed: int) -> None:
        ways = form.all_ways if all_ways else form.all_ways[seed % len(form.all_ways) :][:1]
        try:
            outcome = examine(form.source_type, form.source, scene, mutations, seed, ways)
        except Unfit:
            reject()
        note(f"{outcome}")
        labels = {mutation.label for mutation in mutations}
        worst = next(label for label in ("lossy", "ambiguous", "lossless") if label in labels)
        result = "recovered" if outcome.recovered else "refused, or less with a finding"
        event(f"{worst}: {result}")
        statistics[f"{len(mutations)} mutations, {worst}: {result}"] += 1
        assert outcome.faults == ()
        if worst == "lossless" and len(mutations) == 1:
            assert outcome.recovered >= form.needed & set(ways)

    run: Callable[[], None] = property_holds
    run()
    return statistics


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_lost_in_silence(name: str) -> None:
    check_examples(FORMATS[name], all_ways=False, max_examples=100, derandomize=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_lost_in_silence_in_any_of_many_data_sets(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    statistics = check_examples(FORMATS[name], all_ways=True, max_examples=2000, print_blob=True)
    with capsys.disabled():
        print(f"\n{name}: " + "".join(f"\n  {kind}: {n}" for kind, n in sorted(statistics.items())))
