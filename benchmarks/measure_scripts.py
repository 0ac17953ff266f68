"""Measures thresholds by language on Chinese, Japanese, Thai, Korean and Arabic: native text kept; mojibake and navigation dropped.

    python -m benchmarks.measure_scripts --corpus ../shared/corpus [--recipe corpus] [--show 20]

Judges texts as select does with the thresholds of a recipe: language identification, the domain that follows from it for a web page (no
classifier has a vote), text class, signals, the set of the class for the language. The baseline is the class's own set. Word lists and
models of quality are left out.

Reads `scripts/*.jsonl.gz` (text, lang, kind: native, mojibake, navigation) where a corpus has them. Else, of a corpus laid out as
../shared/corpus: native text is whole documents and pieces of those of `multilingual/` in these languages, and sentences of `langid/`
joined to paragraphs, of at least 150 characters and three letters in five of the language's script; mojibake is made from them by wrong
charsets; navigation is what the extractor leaves out of crawl pages in these languages, but for what ends as sentences do.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.shared_corpus import LANGUAGES, TEXTS, files, rows, stem, web_records
from flows.recipe.loading import load_recipe
from pipeline.ingest.config import LanguageConfig
from pipeline.ingest.extract import text_of
from pipeline.ingest.html import normal_text
from pipeline.ingest.language import language_of
from pipeline.ingest.scripts import script_of
from pipeline.language_tags import UNKNOWN, canonical
from pipeline.quality.score import score
from pipeline.quality.thresholds import Thresholds, keep
from pipeline.quality.view import view
from pipeline.select.config import Config, SourceFacts, ThresholdsByClass
from pipeline.select.decide import domain_of, text_class_of

LABELLED = "scripts/*.jsonl.gz"
NATIVE, MOJIBAKE, NAVIGATION = KINDS = ("native", "mojibake", "navigation")
SCRIPTS = {"zh": {"Hani"}, "ja": {"Hani", "Kana"}, "th": {"Thai"}, "ko": {"Hang"}, "ar": {"Arab"}}
CHARSETS = {"zh": ("gbk", "big5"), "ja": ("shift_jis", "euc_jp"), "th": ("cp874",), "ko": ("cp949",), "ar": ("cp1256",)}
WRONG = ("cp1252", "latin-1", "cp1251", "gbk", "big5", "shift_jis", "euc_jp", "euc_kr", "cp874", "cp1256", "utf-8")
SHORTEST, LONGEST = 150, 6000  # characters of a native text
LONGEST_BROKEN = 3000  # characters of a text that mojibake is made of
MIN_SCRIPT_SHARE = 0.6
SENTENCE_ENDS = ".。!！?？؟…”」"  # noqa: RUF001
FACTS = SourceFacts(is_web=True)


@dataclass(frozen=True)
class Text:
    """A text, its language, what it is, and how it was made."""

    text: str
    language: str
    kind: str
    made: str = ""


@dataclass(frozen=True)
class Share:
    """Of the texts of a kind and language, the share kept by the language's set and by the class's own (`baseline`)."""

    kind: str
    language: str
    texts: int
    kept: float
    baseline: float
    reasons: dict[str, int]


Judge = Callable[[str], tuple[str | None, str | None]]
"""A text -> the reason to drop it, by the set of its language and by that of its class alone; None keeps it."""


def judge_of(thresholds: ThresholdsByClass) -> Judge:
    """Select's rule for a web page without a declared domain."""
    config, languages = Config(sources={}, thresholds=_without_lists(thresholds)), LanguageConfig()

    def judge(text: str) -> tuple[str | None, str | None]:
        text = normal_text(text)
        language, probability = language_of(text, languages)
        domain = domain_of(FACTS, language, probability, dict.fromkeys(TEXTS), config)
        sets = getattr(config.thresholds, text_class_of(FACTS, domain))
        signals = score(view(text)) | {"language_probability": probability}
        return keep(signals, sets.of_language(language)), keep(signals, sets.of_class)

    return judge


def _without_lists(thresholds: ThresholdsByClass) -> ThresholdsByClass:
    """The same without what needs word lists or a classifier."""

    def without(fields: Mapping[str, Any]) -> dict[str, Any]:
        known = {name: value for name, value in fields.items() if "dirty" not in name and "quality" not in name}
        if "languages" in known:
            known["languages"] = {tag: without(some) for tag, some in known["languages"].items()}
        return known

    return ThresholdsByClass(**{name: without(some) for name, some in thresholds.model_dump(exclude={"datatrove_filters"}).items()})


def texts_of(corpus: Path) -> list[Text]:
    """The labelled texts of a corpus, or those made of its sources."""
    if any(corpus.glob(LABELLED)):
        found = [Text(row["text"], _language(row["lang"]), row["kind"]) for path in files(corpus, LABELLED) for row in rows(path)]
        return [text for text in found if text.language in SCRIPTS]
    native = list(native_texts(corpus))
    return [*native, *(broken for text in native for broken in mojibake(text)), *navigation(corpus)]


