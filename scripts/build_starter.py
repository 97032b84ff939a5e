"""Build the release folder of the starter collection; the same input gives the same bytes.

python scripts/build_starter.py [FOLDER]      default: anthology_hub/data/starter
"""

from __future__ import annotations

import csv
import json
import sys
import tomllib
from pathlib import Path
from typing import Any

from anthology_hub.cards import CardText
from anthology_hub.collection import Anthology
from anthology_hub.encoding import Encoder
from anthology_hub.schema import DATA, Codebook, read_json

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "scripts" / "starter"
RELEASE = "1.1.0"
NATURAL, INTERVIEW = "anthology-natural-v1", "american-voices-interview-v1"
PROVENANCE = {
    "source": "anthology-hub starter collection",
    "generator": "large language model, from a synthetic profile",
    "generator_revision": "2026-11",
    "method": "author",
    "annotator": "the profile that the story was written from",
    "annotator_revision": "2026-11",
}
AGES = ((18, 29, "18-29"), (30, 49, "30-49"), (50, 64, "50-64"), (65, 120, "65+"))
RENAMED = {
    "education": {"Associate/some college degree": "Associate"},
    "children": {"8": "8 or more"},
    "religion": {"buddhism": "Buddhist", "hinduism": "Hindu", "muslim/islam": "Muslim"},
    "work": {
        "unemployed, laid off, looking for work": "Unemployed",
        "with a job, but not at work because of temporary illness, vacation, strike": "With a job but not at work",
    },
}
CAPITALISED = ("marital", "religion", "work")


def levels_of(profile: dict[str, str]) -> dict[str, str]:
    """Return a profile's traits as levels of the starter codebook."""
    levels = {name: value for name, value in profile.items() if name not in ("profile", "age")}
    for name, value in levels.items():
        renamed = RENAMED.get(name, {}).get(value, value)
        levels[name] = renamed[:1].upper() + renamed[1:] if name in CAPITALISED else renamed
    age = int(profile["age"])
    return {"age": next(level for low, high, level in AGES if low <= age <= high), **levels}


def read_profiles() -> dict[str, dict[str, str]]:
    """Return the profiles by their key."""
    with (SOURCE / "profiles.csv").open(encoding="utf-8", newline="") as stream:
        return {row["profile"]: row for row in csv.DictReader(stream)}


def read_stories() -> list[dict[str, Any]]:
    """Return the stories as written: profile, backstory, evidence."""
    lines = (SOURCE / "backstories.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def read_interviews() -> list[dict[str, Any]]:
    """Return the life interviews as written: profile, answers, evidence."""
    lines = (SOURCE / "interviews.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def transcript(answers: list[str]) -> str:
    """Return a life interview as one text, each answer after its question."""
    questions = read_json(DATA / "generation" / "interview.json")["questions"]
    turns = zip(questions, answers, strict=True)
    return "\n\n".join(f"Question: {question}\n\nAnswer: {answer}" for question, answer in turns)


def records(stories: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the records of some stories, in the order of the profiles."""
    by_profile = {story["profile"]: story for story in stories}
    return [
        {"backstory": story["backstory"], "traits": levels_of(profile), "evidence": story["evidence"], "key": key}
        for key, profile in read_profiles().items()
        if (story := by_profile.get(key))
    ]


def collected(stories: list[dict[str, Any]], prompt: str) -> Anthology:
    """Return some stories as a collection."""
    return Anthology.from_records(
        records(stories),
        Codebook.load("starter"),
        name="anthology-starter",
        licence="CC-BY-4.0",
        provenance={**PROVENANCE, "prompt_id": prompt},
    )


def build(folder: Path, encoder: Encoder | None = None) -> Anthology:
    """Build and save the collection."""
    encoder = encoder or Encoder()
    told = [{**story, "backstory": transcript(story["answers"])} for story in read_interviews()]
    people = collected(read_stories(), NATURAL).embed(encoder)
    people = people.extended(collected(told, INTERVIEW), encoder=encoder)
    card = CardText.from_dict(tomllib.loads((SOURCE / "card.toml").read_text(encoding="utf-8")))
    changelog = (ROOT / "cards" / "starter-changelog.md").read_text(encoding="utf-8")
    return people.save(folder, release=RELEASE, card=card, changelog=changelog)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA / "starter"
    print(build(target), "in", target)
