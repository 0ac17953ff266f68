"""Recipes and execution files: those shipped are valid, each wrong field is refused by name, and the published schedule has its edges."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flows.recipe.checks import check_together, problems_of
from flows.recipe.execution import load_execution
from flows.recipe.loading import load_recipe
from flows.recipe.reading import PACKAGE, parse
from flows.recipe.recipe import Recipe
from storage.artifact import identity
from storage.errors import ConfigError
from training.config import expand_phases

RECIPES = sorted(path.stem for path in (PACKAGE / "recipes").glob("*.yaml"))
MESHES = {
    "mesh-405b-8k-8192gpu": ("pretrain", (8, 1, 16, 64), 8192),
    "mesh-405b-8k-16384gpu": ("pretrain", (8, 1, 16, 128), 16384),
    "mesh-405b-128k-16384gpu": ("extend_context", (8, 16, 16, 8), 16384),
}

TEST_THRESHOLDS = {  # those of test.yaml, without the classes that have none
    "web": {"min_language_probability": 0.3, "min_gopher_word_count": 40, "max_gopher_word_count": 100000},
    "general": {"min_gopher_word_count": 20},
}
UNEVEN = [{"seq_len": 32, "global_batch_size": 4}, {"seq_len": 48, "global_batch_size": 4, "from_step": 3}]


# A field, a wrong value, and how the line about it begins; none is the cause of another. First what is wrong in a part by itself.
OF_A_PART: dict[str, tuple[Any, str]] = {
    "name": ("a/b", "name: 'a/b'"),
    "sources.0.formt": ("warc", "sources[0].formt: unknown field"),
    "sources.1.url_dedup": ("perhaps", "sources[1].url_dedup: 'perhaps'"),
    "sources.2.domain": ("maths", "sources[2].domain: 'maths'"),
    "quality.classifier.negative_sources": ([3], "quality.classifier.negative_sources[0]: 3"),
    "model.dim": (33, "model: dim 33 over n_heads 4"),
    "anneal.schedule.phases.0.seq_len": (-1, "anneal.schedule.phases[0].seq_len: -1"),
}
BETWEEN_PARTS: dict[str, tuple[Any, str]] = {
    "dedup.held_out_fraction": (0, "dedup.held_out_fraction: 0 leaves"),
    "quality.classifier.positive_sources": (["nobody"], "quality.classifier.positive_sources: no source is named 'nobody'"),
    "domains.labels.nowhere": ("math", "domains.labels: no source is named 'nowhere'"),
    "tokenizer.shares": ({"prose": 1.0}, "tokenizer.shares: no domain is named 'prose'"),
    "pretrain.shares": ({"generl": 1.0}, "pretrain.shares: no component is named 'generl'"),
    "extend_context.shares": ({"general": 0.5}, "extend_context: shares sum to 0.5"),
}


def changed(tmp_path: Path, path: str, value: Any, *, recipe: str = "test") -> str:
    """A copy of a recipe with one field set; `path` is dotted."""
    raw = yaml.safe_load((PACKAGE / "recipes" / f"{recipe}.yaml").read_text())
    set_field(raw, path, value)
    file = tmp_path / "changed.yaml"
    file.write_text(yaml.safe_dump(raw))
    return str(file)


def set_field(raw: dict[str, Any], path: str, value: Any) -> None:
    """Set one field of a recipe; `path` is dotted."""
    *outer, last = path.split(".")
    place: Any = raw
    for name in outer:
        place = place[int(name)] if isinstance(place, list) else place.setdefault(name, {})
    place[last] = value


@pytest.mark.parametrize("name", RECIPES)
def test_a_shipped_recipe_is_valid_and_complete(name: str) -> None:
    """It loads, and its resolved form loads to the same recipe."""
    recipe = load_recipe(name)
    assert type(recipe).model_validate(recipe.model_dump(mode="json")) == recipe


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("select.thresholds.web.min_word_count", 5, r"select\.thresholds\.web\.min_word_count: unknown field \(value 5\).*did you mean"),
        ("partitions", 3, r"partitions: 3: 3 is not a power of two"),
        ("sources.0.format", "wark", r"sources\[0\]\.format: 'wark': Input should be 'warc'"),
        ("pretrain.optimizer.lr_peak", -1, r"pretrain\.optimizer\.lr_peak: -1: Input should be greater than 0"),
        (
            "pretrain.shares",
            {"generl": 1.0},
            r"pretrain\.shares: no component is named 'generl'; did you mean `general`\?; there are: general, math",
        ),
        ("pretrain.shares", {"general": 0.7, "math": 0.2}, r"pretrain: shares sum to 0\.9, and must sum to 1"),
        ("domains.labels.pamphlets", "math", r"domains\.labels: no source is named 'pamphlets'; there are: pages"),
        ("domains.labels.essays", "math", r"domains\.labels\.essays: 'math', but sources declares it 'general'"),
        ("quality.classifier.positive_sources", ["nobody"], r"quality\.classifier\.positive_sources: no source is named 'nobody'"),
        (
            "quality.classifier.contrast",
            {"sources": ["nobody"]},
            r"quality\.classifier\.contrast\.sources: no source is named 'nobody'",
        ),
        (
            "quality.classifier.contrast",
            {"sources": ["proofs"]},
            r"contrast\.sources: 'proofs' keeps nothing of what extraction leaves out of its pages",
        ),
        ("quality.classifier.contrast", {"sources": ["essays"]}, r"'essays' is in another of the classifier's lists"),
        ("quality.classifier.negative_sources", [], r"quality\.classifier: it learns from `contrast`"),
        ("tokenizer.shares", {"prose": 1.0}, r"tokenizer\.shares: no domain is named 'prose'"),
        ("tokenizer.vocab_size", 9000, r"model\.vocab_size: 640 is less than tokenizer\.vocab_size, 9,000"),
        ("model.dim", 33, r"dim 33 over n_heads 4"),
        (
            "pretrain.schedule.phases",
            [{"seq_len": 32, "global_batch_size": 4}, {"seq_len": 48, "global_batch_size": 4, "from_step": 3}],
            "48",
        ),
        ("dedup.url_dedup", {"pages": False}, r"dedup\.url_dedup\.pages: follows from sources"),
        ("select.sources", {"pages": {"is_web": False}}, r"select\.sources\.pages: follows from sources"),
        ("dedup.held_out_fraction", 0, r"dedup\.held_out_fraction: 0 leaves no document to evaluate on"),
        (
            "quality.datatrove_filters",
            [{"name": "x", "block": "datatrove.pipeline.filters.NoFilter"}],
            r"datatrove_filters\[x\]\.block: .*found",
        ),
    ],
)
def test_a_wrong_field_is_refused_with_path_value_and_what_is_allowed(tmp_path: Path, path: str, value: Any, message: str) -> None:
    """Before any work, and by name."""
    with pytest.raises(ConfigError, match=message):
        load_recipe(changed(tmp_path, path, value))


@given(st.sets(st.sampled_from(sorted([*OF_A_PART, *BETWEEN_PARTS])), min_size=1))
def test_all_that_is_wrong_in_the_parts_is_said_at_once_then_all_that_is_wrong_between_them(paths: set[str]) -> None:
    """A line for each mistake of a round, and none that only follows from another."""
    raw = yaml.safe_load((PACKAGE / "recipes" / "test.yaml").read_text())
    for path in paths:
        set_field(raw, path, (OF_A_PART | BETWEEN_PARTS)[path][0])
    mistakes = OF_A_PART if paths & OF_A_PART.keys() else BETWEEN_PARTS
    wanted = sorted(mistakes[path][1] for path in paths & mistakes.keys())
    lines = said_of(raw)
    assert all(line.startswith(beginning) for line, beginning in zip(sorted(lines), wanted, strict=True))


def said_of(raw: dict[str, Any]) -> list[str]:
    """What is said of a recipe: nothing of one that is right."""
    try:
        return problems_of(parse(raw, Recipe, "recipe"))
    except ConfigError as error:
        heading, *lines = str(error).splitlines()
        assert heading == f"recipe: {len(lines)} wrong field{'s' if len(lines) > 1 else ''}"
        return [line.strip() for line in lines]


def test_what_parts_disagree_in_is_told_with_the_files_name(tmp_path: Path) -> None:
    """As the errors of the first round are."""
    file = changed(tmp_path, "dedup.held_out_fraction", 0)
    with pytest.raises(ConfigError) as caught:
        load_recipe(file)
    assert str(caught.value).splitlines()[0] == f"{file}: 1 wrong field"


def test_a_text_class_that_is_left_out_has_no_thresholds(tmp_path: Path) -> None:
    """`{}` and nothing are one config with one fingerprint; a class that does not exist is refused."""
    named, left_out = load_recipe("test"), load_recipe(changed(tmp_path, "select.thresholds", TEST_THRESHOLDS))
    assert named.select == left_out.select
    assert identity("select", 1, named.select, {}) == identity("select", 1, left_out.select, {})
    with pytest.raises(ConfigError, match=r"select\.thresholds\.maths: unknown field"):
        load_recipe(changed(tmp_path, "select.thresholds", {**TEST_THRESHOLDS, "maths": {}}))


def test_thresholds_of_languages_are_refused_by_their_place_all_in_one_round(tmp_path: Path) -> None:
    """A tag that is none, a field that does not exist, a value that is no number."""
    languages = {"xx1": {}, "zh": {"min_charcter_count": 3}, "ko": {"min_character_count": "many"}}
    with pytest.raises(ConfigError) as caught:
        load_recipe(changed(tmp_path, "select.thresholds", {**TEST_THRESHOLDS, "multilingual": {"languages": languages}}))
    first, *lines = str(caught.value).splitlines()
    assert first.endswith("3 wrong fields")
    expected = ("ko.min_character_count: 'many'", "xx1: 'xx1' is no BCP 47 tag", "zh.min_charcter_count: unknown field")
    for line, said in zip(lines, expected, strict=True):
        assert line.startswith(f"  select.thresholds.multilingual.languages.{said}")


@pytest.mark.parametrize("name", ["corpus", "demo", "llama3-8b", "llama3-70b", "llama3-405b"])
def test_published_recipes_have_sets_for_scripts_without_spaces(name: str) -> None:
    """The same for pages and for documents that are declared multilingual; nothing is counted in words there."""
    thresholds = load_recipe(name).select.thresholds
    for sets in (thresholds.web, thresholds.multilingual):
        assert sorted(sets.languages) == ["ar", "ja", "ko", "th", "zh"]
        for found in sets.languages.values():
            assert found.min_gopher_word_count is found.min_gopher_stop_words is found.max_gopher_top_2gram_char_ratio is None
            assert None not in (found.min_character_count, found.min_function_word_ratio, found.max_short_piece_ratio)


def test_a_missing_field_and_a_key_given_twice_are_refused(tmp_path: Path) -> None:
    """A YAML reader's silence is no answer."""
    file = tmp_path / "r.yaml"
    file.write_text("name: a\nname: b\n")
    with pytest.raises(ConfigError, match="the key 'name' is given twice"):
        load_recipe(str(file))
    file.write_text("name: a\n")
    with pytest.raises(ConfigError, match=r"sources: missing \(sources: what is read\)"):
        load_recipe(str(file))
    with pytest.raises(ConfigError, match=r"there are: .*demo, llama3-405b"):
        load_recipe("dmeo")