def native_texts(corpus: Path) -> Iterator[Text]:
    """Documents, a piece of each, and paragraphs of sentences."""
    for path in files(corpus, TEXTS["multilingual"]):
        for row in rows(path):
            text, language = normal_text(row["text"]), _language(str(row.get("lang", "")))
            yield from _clean(text[:LONGEST], language, stem(path))
            yield from _clean(_piece(text), language, stem(path))
    sentences = defaultdict[str, list[str]](list)
    for path in files(corpus, LANGUAGES):
        for row in rows(path):
            if row.get("unit") == "sentences":
                sentences[_language(row["lang"])].append(row["text"])
    for language, some in sentences.items():
        rng, start = random.Random(language), 0
        while start < len(some):
            size = rng.randint(4, 12)
            yield from _clean("\n".join(some[start : start + size]), language, "sentences")
            start += size


def _language(tag: str) -> str:
    try:
        return canonical(tag.replace("_", "-")).partition("-")[0]
    except ValueError:
        return UNKNOWN


def _clean(text: str, language: str, made: str) -> Iterator[Text]:
    letters = Counter(script_of(char) for char in text if char.isalpha())
    own = sum(letters[script] for script in SCRIPTS.get(language, ()))
    if own and len(text) >= SHORTEST and own >= MIN_SCRIPT_SHARE * letters.total():
        yield Text(text, language, NATIVE, made)


def _rng(text: str) -> random.Random:
    return random.Random(hashlib.blake2b(text.encode()).hexdigest())


def _piece(text: str) -> str:
    """Whole lines from somewhere in a text, of a length that is spread evenly over the orders of magnitude."""
    rng, lines = _rng(text), text.split("\n")
    size, found = int(SHORTEST * (LONGEST / SHORTEST) ** rng.random()), ""
    for line in lines[rng.randrange(len(lines)) :]:
        found += line + "\n"
        if len(found) >= size:
            break
    return found.strip()


def mojibake(text: Text) -> Iterator[Text]:
    """The text's bytes read in wrong charsets: UTF-8 in one, a charset of the language in another, UTF-8 twice, and characters lost."""
    rng, some = _rng(text.text), text.text[:LONGEST_BROKEN]
    errors = rng.choice(("replace", "ignore"))
    own = rng.choice(CHARSETS[text.language])
    wrong = rng.choice([charset for charset in WRONG if charset != own])
    as_utf8 = rng.choice([charset for charset in WRONG if charset != "utf-8"])
    lost = rng.choice((0.05, 0.1, 0.3))
    made = {
        f"utf-8 as {as_utf8}": some.encode().decode(as_utf8, errors),
        f"{own} as {wrong}": some.encode(own, "ignore").decode(wrong, errors),
        "utf-8 as latin-1 twice": some.encode().decode("latin-1").encode().decode("latin-1"),
        f"{lost:.0%} lost": "".join("\ufffd" if char > "\x7f" and rng.random() < lost else char for char in some),
    }
    for how, broken in made.items():
        if broken.strip():
            yield Text(broken, text.language, MOJIBAKE, how)


def navigation(corpus: Path) -> Iterator[Text]:
    """What is left out of pages, a text for each page whose such blocks are in one of the languages."""
    config = LanguageConfig()
    for record in web_records(corpus):
        if record.payload.isascii():
            continue
        dropped = list[str]()
        text_of(record, "blocks", dropped)
        text = "\n".join(block for block in dropped if not block.rstrip().endswith(tuple(SENTENCE_ENDS)))
        language = language_of(text, config)[0].partition("-")[0]
        if language in SCRIPTS:
            yield Text(text, language, NAVIGATION, str(record.key))


def measure(texts: Sequence[Text], judge: Judge) -> list[Share]:
    """Shares by kind and language, and by kind over all (`all`)."""
    found = defaultdict[tuple[str, str], list[tuple[str | None, str | None]]](list)
    for text in texts:
        judged = judge(text.text)
        found[text.kind, text.language].append(judged)
        found[text.kind, "all"].append(judged)
    order = {name: n for n, name in enumerate((*KINDS, "all", *SCRIPTS))}
    return [
        Share(
            kind,
            language,
            len(some),
            round(sum(ours is None for ours, _ in some) / len(some), 4),
            round(sum(theirs is None for _, theirs in some) / len(some), 4),
            dict(Counter(ours for ours, _ in some if ours is not None).most_common(5)),
        )
        for (kind, language), some in sorted(found.items(), key=lambda item: [order[name] for name in item[0]])
    ]


def in_words(thresholds: ThresholdsByClass, min_words: int = 50) -> ThresholdsByClass:
    """The same with a minimum of words, and no set of a language."""
    return ThresholdsByClass(
        **{
            name: Thresholds(**getattr(thresholds, name).of_class.model_dump() | {"min_gopher_word_count": min_words})
            for name in ThresholdsByClass.model_fields
        }
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one JSON line per kind and language."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True, help="a folder with scripts/, or laid out as ../shared/corpus")
    parser.add_argument("--recipe", default="corpus", help="name or path of the recipe whose thresholds judge")
    parser.add_argument("--show", type=int, default=0, help="native texts that are dropped and others that are kept, so many, to read")
    options = parser.parse_args(arguments)
    judge, texts = judge_of(load_recipe(options.recipe).select.thresholds), texts_of(options.corpus)
    for share in measure(texts, judge):
        print(json.dumps(asdict(share), ensure_ascii=False), flush=True)
    wrong = [(text, reason) for text in texts if ((reason := judge(text.text)[0]) is None) == (text.kind != NATIVE)] if options.show else []
    for text, reason in random.Random(0).sample(wrong, min(options.show, len(wrong))):
        print(json.dumps({"reason": reason, **asdict(text), "text": text.text[:300]}, ensure_ascii=False))


if __name__ == "__main__":
    main()
