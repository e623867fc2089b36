import json

import pytest

from paddlex_seg.data.samples.quarantine import BadSample, Quarantine, read_bad_samples
from paddlex_seg.errors import DatasetError


def bad(name, image_id=1, epoch=2):
    return BadSample(
        name, image_id, error=f"images/{name}: not a readable image (ü). Replace it.", epoch=epoch
    )


def test_every_record_is_written_immediately_and_can_be_read(tmp_path):
    path = tmp_path / "output" / "bad_samples.json"
    quarantine = Quarantine(budget=3, path=path)
    assert read_bad_samples(path) == ()
    for count, name in enumerate(["a.jpg", "b.jpg"], start=1):
        quarantine.add(bad(name))
        assert len(json.loads(path.read_text(encoding="utf-8"))["bad_samples"]) == count
    assert read_bad_samples(path) == quarantine.records == (bad("a.jpg"), bad("b.jpg"))
    resumed = Quarantine(budget=3, path=path, known=read_bad_samples(path))
    assert "a.jpg" in resumed and "c.jpg" not in resumed
    assert [file.name for file in path.parent.iterdir()] == ["bad_samples.json"]  # no temporary file


def test_each_bad_image_is_reported_once(caplog):
    quarantine = Quarantine(budget=5)
    for name in ("a.jpg", "b.jpg", "a.jpg"):
        quarantine.add(bad(name))
    quarantine.merge([bad("b.jpg"), bad("c.jpg"), bad("c.jpg")])
    assert [record.file_name for record in quarantine.records] == ["a.jpg", "b.jpg", "c.jpg"]
    messages = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert ["a.jpg" in messages[0], "b.jpg" in messages[1], "c.jpg" in messages[2]] == [True] * 3
    assert len(messages) == 3 and "3 of at most 5" in messages[2]


def test_exceeding_the_budget_raises_with_all_names_after_writing_them(tmp_path):
    path = tmp_path / "bad_samples.json"
    quarantine = Quarantine(budget=2, path=path, known=[bad("a.jpg")])
    quarantine.add(bad("b.jpg"))
    with pytest.raises(DatasetError, match="Train.max_bad_samples") as caught:
        quarantine.add(bad("c.jpg"))
    assert all(f"{name}.jpg" in str(caught.value) for name in "abc")
    assert str(path) in str(caught.value)
    assert len(read_bad_samples(path)) == 3
    with pytest.raises(DatasetError, match=r"c\.jpg"):
        Quarantine(budget=2, known=read_bad_samples(path))


def test_without_a_budget_the_first_bad_image_raises_its_own_error(tmp_path):
    path = tmp_path / "bad_samples.json"
    with pytest.raises(DatasetError) as caught:
        Quarantine(budget=0, path=path).add(bad("a.jpg"))
    assert str(caught.value) == bad("a.jpg").error
    assert not path.exists()


@pytest.mark.parametrize("content", ["", "[]", '{"bad_samples": [{"name": "a.jpg"}]}', "{}"])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "bad_samples.json"
    path.write_text(content)
    with pytest.raises(DatasetError, match=r"bad_samples\.json.*Move the file away"):
        read_bad_samples(path)