@pytest.mark.parametrize("name", MESHES)
def test_a_published_mesh_serves_its_stage(name: str) -> None:
    """It divides batch, heads and sequence, with micro-batches at least as many as stages; its product is the number of GPUs."""
    stage, degrees, n_gpus = MESHES[name]
    execution = load_execution(name)
    dims = execution.training[stage].parallel  # type: ignore[index]
    assert (dims.tp, dims.cp, dims.pp, dims.dp) == degrees
    assert dims.world_size == n_gpus
    check_together(load_recipe("llama3-405b"), execution)


def test_the_second_published_mesh_does_not_serve_the_early_phases(tmp_path: Path) -> None:
    """1,024 sequences on 128 ranks are 8 micro-batches, fewer than the 16 stages."""
    raw = yaml.safe_load((PACKAGE / "execution" / "mesh-405b-8k-16384gpu.yaml").read_text())
    del raw["training"]["pretrain"]["first_step"]
    file = tmp_path / "mesh.yaml"
    file.write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigError, match=r"execution\.training\.pretrain"):
        check_together(load_recipe("llama3-405b"), load_execution(str(file)))


def test_an_execution_serves_a_recipe_that_leaves_stages_out() -> None:
    """One recipe, many places, and one place for many recipes: `local` says how annealing runs, also for a recipe without it."""
    recipe = load_recipe("demo").model_copy(update={"extend_context": None, "anneal": None})
    check_together(recipe, load_execution("local"))


