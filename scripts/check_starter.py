"""Check the stories of the starter collection by program; exits with 1 and names every fault.

    python scripts/check_starter.py

Length, first person, placeholders and comments, openings, shared five-word sequences, near-duplicates by embedding,
quotes, and contradictions with the profile (age, children, region) that a program can see.
"""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from build_starter import read_interviews, read_profiles, read_stories

from anthology_hub.encoding import Encoder

SHORTEST, LONGEST = 180, 350
SHORTEST_INTERVIEW, LONGEST_INTERVIEW, ANSWERS = 1200, 2000, 10
"""Words of all answers of a life interview together, and how many answers there are."""
MOST_ALIKE = 0.90
MOST_SHARED_GRAMS = 3
"""Stories that may share one five-word sequence."""
MOST_OVERLAP = 0.05
"""Share of a story's five-word sequences that may also be in one other story."""
PLACEHOLDER = re.compile(
    r"[\[\]<>{}]|\b(?:lorem ipsum|insert|TODO|TBD|N/A|as an ai|language model"
    r"|this (?:persona|backstory|profile|character)|the (?:survey|interview|questionnaire)"
    r"|word count|see above|rewritten)\b",
    re.IGNORECASE,
)
FIRST_PERSON = re.compile(r"\b(?:I|I'm|I've|I'd|I'll|me|my|mine|myself|we|our|us)\b")
UNITS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
TENS = dict(
    zip(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], range(20, 100, 10), strict=True)
)
_SPOKEN = "|".join(TENS), "|".join(UNITS[1:10]), "|".join(reversed(UNITS))
NUMBER = rf"(?:\d{{1,2}}|(?:{_SPOKEN[0]})(?:[- ](?:{_SPOKEN[1]}))?|{_SPOKEN[2]})"
AGE = re.compile(
    rf"\bI(?:'m| am)(?: now| just)? ({NUMBER})(?: years old|(?=[,.;!?]| and | now\b| years of age))", re.IGNORECASE
)
YEAR = re.compile(r"(?:'|\b(19|20))(\d\d)\b(?=[ ,.])")
PRESENT = 2019
CHILDLESS = re.compile(
    r"\b(?:no (?:kids|children)|(?:don't|do not|didn't|never) ha(?:ve|d) (?:any )?(?:kids|children))\b", re.IGNORECASE
)
PARENT = re.compile(rf"\bI (?:have|had|raised) ({NUMBER}) (?:kids|children)\b", re.IGNORECASE)
STATES = {
    "Northeast": "Maine|New Hampshire|Vermont|Massachusetts|Rhode Island|Connecticut|New York|New Jersey|Pennsylvania",
    "Midwest": "Ohio|Indiana|Illinois|Michigan|Wisconsin|Minnesota|Iowa|Missouri|Kansas|Nebraska"
    "|North Dakota|South Dakota",
    "South": "Delaware|Maryland|Virginia|West Virginia|North Carolina|South Carolina|Georgia|Florida|Kentucky|Tennessee"
    "|Alabama|Mississippi|Arkansas|Louisiana|Oklahoma|Texas",
    "West": "Montana|Idaho|Wyoming|Colorado|New Mexico|Arizona|Utah|Nevada|California|Oregon|Alaska|Hawaii",
}
LIVES = {
    region: re.compile(
        rf"\b(?:I|[Ww]e) (?:still |now )?live (?:now )?(?:in|outside|near) (?:[A-Z][\w.]+,? ){{0,2}}(?:{names})\b"
        r"(?! City)"
    )
    for region, names in STATES.items()
}
Story = dict[str, Any]


def number(text: str) -> int:
    """Return the value of a number up to 99 in digits or words."""
    if text.isdigit():
        return int(text)
    tens, _, units = text.lower().replace("-", " ").partition(" ")
    return TENS[tens] + (UNITS.index(units) if units else 0) if tens in TENS else UNITS.index(tens)


def stated_ages(text: str) -> set[int]:
    """Return the present ages that the speaker's words allow.

    A sentence with a year may tell a scene in the present tense: then the age may be of that year. A child's age can
    only be of a scene, since every speaker is an adult.
    """
    ages = set()
    for sentence in re.split(r"(?<=[.!?])\s+", text):
        found = {age for match in AGE.finditer(sentence) if (age := number(match.group(1))) >= 18}
        ages |= found
        if year := YEAR.search(sentence):
            since = PRESENT - int(year.group(1) or 19) * 100 - int(year.group(2))
            ages |= {age + since + slack for age in found for slack in (-1, 0, 1)}
    return ages


def grams(text: str) -> set[tuple[str, ...]]:
    """Return the five-word sequences of a text."""
    words = re.findall(r"[a-z']+", text.lower())
    return set(zip(*(words[at:] for at in range(5)), strict=False))


