"""build_tasks: held-out documents alone, no 13-gram shared with training, a deterministic choice, tasks that the harness runs."""

from __future__ import annotations

import json
import random
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline import coverage, eval_tasks
from pipeline.documents import Survivor
from pipeline.eval_tasks import Config, Item, candidates, continuation_rows
from pipeline.words import normalized_words
from storage.artifact import Manifest, read_verified
from storage.errors import ConfigError
from storage.store import Store
from tests.pipeline.small_artifacts import Row, write_inputs

CONFIG = Config(n_items_per_domain=20, n_items_per_document=3, min_context_words=15, max_context_words=40, continuation_words=6)
WORDS = sorted({word for text in topics.values() for word in normalized_words(text) if word.isalpha() and 3 <= len(word) < 12})[:600]


def prose(seed: int, n_sentences: int = 30) -> str:
    """Random sentences whose last word often occurred before; no two texts share a 13-gram."""
    rng, sentences = random.Random(seed), list[str]()
    for _ in range(n_sentences):
        words = rng.choices(WORDS, k=rng.randint(6, 14))
        last = rng.choice(sentences[-1].split()[:-1]) if sentences and rng.random() < 0.7 else rng.choice(WORDS)
        sentences.append(" ".join([*words, last.strip(".")]) + ".")
    return " ".join(sentences)


def documents() -> list[Row]:
    """Two domains; training documents, and held-out ones of which some repeat training text."""
    rows = []
    for n in range(40):
        domain = "code" if n % 4 == 0 else "general"
        rows.append(Row(f"held-{n}", prose(n), domain=domain, split="held_out"))
        rows.append(Row(f"train-{n}", prose(1000 + n), domain=domain))
    return rows


def built(store: Store, rows: list[Row], config: Config = CONFIG, partitions: int = 4) -> tuple[Manifest, dict[str, list[dict[str, Any]]]]:
    """The artifact and the rows of its two files."""
    inputs = write_inputs(store, rows, partitions)
    inputs["coverage"] = coverage.run(store=store, config=coverage.Config(), inputs=inputs)
    manifest = eval_tasks.run(store=store, config=config, inputs=inputs)
    return manifest, {
        task: [json.loads(line) for line in read_verified(store, manifest, f"{task}.jsonl").splitlines()] for task in eval_tasks.TASKS
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Manifest, dict[str, list[dict[str, Any]]]]:
    """Store, artifact and items."""
    store = Store(str(tmp_path_factory.mktemp("store")))
    return (store, *built(store, documents()))


def test_items_come_from_held_out_documents_as_they_stand(made: tuple[Store, Manifest, dict[str, list[dict[str, Any]]]]) -> None:
    """Context and answer are consecutive text of the document named; shape and number as configured."""
    texts = {row.id.hex(): row for row in documents() if row.split == "held_out"}
    _, manifest, items = made
    for item in items["cloze"]:
        row = texts[item["id"]]
        assert row.text[item["offset"] - len(item["context"]) :].startswith(item["context"] + item["target"])
        assert 15 <= len(item["context"].split()) <= 40
        assert item["target"].strip().isalpha()
        assert item["target"].strip() in item["context"]
        assert item["domain"] == row.domain
    for item in items["continuation"]:
        gold = item["choices"][item["gold"]]
        assert item["context"] + gold in texts[item["id"]].text
        assert [len(choice.split()) for choice in item["choices"]] == [6] * 4
        assert all(choice[0].isspace() for choice in item["choices"])
    for task, rows in items.items():
        assert {row["domain"] for row in rows} == {"code", "general"}
        for domain in ("code", "general"):
            n = sum(row["domain"] == domain for row in rows)
            assert n == manifest.counts[f"items:{task}:{domain}"] == 20


def test_distractors_are_of_the_domain_and_of_other_documents(made: tuple[Store, Manifest, dict[str, list[dict[str, Any]]]]) -> None:
    """Three different texts, none from the item's own document; the right one is at every place."""
    texts = {row.id.hex(): row for row in documents() if row.split == "held_out"}
    rows = made[2]["continuation"]
    for item in rows:
        wrong = [choice for n, choice in enumerate(item["choices"]) if n != item["gold"]]
        assert len({*item["choices"]}) == 4
        for choice in wrong:
            sources = {name for name, row in texts.items() if choice in row.text}
            assert item["id"] not in sources
            assert {texts[name].domain for name in sources} == {item["domain"]}
    assert {item["gold"] for item in rows} == {0, 1, 2, 3}


def test_distractors_prefer_the_language_of_the_item() -> None:
    """Of a domain in two languages, an English passage gets English distractors."""
    items = [
        eval_tasks.Item(n / 100, bytes([n]).hex() * 16, 0, "continuation", "multilingual", "de" if n % 2 else "fr", "c", f" answer {n}")
        for n in range(12)
    ]
    for row in eval_tasks.continuation_rows(items, CONFIG):
        numbers = {int(choice.split()[-1]) for choice in row["choices"]}
        assert len({n % 2 for n in numbers}) == 1
    few = [*items[::2], items[1]]
    (lonely,) = [row for row in eval_tasks.continuation_rows(few, CONFIG) if row["language"] == "de"]
    assert len(set(lonely["choices"])) == 4
    assert list(eval_tasks.continuation_rows(items[:3], CONFIG)) == []


