import pytest

from deft.errors import Conflict, InvalidInput, NotFound
from store import models
from store.settings import Settings

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_a_folder_below_a_root_is_registered_with_its_weights(database, team_id, settings, make_model):
    folder = make_model("llama")
    with database.write() as session:
        model = models.register(session, team_id, "llama", roots=settings.model_roots, folder=folder)
        assert models.register(session, team_id, "llama", roots=settings.model_roots, folder=folder).id == model.id
    assert model.weights_bytes == (folder / "model.safetensors").stat().st_size
    assert len(model.weights_hash) == 64
    assert models.folder_of(settings, model) == folder.resolve()


def test_a_link_out_of_the_root_is_followed_before_it_is_judged(database, team_id, settings, make_model, tmp_path):
    outside = tmp_path / "outside"
    make_model("inside").rename(outside)
    (tmp_path / "models" / "link").symlink_to(outside)
    for folder in (outside, tmp_path / "models" / "link", tmp_path / "models" / ".." / "outside"):
        with pytest.raises(InvalidInput, match="cannot be registered") as caught, database.write() as session:
            models.register(session, team_id, "x", roots=settings.model_roots, folder=folder)
        assert caught.value.findings[0].pointer == "/folder"
        assert caught.value.findings[0].expected.startswith("a folder below")


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_folder_without_a_part_is_refused_naming_it(database, team_id, settings, make_model, missing):
    folder = make_model("llama")
    (folder / missing).unlink()
    with pytest.raises(InvalidInput) as caught, database.write() as session:
        models.register(session, team_id, "llama", roots=settings.model_roots, folder=folder)
    assert {"config.json": "config.json", "model.safetensors": "*.safetensors", "tokenizer.json": "tokenizer"}[
        missing
    ] in caught.value.findings[0].found


SPOILED = {
    "a config that is no JSON": ("config.json", "{"),
    "a config that is no object": ("config.json", "[1]"),
    "a config without model_type": ("config.json", "{}"),
    "code of its own": ("config.json", '{"model_type": "llama", "auto_map": {"AutoModel": "evil.Model"}}'),
    "a tokenizer of its own": ("tokenizer_config.json", '{"auto_map": {"AutoTokenizer": "evil.Tokenizer"}}'),
    "weights that are no safetensors": ("model.safetensors", "nothing of the kind"),
}


@pytest.mark.parametrize("what", SPOILED)
def test_a_folder_that_no_worker_could_load_is_refused(database, team_id, settings, make_model, what):
    folder = make_model("llama")
    name, text = SPOILED[what]
    (folder / name).write_text(text)
    with pytest.raises(InvalidInput) as caught, database.write() as session:
        models.register(session, team_id, "llama", roots=settings.model_roots, folder=folder)
    (finding,) = caught.value.findings
    assert (caught.value.error_code, finding.pointer) == ("model_not_usable", "/folder")
    assert name in finding.found


@pytest.mark.parametrize("revision", [None, "main", COMMIT[:-1], COMMIT.upper(), COMMIT + "0"])
def test_a_hub_model_needs_a_pinned_revision(database, team_id, revision):
    with pytest.raises(InvalidInput) as caught, database.write() as session:
        models.register(session, team_id, "x", hub_id="owner/name", revision=revision)
    assert caught.value.findings[0].pointer == "/revision"


@pytest.mark.parametrize("hub_id", ["name", "../name", "a/b/c", "owner/..", "owner/na me", ""])
def test_a_hub_id_is_owner_and_name(database, team_id, hub_id):
    with pytest.raises(InvalidInput), database.write() as session:
        models.register(session, team_id, "x", hub_id=hub_id, revision=COMMIT)


def test_a_hub_model_lies_in_the_data_folder_by_its_commit(database, team_id, settings):
    with database.write() as session:
        model = models.register(session, team_id, "x", hub_id="owner/name", revision=COMMIT)
    assert models.folder_of(settings, model) == settings.model_folder / f"owner--name@{COMMIT}"


@pytest.mark.parametrize("name", ["", "../x", "a b", "x" * 65, ".hidden"])
def test_a_name_is_an_id(database, team_id, name):
    with pytest.raises(InvalidInput), database.write() as session:
        models.register(session, team_id, name, hub_id="owner/name", revision=COMMIT)


def test_a_name_means_one_model_and_teams_do_not_share(database, team_id, other_team_id):
    with database.write() as session:
        mine = models.register(session, team_id, "x", hub_id="owner/name", revision=COMMIT)
        with pytest.raises(Conflict):
            models.register(session, team_id, "x", hub_id="owner/other", revision=COMMIT)
        for named in (mine.id, "x", "nothing", "\0"):
            with pytest.raises(NotFound) as caught:
                models.get(session, other_team_id, named)
            assert str(caught.value) == "there is no such model"
        theirs = models.register(session, other_team_id, "x", hub_id="owner/other", revision=COMMIT)
        assert models.get(session, other_team_id, "x").id == theirs.id
        assert [model.id for model in models.page(session, team_id).items] == [mine.id]


def test_operators_models_are_everyones_and_a_teams_own_name_goes_first(
    database, team_id, other_team_id, settings, make_model
):
    make_model("llama")
    make_model("broken")
    (settings.model_roots[0] / "broken" / "tokenizer.json").unlink()
    with database.write() as session:
        (shared,) = models.sync_roots(session, settings)
        assert [model.id for model in models.sync_roots(session, settings)] == [shared.id]
        assert shared.team_id is None
        own = models.register(session, team_id, "llama", hub_id="owner/name", revision=COMMIT)
        assert models.get(session, team_id, "llama").id == own.id
        assert models.get(session, team_id, shared.id).id == shared.id
        assert models.get(session, other_team_id, "llama").id == shared.id


def test_a_root_may_be_a_model_itself_and_may_be_absent(database, tmp_path, make_model):
    folder = make_model("llama")
    settings = Settings(data_folder=tmp_path, model_roots=[folder, tmp_path / "absent"])
    with database.write() as session:
        assert [model.name for model in models.sync_roots(session, settings)] == ["llama"]
