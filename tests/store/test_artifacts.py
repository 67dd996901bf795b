import os
import time

import pytest
from sqlalchemy import select

from deft.errors import ArtifactCorrupt, InvalidInput, NotFound
from store import artifacts
from store.tables import Artifact


def publish(database, team_id, files, kind="dataset", name=None, text="hello"):
    staged = files.stage(kind)
    (staged / "inner").mkdir()
    (staged / "inner" / "a.txt").write_text(text)
    (staged / "b.bin").write_bytes(b"12345")
    with database.write() as session:
        return files.publish(session, team_id, kind, staged, {"rows": 2, "mean": float("nan")}, name=name)


def test_a_published_folder_is_in_its_place_with_a_row_that_says_what_is_in_it(database, team_id, files, settings):
    artifact = publish(database, team_id, files, name="mine")
    folder = files.open_checked(artifact)
    assert folder == settings.artifact_folder / artifact.id
    assert (folder / "inner" / "a.txt").read_text() == "hello"
    assert list(settings.staging_folder.iterdir()) == []
    with database.read() as session:
        row = artifacts.get(session, team_id, artifact.id, "dataset")
    assert (row.kind, row.name, row.bytes, row.summary) == ("dataset", "mine", 10, {"rows": 2, "mean": None})
    assert {file["path"]: file["bytes"] for file in row.files} == {"inner/a.txt": 5, "b.bin": 5}


def test_equal_contents_have_equal_hashes_under_other_ids(database, team_id, files):
    one, two = publish(database, team_id, files), publish(database, team_id, files)
    other = publish(database, team_id, files, text="hellO")
    assert one.sha256 == two.sha256 != other.sha256
    assert one.id != two.id


def test_a_transaction_that_fails_leaves_no_row(database, team_id, files):
    staged = files.stage("dataset")
    with pytest.raises(KeyError), database.write() as session:
        files.publish(session, team_id, "dataset", staged, {})
        raise KeyError
    with database.read() as session:
        assert session.scalars(select(Artifact)).all() == []


def change(folder):
    (folder / "b.bin").write_bytes(b"12346")


def truncate(folder):
    (folder / "b.bin").write_bytes(b"1234")


def add(folder):
    (folder / "c.txt").write_text("")


def remove(folder):
    (folder / "b.bin").unlink()


def lose_the_manifest(folder):
    (folder / "manifest.json").unlink()


def seal_anew(folder):
    from deft.folders import seal

    change(folder)
    seal(folder, {})


@pytest.mark.parametrize("damage", [change, truncate, add, remove, lose_the_manifest, seal_anew])
def test_a_damaged_folder_is_not_opened(database, team_id, files, damage):
    artifact = publish(database, team_id, files)
    damage(files.folder(artifact))
    with pytest.raises(ArtifactCorrupt):
        files.open_checked(artifact)


def test_a_foreign_artifact_is_not_found_exactly_as_a_missing_one(database, team_id, other_team_id, files):
    artifact = publish(database, team_id, files)
    messages = set()
    with database.read() as session:
        for asked in ((other_team_id, artifact.id), (team_id, "ds_absent"), (team_id, "\0")):
            with pytest.raises(NotFound) as caught:
                artifacts.get(session, *asked, kind="dataset")
            messages.add(caught.value.message)
        with pytest.raises(NotFound):
            artifacts.get(session, team_id, artifact.id, kind="adapter")
        assert artifacts.page(session, other_team_id).items == []
    assert len(messages) == 1


def test_pages_go_by_kind_and_newest_first(database, team_id, files):
    made = [publish(database, team_id, files).id for _ in range(3)]
    publish(database, team_id, files, kind="subset")
    with database.read() as session:
        first = artifacts.page(session, team_id, kind="dataset", limit=2)
        rest = artifacts.page(session, team_id, kind="dataset", limit=2, after=first.next_cursor)
        with pytest.raises(InvalidInput):
            artifacts.page(session, team_id, kind="subset", after=made[0])
    assert [a.id for a in first.items + rest.items] == made[::-1]
    assert (first.has_more, rest.has_more) == (True, False)


def test_only_old_litter_is_collected(database, team_id, files, settings):
    kept = publish(database, team_id, files)
    without_row = files.seal("dataset", files.stage("dataset"), {}).folder
    young_without_row = files.seal("dataset", files.stage("dataset"), {}).folder
    young, old, signed, written = (files.stage("subset") for _ in range(4))
    for folder in (without_row, old, signed, written, files.folder(kept)):
        long_ago = time.time() - 2 * 3600
        for path in (*folder.rglob("*"), folder):
            os.utime(path, (long_ago, long_ago))
    files.keep(signed)
    (written / "part").mkdir()
    (written / "part" / "upload").write_text("still coming")
    os.utime(written, (long_ago, long_ago))
    with database.read() as session:
        assert set(files.collect_litter(session)) == {without_row, old}
    assert young.exists()
    assert signed.exists()
    assert young_without_row.exists()
    assert not old.exists()
    assert files.open_checked(kept)


def test_only_staged_folders_are_discarded(files, settings, tmp_path):
    staged = files.stage("subset")
    files.discard(staged)
    assert not staged.exists()
    with pytest.raises(ValueError, match="not a staged folder"):
        files.discard(tmp_path)