def grams(text: str) -> set[tuple[str, ...]]:
    """Word 13-grams."""
    words = normalized_words(text)
    return {tuple(words[i : i + 13]) for i in range(len(words) - 12)}


def test_no_item_shares_a_13_gram_with_a_training_document(tmp_path: Path) -> None:
    """Training documents that quote a passage of a held-out one take the items there away; a dropped document or a 12-gram takes none."""
    rows, held_out = documents(), [row for row in documents() if row.split == "held_out"]
    passage = " ".join(held_out[4].text.split()[60:100])
    twelve = " ".join(normalized_words(held_out[5].text)[40:52])
    extra = [
        Row("quotes", f"Once more: {passage.upper()}"),
        Row("dropped", held_out[6].text, keep=False),
        Row("short", f"xx {twelve} yy " + prose(9999)),
    ]
    config = CONFIG.model_copy(update={"n_items_per_domain": 500, "n_items_per_document": 50})
    _, before = built(Store(str(tmp_path / "a")), rows, config)
    manifest, after = built(Store(str(tmp_path / "b")), rows + extra, config)
    trained = set().union(*(grams(row.text) for row in [*rows, *extra] if row.keep and row.split == "train"))
    for task in eval_tasks.TASKS:
        answers = [item.get("target") or item["choices"][item["gold"]] for item in after[task]]
        for item, answer in zip(after[task], answers, strict=True):
            assert not grams(item["context"] + answer) & trained
        assert held_out[4].id.hex() in {item["id"] for item in after[task]}
        lost = {(item["id"], item["offset"]) for item in before[task]} - {(item["id"], item["offset"]) for item in after[task]}
        assert {name for name, _ in lost} == {held_out[4].id.hex()}
        assert manifest.counts[f"overlapping:{task}"] == len(lost)


def test_a_document_that_training_covers_gives_no_item(tmp_path: Path) -> None:
    """Items come from what `coverage` leaves."""
    rows, held_out = documents(), [row for row in documents() if row.split == "held_out"]
    config = CONFIG.model_copy(update={"n_items_per_domain": 500})
    _, before = built(Store(str(tmp_path / "a")), rows, config)
    manifest, after = built(Store(str(tmp_path / "b")), [*rows, Row("quotes", f"Once more: {held_out[4].text.upper()}")], config)
    for task in eval_tasks.TASKS:
        assert {item["id"] for item in before[task]} - {item["id"] for item in after[task]} == {held_out[4].id.hex()}
        assert f"overlapping:{task}" not in manifest.counts


def test_white_space_does_not_give_the_answer_away() -> None:
    """Answers that follow a line's end among answers that follow a space: all choices of an item begin as its own does."""
    items = [
        Item(0.0, f"{n:032x}", 0, eval_tasks.CONTINUATION, "general", "en", "a context", space + f"the words of {n}")
        for n, space in enumerate([" ", "\n", "\n\n", " ", "\n"])
    ]
    rows = list(continuation_rows(items, CONFIG))
    assert len(rows) == len(items)
    for item, row in zip(items, rows, strict=True):
        assert row["choices"][row["gold"]] == item.answer
        assert len({choice[: len(choice) - len(choice.lstrip())] for choice in row["choices"]}) == 1
        assert len({choice.strip() for choice in row["choices"]}) == 4


def test_choice_depends_on_ids_and_seed_alone(tmp_path: Path) -> None:
    """Partitions and order of input: the same bytes; another seed: another choice."""
    digests = []
    for n, (rows, partitions) in enumerate([(documents(), 1), (documents()[::-1], 8)]):
        digests.append(built(Store(str(tmp_path / str(n))), rows, partitions=partitions)[0].digest)
    other = built(Store(str(tmp_path / "other")), documents(), CONFIG.model_copy(update={"seed": 1}))[0].digest
    assert digests[0] == digests[1] != other


def test_a_document_gives_at_most_its_number_of_items_and_more_items_keep_the_fewer() -> None:
    """Raising n_items_per_document adds items and takes none away."""
    row = Survivor(b"i" * 16, prose(3, 80), "web", "general", None, "en")
    few, many = (list(candidates(row, CONFIG.model_copy(update={"n_items_per_document": n}))) for n in (2, 6))
    assert [sum(item.task == task for item in few) for task in eval_tasks.TASKS] == [2, 2]
    assert set(few) < set(many)


