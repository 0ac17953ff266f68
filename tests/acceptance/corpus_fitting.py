"""Fits flows/recipes/corpus.yaml to another corpus folder of the same layout: its sources, and the lists that name them."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

from benchmarks.shared_corpus import TEXTS, files, kept_out, rows, stem
from pipeline.ingest.config import SourceConfig

WEB = "web"
OPTIONAL = {"dirty_words": "max_dirty_word_ratio", "eval_tasks": None}  # lists of quality, and the thresholds that need them


def fit(raw: dict[str, Any], corpus: Path) -> list[str]:
    """Change the recipe `raw` to the files of `corpus`, and say what was changed; nothing where it names them all already.

    Every JSONL file of a domain's folder becomes a source of that domain. Whole sources are kept out of the domain classifier as
    `shared_corpus.kept_out` chooses. Word lists and task files that are not there are left out.
    """
    changes = []
    found = {domain: files(corpus, pattern) for domain, pattern in TEXTS.items()}
    named = {path for source in raw["sources"] if source["name"] != WEB for path in SourceConfig(**source).patterns}
    if {str(path.relative_to(corpus)) for paths in found.values() for path in paths} != named:
        _name_sources(raw, corpus, found)
        changes.append(f"{len(raw['sources'])} sources, of the files that are there")
    for part, threshold in OPTIONAL.items():
        if not all(any(corpus.glob(item["path"])) for item in raw["quality"].get(part, ())):
            raw["quality"].pop(part)
            for limits in raw["select"]["thresholds"].values():
                for some in (limits, *limits.get("languages", {}).values()):
                    some.pop(threshold, None)
            changes.append(f"no quality.{part}: its files are not there")
    return changes


def _name_sources(raw: dict[str, Any], corpus: Path, found: dict[str, list[Path]]) -> None:
    web = [source for source in raw["sources"] if source["name"] == WEB]
    made = {path: _source(corpus, domain, path) for domain, paths in found.items() for path in paths}
    raw["sources"] = [*web, *made.values()]
    apart = {domain: {made[path]["name"] for path in kept_out(corpus, domain)} for domain in TEXTS}
    domain_of = {source["name"]: source["domain"] for source in made.values()}
    raw["domains"]["labels"] = {name: domain for name, domain in domain_of.items() if name not in apart[domain]}
    raw["domains"]["validation_sources"] = {name: domain for name, domain in domain_of.items() if name in apart[domain]}
    general = [name for name, domain in domain_of.items() if domain == "general"]
    raw["quality"]["classifier"] |= {
        "positive_sources": [name for name in general if name not in apart["general"]],
        "validation_positive_sources": [name for name in general if name in apart["general"]],
        "validation_negative_sources": [],
    }


def _source(corpus: Path, domain: str, path: Path) -> dict[str, Any]:
    """The recipe's entry of a JSONL file, with the fields that its first row has."""
    first = next(itertools.islice(rows(path), 1), {})
    fields = {"id_field": "id", "url_field": "url", "date_field": "date"}
    language = {} if domain == "multilingual" else {"language": "en"}
    name = re.sub(r"[^a-z0-9_-]+", "-", f"{domain}-{stem(path)}".lower())[:64]
    entry = {"name": name, "format": "jsonl", "path": str(path.relative_to(corpus)), "domain": domain, **language}
    return entry | {key: field for key, field in fields.items() if field in first}