def test_the_405b_schedule_has_the_published_edges() -> None:
    """Second batch at step 61, third at 342,162, the end after 1,100,929 steps; the rate reaches 8e-7 at step 1,200,000."""
    pretrain = load_recipe("llama3-405b").pretrain
    assert list(accumulate(phase.n_steps for phase in expand_phases(pretrain.schedule))) == [61, 342_162, 1_100_929]
    assert (pretrain.schedule.warmup_steps, pretrain.schedule.lr_decay_end_step) == (8000, 1_200_000)
    assert (pretrain.optimizer.lr_peak, pretrain.schedule.lr_final) == (8e-5, 8e-7)


def of_one_domain() -> dict[str, Any]:
    """The test recipe with its English books alone, and no classifier at all."""
    raw: dict[str, Any] = yaml.safe_load((PACKAGE / "recipes" / "test.yaml").read_text())
    raw["sources"] = [source for source in raw["sources"] if source["name"] == "essays"]
    raw |= {"quality": {}, "domains": {}}
    raw["select"]["components"] = []
    for part in (raw["tokenizer"], raw["pretrain"], raw["extend_context"], raw["anneal"]):
        part["shares"] = {"general": 1.0}
    return raw


def test_one_domain_needs_no_labels(tmp_path: Path) -> None:
    """Where every source declares its domain there is nothing to classify; one that does not, or a bound on its probability, is refused."""
    file, raw = tmp_path / "one.yaml", of_one_domain()
    file.write_text(yaml.safe_dump(raw))
    assert not load_recipe(str(file)).domains.labels
    raw["select"]["components"] = [{"name": "sure", "domain": "general", "min_domain_probability": 0.5}]
    file.write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigError, match=r"select\.components: 'sure' needs a domain probability, but without domains\.labels"):
        load_recipe(str(file))
    del raw["sources"][0]["domain"]
    file.write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigError, match=r"sources\.essays\.domain: it declares none, and without domains\.labels"):
        load_recipe(str(file))