@pytest.mark.parametrize(
    ("text", "cloze", "continuation"),
    [
        ("", 0, 0),
        ("too short a text.", 0, 0),
        ("日本語の文章は空白がありません。" * 50, 3, 3),
        ("ภาษาไทยเขียนติดกันโดยไม่เว้นวรรค\n" * 50, 3, 3),
        ("= { } ; " * 60 + "\n" + "= { } ; " * 60, 0, 0),
        ("def f(alpha):\n    return alpha\n" * 30, 3, 3),
        ("x" * 100_000, 0, 0),
    ],
)
def test_texts_without_room_give_nothing_and_code_gives_lines(text: str, cloze: int, continuation: int) -> None:
    """Items need words before them, and 13 of them that can be compared."""
    found = list(candidates(Survivor(b"i" * 16, text, "web", "code", None, "en"), CONFIG))
    assert [sum(item.task == task for item in found) for task in eval_tasks.TASKS] == [cloze, continuation]


def test_a_script_without_spaces_gives_items_too(tmp_path: Path) -> None:
    """Characters are its words: contexts and texts have as many, the answer is two letters that stood before, and sentences end in 。"""
    rng = random.Random(5)
    letters = [chr(code) for code in range(0x4E00, 0x4E00 + 300)]
    rows = []
    for n in range(12):
        sentences = ["".join(rng.choices(letters, k=rng.randint(8, 16))) + "山河" for _ in range(20)]
        rows.append(Row(f"zh-{n}", "。".join(sentences) + "。", domain="multilingual", split="train" if n % 2 else "held_out"))
    held_out = {row.id.hex(): row.text for row in rows if row.split == "held_out"}
    _, items = built(Store(str(tmp_path)), rows)
    assert len(items["cloze"]) == len(items["continuation"]) == 18  # three of each document
    for item in items["cloze"]:
        assert item["target"] == "山河"
        assert held_out[item["id"]][item["offset"] :].startswith("山河。")
        assert 15 <= len(item["context"]) <= 40
    for item in items["continuation"]:
        assert item["context"].endswith("。")
        assert item["context"] + item["choices"][item["gold"]] in held_out[item["id"]]
        assert [len(eval_tasks.WORD.findall(choice)) for choice in item["choices"]] == [6] * 4


def test_without_enough_held_out_text_it_is_an_error_that_says_what_would_do(tmp_path: Path) -> None:
    rows = [*(row for row in documents() if row.split == "train"), Row("short", "a few words", split="held_out")]
    with pytest.raises(ConfigError, match=r"no cloze item .* \(0 of 0 candidates do\); raise held_out_fraction"):
        built(Store(str(tmp_path)), rows)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"min_context_words": 12}, "greater than or equal to 13"),
        ({"min_context_words": 30, "max_context_words": 20}, "max_context_words 20 is below min_context_words 30"),
        ({"n_items_per_domain": 0}, "greater than or equal to 1"),
        ({"items": 3}, "Extra inputs"),
    ],
)
def test_wrong_fields_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config.model_validate(fields)


def test_golden_digest(tmp_path: Path) -> None:
    """Bytes may change only with VERSION."""
    rows = [Row(f"k{n}", golden_text(n), split="held_out" if n < 5 else "train") for n in range(8)]
    manifest, _ = built(Store(str(tmp_path)), rows)
    assert (eval_tasks.VERSION, manifest.digest[:16]) == (4, "fcc8fb66c0322a88")


def golden_text(n: int) -> str:
    """A text that no library's version changes."""
    syllables = ["ba", "ke", "mi", "no", "ru", "ta", "so", "li"]
    words = ["".join(syllables[(n * 31 + i * i + k * (i % 7)) % 8] for k in range(2 + i % 2)) for i in range(240)]
    return ". ".join(" ".join(words[i : i + 8]) + " " + words[i + 1] for i in range(0, 240, 8)) + "."


@pytest.mark.filterwarnings("ignore")
def test_lm_evaluation_harness_runs_both_tasks_offline(
    made: tuple[Store, Manifest, dict[str, list[dict[str, Any]]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every item is asked, contexts and answers are joined as in the document, and chance level is what a random model gets."""
    import datasets
    import lm_eval
    from lm_eval.tasks import TaskManager

    store, manifest, items = made
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for name in manifest.names():
        text = read_verified(store, manifest, name).decode()
        (tmp_path / name).write_text(text.replace("{folder}", str(tmp_path)) if name.endswith(".yaml") else text)
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    names = ["caravan_cloze", "caravan_continuation"]
    results = lm_eval.simple_evaluate(model="dummy", tasks=names, task_manager=manager, bootstrap_iters=0, log_samples=True)
    assert results is not None
    assert {name: results["n-samples"][name]["effective"] for name in names} == dict.fromkeys(names, 40)
    assert {"acc,none", "perplexity,none"} <= set(results["results"]["caravan_cloze"])
    assert {"acc,none", "acc_norm,none"} <= set(results["results"]["caravan_continuation"])
    asked = {sample["doc_id"]: sample["arguments"] for sample in results["samples"]["caravan_continuation"]}
    for n, item in enumerate(items["continuation"]):
        assert [tuple(pair) for pair in asked[n]] == [(item["context"], choice) for choice in item["choices"]]
    cloze = {sample["doc_id"]: sample["arguments"] for sample in results["samples"]["caravan_cloze"]}
    for n, item in enumerate(items["cloze"]):
        assert tuple(cloze[n][0]) == (item["context"], item["target"])