def check_text(story: Story) -> Iterator[str]:
    """Yield the faults of one story by itself."""
    text = story["backstory"]
    count = len(text.split())
    told = "answers" in story
    shortest, longest = (SHORTEST_INTERVIEW, LONGEST_INTERVIEW) if told else (SHORTEST, LONGEST)
    if not shortest <= count <= longest:
        yield f"{count} words, allowed are {shortest} to {longest}"
    if told and (len(story["answers"]) != ANSWERS or not all(story["answers"])):
        yield f"{len(story['answers'])} answers, {ANSWERS} are needed, each with words"
    if found := PLACEHOLDER.search(text):
        yield f"placeholder or comment: {found.group()!r}"
    if len(FIRST_PERSON.findall(text)) < 0.02 * count:
        yield "too few first-person words"
    if text != text.strip() or re.search(r"[^\x20-\x7eÀ-ɏ—\n]", text):
        yield "odd characters or stray white space"
    for trait, quote in story["evidence"].items():
        if quote not in text:
            yield f"evidence for {trait} is not in the text: {quote!r}"


def check_profile(story: Story, profile: dict[str, str]) -> Iterator[str]:
    """Yield what contradicts the profile outright."""
    text, children = story["backstory"], int(profile["children"])
    ages = stated_ages(text)
    if ages and int(profile["age"]) not in ages:
        yield f"says an age of {sorted(ages)}, the profile's age is {profile['age']}"
    if children and (said := CHILDLESS.search(text)):
        yield f"says {said.group()!r}, the profile has {children} children"
    for found in PARENT.finditer(text):
        if number(found.group(1)) != children:
            yield f"says {found.group()!r}, the profile has {children} children"
    for region, lives in LIVES.items():
        if region != profile["region"] and (found := lives.search(text)):
            yield f"says {found.group()!r}, the profile lives in the {profile['region']}"


def check_openings(stories: list[Story]) -> Iterator[tuple[str, str]]:
    """Yield (profile, fault) for stories that begin alike."""
    openings: dict[str, str] = {}
    for story in stories:
        first = re.split(r"(?<=[.!?])\s", story["backstory"])[0]
        for opening in (first.casefold(), " ".join(story["backstory"].casefold().split()[:5])):
            if openings.setdefault(opening, story["profile"]) != story["profile"]:
                yield story["profile"], f"opens like {openings[opening]}: {opening!r}"


def check_wording(stories: list[Story]) -> Iterator[tuple[str, str]]:
    """Yield (profile, fault) for five-word sequences that too many stories share, or two stories share too much."""
    owners: dict[tuple[str, ...], list[str]] = defaultdict(list)
    sizes = {}
    for story in stories:
        own = grams(story["backstory"])
        sizes[story["profile"]] = len(own)
        for gram in own:
            owners[gram].append(story["profile"])
    for gram, profiles in owners.items():
        if len(profiles) > MOST_SHARED_GRAMS:
            yield profiles[0], f"{' '.join(gram)!r} is in {len(profiles)} stories: {', '.join(profiles)}"
    shared = Counter(pair for profiles in owners.values() for pair in combinations(profiles, 2))
    for (one, other), count in shared.items():
        if count > MOST_OVERLAP * min(sizes[one], sizes[other]):
            yield one, f"shares {count} five-word sequences with {other}"


def check_vectors(stories: list[Story], encoder: Encoder) -> Iterator[tuple[str, str]]:
    """Yield (profile, fault) for pairs of stories that are nearly the same in meaning."""
    spans = [(at, span) for at, story in enumerate(stories) for span in encoder.passages(story["backstory"])]
    vectors = encoder.encode([stories[at]["backstory"][a:b] for at, (a, b) in spans])
    owners = np.array([at for at, _ in spans])
    means = np.array([vectors[owners == at].mean(axis=0) for at in range(len(stories))])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    for kind, table, who in (("story", means, np.arange(len(stories))), ("passage", vectors, owners)):
        alike = np.triu(table @ table.T, k=1) * (who[:, None] != who[None, :])
        for one, other in np.argwhere(alike > MOST_ALIKE):
            fault = f"{kind} too like {stories[who[other]]['profile']}: cosine {alike[one, other]:.3f}"
            yield stories[who[one]]["profile"], fault


def check(stories: list[Story], profiles: dict[str, dict[str, str]], encoder: Encoder) -> list[str]:
    """Return all faults, each beginning with the profile it is about."""
    keys = [story["profile"] for story in stories]
    faults = [f"{key}: no story" for key in profiles if key not in keys]
    faults += [f"{key}: {keys.count(key)} stories" for key in sorted(set(keys)) if keys.count(key) > 1]
    faults += [f"{key}: no such profile" for key in keys if key not in profiles]
    known = [story for story in stories if story["profile"] in profiles]
    for story in known:
        found = [*check_text(story), *check_profile(story, profiles[story["profile"]])]
        faults += [f"{story['profile']}: {fault}" for fault in found]
    together = [*check_openings(known), *check_wording(known), *check_vectors(known, encoder)]
    return faults + [f"{profile}: {fault}" for profile, fault in together]


def main() -> int:
    """Check the stories that are there and print what is wrong."""
    told = [{**story, "backstory": "\n\n".join(story["answers"])} for story in read_interviews()]
    stories = [*read_stories(), *told]
    faults = check(stories, read_profiles(), Encoder())
    print("\n".join(faults))
    print(f"{len(stories)} stories, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