def test_a_share_that_no_document_can_fill_is_refused_before_any_work() -> None:
    """No source declares the domain and no classifier finds it; a component that none can enter, or that one before it empties."""
    raw = of_one_domain()
    raw["pretrain"]["shares"] = {"general": 0.9, "math": 0.1}
    raw["tokenizer"]["shares"] = {"general": 0.9, "code": 0.1, "math": 0}
    reason = "but no document can be in it: no source declares the domain, and without domains.labels no classifier finds it"
    assert said_of(raw) == [
        f"tokenizer.shares.code: 0.1, {reason}; there can be: general",
        f"pretrain.shares.math: 0.1, {reason}; there can be: general",
    ]
    raw = of_one_domain()
    raw["select"]["components"] = [{"name": "all", "domain": "general"}, {"name": "proofs", "domain": "math"}]
    raw["pretrain"]["shares"] = raw["extend_context"]["shares"] = {"all": 1.0}
    raw["anneal"]["shares"] = {"general": 0.5, "proofs": 0.5}
    reason = "but no document can be in it: no source's documents can meet its conditions, or components before it take them all"
    assert said_of(raw) == [f"anneal.shares.{name}: 0.5, {reason}; there can be: all" for name in ("general", "proofs")]


def test_an_identifier_that_is_not_installed_is_refused_before_any_work() -> None:
    """In one line that says how to install it; not where every source declares its language, so that nothing is identified."""
    raw = yaml.safe_load((PACKAGE / "recipes" / "test.yaml").read_text())
    raw["language"] = {"identifier": "heliport", "heliport_version": "0.0.0"}
    (line,) = said_of(raw)
    assert line.startswith("language: the identifier heliport asks for heliport 0.0.0 (GPL-3, so not part of Caravan), which is ")
    assert line.endswith('pip install "heliport==0.0.0"')
    for source in raw["sources"]:
        source.setdefault("language", "en")
    assert not [line for line in said_of(raw) if line.startswith("language")]


def test_a_share_that_the_classifier_or_the_language_may_fill_is_taken() -> None:
    """RULE 17: a page may be math by the classifier, and multilingual by its language, though no source declares either."""
    raw = yaml.safe_load((PACKAGE / "recipes" / "test.yaml").read_text())
    raw["sources"] = [source for source in raw["sources"] if source["name"] != "foreign"]
    raw["domains"] = {"labels": {"essays": "general", "code": "code"}}
    raw["pretrain"]["shares"] = raw["extend_context"]["shares"] = {"general": 0.7, "multilingual": 0.2, "code": 0.1}
    raw["tokenizer"]["shares"] = {"general": 0.5, "multilingual": 0.5}
    raw["anneal"]["shares"] = {"general": 1.0}
    assert said_of(raw) == []
    raw["sources"][0]["language"] = "en"  # the pages, which declare no domain
    beginning = "0.2, but no document can be in it: no source declares the domain, and domains.labels names no source of it"
    assert f"pretrain.shares.multilingual: {beginning}; there can be: general, math, code, essays-only" in said_of(raw)
