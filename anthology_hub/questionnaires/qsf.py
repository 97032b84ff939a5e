"""Qualtrics survey files (`.qsf`) to surveys: every question type that we can ask, in the order of the survey flow.

The format is undocumented JSON; what is read here is what exports hold: lists where one expects objects, numbers as
texts, payloads that are a text or null.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from anthology_hub.errors import DataError
from anthology_hub.questionnaires.conditions import CannotKeep, all_of, any_of, chosen, negated
from anthology_hub.questionnaires.imported import Draft, ImportedSurvey, Item, Option, line, name_of, parse_json, plain
from anthology_hub.schema import Condition

SINGLE = frozenset({"SAVR", "SAHR", "SACOL", "DL", "SB", "NPS"})
MULTIPLE = frozenset({"MAVR", "MAHR", "MACOL", "MSB"})
ROWS_SINGLE = frozenset({"SingleAnswer", "SACH", "SACV", "DL", "DND", "None", ""})
NOT_ASKED = {
    "TE": "an open text has no options",
    "DB": "it is text to read, not a question",
    "Timing": "it measures time, nothing is asked",
    "Meta": "it records the browser, nothing is asked",
    "Captcha": "it keeps out robots, nothing is asked",
    "Slider": "a slider has no options",
    "SS": "a slider has no options",
    "RO": "a ranking is not one choice among options",
    "CS": "a sum to be shared out is not one choice among options",
    "PGR": "sorting into groups is not one choice among options",
    "DD": "a drill-down list is several questions that depend on each other",
    "HeatMap": "a click on a picture has no options",
    "HotSpot": "a click on a picture has no options",
    "HL": "marking words in a text has no options",
    "Draw": "a drawing has no options",
    "FileUpload": "a file has no options",
    "TreeSelect": "a tree of units is not one list of options",
}
FLOW_TOLD = {
    "EmbeddedData": "Embedded data is left out",
    "WebService": "A web service is left out",
    "Quota": "A quota is left out",
    "ReferenceSurvey": "A block from a library is not in the file",
    "Authenticator": "A sign-in is left out; what stands in it is asked of all",
}
PIPE = re.compile(r"\$\{([a-z]+://[^{}]*)\}")
END, BLOCK = "ENDOFSURVEY", "ENDOFBLOCK"
DEEPEST = 50
"""Levels of groups within groups in a survey flow."""
MOST_SKIPS = 100
"""Skips that one question may depend on."""

Payload = Mapping[str, Any]


def read_qsf(content: bytes, *, name: str) -> ImportedSurvey:
    """Read a Qualtrics survey file.

    Args:
        content: The bytes of the file.
        name: Of the file, without its ending; the survey is called so.

    Raises:
        DataError: If it is no such file, or nothing in it can be asked.
    """
    value = parse_json(content, name)
    elements = list(_entries(_object(value).get("SurveyElements")).values())
    if not elements:
        raise DataError(
            f"{name} is no Qualtrics survey, as it has no SurveyElements: in Qualtrics use Tools > Import/Export > "
            "Export Survey"
        )
    entry = _object(_object(value).get("SurveyEntry"))
    title = line(entry.get("SurveyName")) or name
    draft = Draft(name=name_of(name), title=title, source=f"Qualtrics survey {line(entry.get('SurveyID'))}".strip())
    _Survey([_object(element) for element in elements], draft).read()
    return draft.finish()


class _Survey:
    """Walks the flow, and remembers what is under way: branches, skips, and what was asked."""

    def __init__(self, elements: Sequence[Payload], draft: Draft) -> None:
        self._draft = draft
        self._flow = [_object(e.get("Payload")).get("Flow") for e in elements if e.get("Element") == "FL"]
        self._blocks = {str(b.get("ID")): b for e in elements if e.get("Element") == "BL" for b in _blocks(e)}
        self._waiting: dict[str, Payload] = {}
        self._asked: set[str] = set()
        self._skips: list[tuple[Condition, str]] = []
        self._ended = False
        for element in elements:
            self._sort(element)

    def _sort(self, element: Payload) -> None:
        payload = element.get("Payload")
        if element.get("Element") == "QO":
            self._draft.note("A quota is left out", line(_object(payload).get("Name")))
        if element.get("Element") != "SQ":
            return
        qid = str(_object(payload).get("QuestionID") or element.get("PrimaryAttribute") or "")
        if not isinstance(payload, Mapping):
            kind = "null" if payload is None else type(payload).__name__
            self._leave(qid, {"QuestionText": payload}, f"its payload is a {kind}, no question")
        elif qid in self._waiting:
            self._leave(qid, payload, "there is another question with this id")
        else:
            self._waiting[qid] = payload

    def read(self) -> None:
        """Take the questions in the order of the flow; tell of the rest."""
        if any(self._flow):
            for flow in self._flow:
                self._nodes(flow, (), readable=True, level=0)
        else:
            self._draft.note("There is no survey flow; the blocks are asked in the order of the file")
            for block in self._blocks:
                self._block(block, ())
        homes = {qid: block for block in self._blocks.values() for qid in _question_ids(block)}
        for qid, payload in list(self._waiting.items()):
            self._leave(qid, payload, _why_unused(homes.get(qid)))

    # -- the flow

    def _nodes(self, flow: object, when: tuple[Condition, ...], *, readable: bool, level: int) -> None:
        if level > DEEPEST:
            self._draft.note(f"Groups more than {DEEPEST} deep in the survey flow are left out")
            return
        for node in map(_object, _entries(flow).values()):
            kind = str(node.get("Type"))
            if kind in ("Block", "Standard", "Default"):
                self._block(str(node.get("ID")), when)
            elif kind == "EndSurvey":
                self._end(when, readable=readable)
            else:
                self._group(kind, node, when, readable=readable, level=level)

    def _group(self, kind: str, node: Payload, when: tuple[Condition, ...], *, readable: bool, level: int) -> None:
        if kind == "Branch":
            try:
                when = (*when, self._logic(node.get("BranchLogic")))
            except CannotKeep as why:
                readable = False
                self._draft.note("A branch whose logic cannot be read is asked of all", f"{_flow_id(node)} ({why})")
        elif kind in ("BlockRandomizer", "Randomizer"):
            readable = False
            shown = f"{_flow_id(node)} ({node.get('SubSet') or 'all'} of {len(_entries(node.get('Flow')))})"
            self._draft.note("Parts drawn at random in the source are all asked, in the order written", shown)
        elif kind in FLOW_TOLD:
            self._draft.note(FLOW_TOLD[kind], _flow_id(node))
        elif kind not in ("Group", "Root"):
            self._draft.note("A part of the survey flow is not known and left out", f"{_flow_id(node)} ({kind})")
        self._nodes(node.get("Flow"), when, readable=readable, level=level + 1)

    def _end(self, when: tuple[Condition, ...], *, readable: bool) -> None:
        condition = all_of(when)
        if not readable:
            self._draft.note("The survey may end early under a condition that cannot be read; here it goes on")
        elif condition is None:
            self._ended = True
        else:
            self._pass_over(condition, END)

    def _pass_over(self, condition: Condition, until: str) -> None:
        if len(self._skips) < MOST_SKIPS:
            self._skips.append((condition, until))
        else:
            self._draft.note(f"More than {MOST_SKIPS} skips are under way at once; the later ones are left out")

    # -- blocks

    def _block(self, block_id: str, when: tuple[Condition, ...]) -> None:
        block = self._blocks.get(block_id)
        if block is None:
            self._draft.note("The survey flow names a block that is not in the file", block_id)
            return
        if block.get("Type") == "Trash":
            return
        self._tell_block(block)
        for element in map(_object, _entries(block.get("BlockElements")).values()):
            if element.get("Type") == "Question":
                self._question(str(element.get("QuestionID")), when)
                self._skip(element)
        for _, until in self._skips:
            if until not in (END, BLOCK):
                self._draft.note("Skip logic that leads out of its block is read as leading to its end", until)
        self._skips = [(condition, until) for condition, until in self._skips if until == END]

    def _tell_block(self, block: Payload) -> None:
        options, name = _object(block.get("Options")), line(block.get("Description")) or str(block.get("ID"))
        if options.get("Looping") not in (None, "", "None", "false", False):
            self._draft.note("A block that is asked in a loop (loop and merge) is asked once", name)
        if options.get("RandomizeQuestions") not in (None, "", "None", "false", False):
            self._draft.note("Questions in random order in the source stand in the order written", name)

    def _skip(self, element: Payload) -> None:
        qid = str(element.get("QuestionID"))
        for rule in map(_object, _entries(element.get("SkipLogic")).values()):
            until = str(rule.get("SkipToDestination"))
            try:
                found = self._expression({**rule, "Operator": rule.get("Condition"), "LogicType": "Question"})
                # Qualtrics asks it of those only who were shown the question.
                found = self._draft.otherwise(found.parts[0]) if found.kind == "not" else found
            except CannotKeep as why:
                self._draft.note("Skip logic that cannot be read is left out", f"{qid} ({why})")
            else:
                self._pass_over(found, until)

    # -- questions

    def _question(self, qid: str, when: tuple[Condition, ...]) -> None:
        self._skips = [(condition, until) for condition, until in self._skips if until != qid]
        payload = self._waiting.pop(qid, None)
        if payload is None:
            twice = "A question that stands twice in the flow is asked once, in its first place"
            self._draft.note(twice if qid in self._asked else "A block names a question that is not in the file", qid)
            return
        self._asked.add(qid)
        try:
            if self._ended:
                raise CannotKeep("it comes after the end of the survey")
            self._keep(qid, payload, when)
        except CannotKeep as why:
            self._leave(qid, payload, str(why))

    def _keep(self, qid: str, payload: Payload, when: tuple[Condition, ...]) -> None:
        tag = _tag(payload, qid)
        kind, selector = str(payload.get("QuestionType")), str(payload.get("Selector") or "")
        several = selector in MULTIPLE or selector.startswith("MA")
        if kind not in ("MC", "NPS", "Matrix", "SBS") or (kind == "MC" and not several and selector not in SINGLE):
            raise CannotKeep(NOT_ASKED.get(kind, f"the type {kind} {selector}".rstrip() + " is not known"))
        if _object(payload.get("DynamicChoices")).get("Locator"):
            raise CannotKeep("its options are carried over from another question")
        ask_if = all_of([*when, *(negated(condition) for condition, _ in self._skips), *self._display(payload, tag)])
        if kind == "Matrix":
            self._matrix(qid, payload, ask_if)
        elif kind == "SBS":
            self._side_by_side(qid, payload, ask_if)
        elif several:
            self._draft.add_choices(self._choice(qid, payload), source=qid, ask_if=ask_if)
        else:
            self._draft.add([self._choice(qid, payload)], source=qid, ask_if=ask_if)
        self._tell_question(payload, tag)

    def _display(self, payload: Payload, tag: str) -> Iterator[Condition]:
        for field in ("DisplayLogic", "InPageDisplayLogic"):
            if payload.get(field):
                try:
                    yield self._logic(payload[field])
                except CannotKeep as why:
                    self._draft.note("Display logic that cannot be read is left out; asked of all", f"{tag} ({why})")
                return

    def _text(self, value: object) -> str:
        return self._draft.pipe(plain(value), PIPE, _piped_question)

    def _choice(self, qid: str, payload: Payload) -> Item:
        options = _options(payload, "Choices", "ChoiceOrder")
        if not options and "NPS" in (payload.get("Selector"), payload.get("QuestionType")):
            options = [Option(name=str(number), text=str(number)) for number in range(11)]
        nps = payload.get("Selector") == "NPS" or payload.get("QuestionType") == "NPS"
        return Item(
            key=_tag(payload, qid),
            text=self._text(payload.get("QuestionText")),
            options=options,
            names=[qid],
            ordinal=True if nps else None,
            order=_order(payload.get("Randomization")),
        )

    def _matrix(self, qid: str, payload: Payload, ask_if: Condition | None) -> None:
        selector, sub = str(payload.get("Selector")), str(payload.get("SubSelector") or "")
        rows = list(self._rows(qid, payload))
        if selector == "Likert" and sub == "MultipleAnswer":
            self._choice_rows(rows, source=qid, ask_if=ask_if)
        elif selector in ("Bipolar", "Profile") or (selector == "Likert" and sub in ROWS_SINGLE):
            self._draft.add(rows, source=qid, ask_if=ask_if)
        else:
            raise CannotKeep(f"a table of the kind {selector} {sub}".rstrip() + " has no one answer in a row")
        self._any_row(qid, rows)

    def _choice_rows(self, rows: Sequence[Item], *, source: str, ask_if: Condition | None) -> None:
        lost = {}
        for row in rows:
            try:
                self._draft.add_choices(row, source=source, ask_if=ask_if)
            except CannotKeep as why:
                lost[row.key] = str(why)
        if len(lost) == len(rows):
            raise CannotKeep(next(iter(lost.values()), "it has no rows"))
        for key, reason in lost.items():
            self._draft.note("A row is left out", f"{key} ({reason})")

    def _any_row(self, qid: str, rows: Sequence[Item]) -> None:
        # Logic may ask whether an answer was given in any row.
        found: dict[str, list[Condition]] = {}
        for row in rows:
            for answer, condition in self._draft.selected.get(row.names[0], {}).items():
                found.setdefault(answer, []).append(condition)
        self._draft.selected[f"{qid}/*"] = {answer: any_of(parts) for answer, parts in found.items()}

    def _rows(self, qid: str, payload: Payload) -> Iterator[Item]:
        stem, tag = self._text(payload.get("QuestionText")), _tag(payload, qid)
        tags, answers = _entries(payload.get("ChoiceDataExportTags")), _entries(payload.get("Answers"))
        for row, entry in _ordered(payload, "Choices", "ChoiceOrder"):
            own = _object(answers.get(row))
            # A profile table has other options in every row.
            part = {**payload, "Answers": own} if own and "Display" not in own else payload
            text, options = self._text(_shown(entry)), _options(part, "Answers", "AnswerOrder")
            if payload.get("Selector") == "Bipolar":
                text, options = _between(text, options)
            yield Item(
                key=str(tags.get(row) or f"{tag}_{row}"),
                text=f"{stem}\n{text}".strip() if text else "",
                options=options,
                names=[f"{qid}/{row}"],
            )

    def _side_by_side(self, qid: str, payload: Payload, ask_if: Condition | None) -> None:
        lost, kept = [], 0
        for number, entry in _entries(payload.get("AdditionalQuestions")).items():
            column = {"Choices": payload.get("Choices"), "ChoiceOrder": payload.get("ChoiceOrder"), **_object(entry)}
            text = "\n".join(filter(None, (plain(payload.get("QuestionText")), plain(column.get("QuestionText")))))
            column = {**column, "QuestionText": text, "DataExportTag": _tag(column, f"{_tag(payload, qid)}_{number}")}
            try:
                if column.get("QuestionType") != "Matrix":
                    raise CannotKeep("it is no table of choices")
                self._matrix(str(column.get("QuestionID") or f"{qid}#{number}"), column, ask_if)
                kept += 1
            except CannotKeep as error:
                lost.append((column["DataExportTag"], str(error)))
        if not kept:
            raise CannotKeep(f"no column of it can be asked: {lost[0][1]}" if lost else "it has no columns")
        for tag, why in lost:
            self._draft.note("A column of a side-by-side table is left out", f"{tag} ({why})")

    def _tell_question(self, payload: Payload, tag: str) -> None:
        choices = [_object(entry) for entry in _entries(payload.get("Choices")).values()]
        if any(str(choice.get("TextEntry")).lower() in ("true", "1", "on") for choice in choices):
            self._draft.note("The text field beside an option is not asked", tag)
        if any("${" in str(_shown(choice)) for choice in choices):
            self._draft.note("A piped text in an option stands as it is", tag)
        if any(choice.get("DisplayLogic") for choice in choices):
            self._draft.note("Options shown only under a condition are always shown", tag)
        if str(payload.get("QuestionJS") or "").strip():
            self._draft.note("JavaScript is left out", tag)
        if payload.get("Graphics") or "<img" in str(payload.get("QuestionText")):
            self._draft.note("A picture is left out", tag)
        if payload.get("QuestionType") != "MC" and _order(payload.get("Randomization")):
            self._draft.note("Questions in random order in the source stand in the order written", tag)

    def _leave(self, qid: str, payload: Payload, why: str) -> None:
        kind = " ".join(str(payload[part]) for part in ("QuestionType", "Selector") if payload.get(part)) or "?"
        self._draft.leave(_tag(payload, qid), kind=kind, text=payload.get("QuestionText"), why=why)

    # -- logic

    def _logic(self, value: object) -> Condition:
        """Sets of expressions: in a set `and` binds closer than `or`; sets are joined by one of the two."""
        sets = [(str(group.get("Type")), self._set(group)) for group in map(_object, _numbered(value))]
        if not sets:
            raise CannotKeep("it has no conditions")
        joins = {"and" if kind == "AndIf" else "or" if kind in ("ElseIf", "OrIf") else kind for kind, _ in sets[1:]}
        if joins - {"and", "or"} or len(joins) > 1:
            raise CannotKeep(f"its sets are joined by {', '.join(sorted(joins))}")
        parts = [part for _, part in sets]
        return any_of(parts) if joins == {"or"} else all_of(parts) or parts[0]

    def _set(self, group: Payload) -> Condition:
        runs: list[list[Condition]] = []
        for expression in map(_object, _numbered(group)):
            join = str(expression.get("Conjuction") or expression.get("Conjunction") or "And").lower()
            if join not in ("and", "or"):
                raise CannotKeep(f"its expressions are joined by {join!r}")
            if join == "or" or not runs:
                runs.append([])
            runs[-1].append(self._expression(expression))
        if not runs:
            raise CannotKeep("it has no conditions")
        return any_of(all_of(run) or run[0] for run in runs)

    def _expression(self, value: Payload) -> Condition:
        if value.get("LogicType") != "Question":
            raise CannotKeep(f"it asks for {value.get('LogicType') or 'nothing'}, not for an answer")
        operator, where = value.get("Operator"), str(value.get("LeftOperand") or value.get("ChoiceLocator"))
        match = re.fullmatch(r"q://([^/]+)/Selectable(Choice|Answer)/([^/]+)(?:/([^/]+))?", where)
        if operator not in ("Selected", "NotSelected") or not match:
            raise CannotKeep(f"{operator} {where} is more than whether an option was selected")
        qid, of, first, second = unquote(match[1]), match[2], match[3], match[4]
        name = f"{qid}/*" if of == "Answer" else f"{qid}/{first}" if second else qid
        found = chosen(self._draft.selected, name, second or first)
        return found if operator == "Selected" else negated(found)


def _object(value: object) -> Payload:
    return value if isinstance(value, Mapping) else {}


def _entries(value: object) -> Mapping[str, Any]:
    """What is now an object, now a list, as an object."""
    if isinstance(value, list):
        return {str(at): entry for at, entry in enumerate(value)}
    return {str(name): entry for name, entry in value.items()} if isinstance(value, Mapping) else {}


def _numbered(value: object) -> list[Any]:
    """The parts of a logic: what stands under a number."""
    return [entry for name, entry in sorted(_entries(value).items(), key=lambda e: e[0].zfill(9)) if name.isdecimal()]


def _blocks(element: Payload) -> Iterator[Payload]:
    payload = element.get("Payload")
    found = [payload] if "BlockElements" in _object(payload) else _entries(payload).values()
    yield from (block for block in map(_object, found) if block)


def _question_ids(block: Payload) -> Iterator[str]:
    for element in map(_object, _entries(block.get("BlockElements")).values()):
        yield str(element.get("QuestionID"))


def _why_unused(block: Payload | None) -> str:
    if block is None:
        return "it stands in no block"
    return "it is in the trash" if block.get("Type") == "Trash" else "its block is not in the survey flow"


def _ordered(payload: Payload, entries: str, order: str) -> list[tuple[str, Any]]:
    given, listed = payload.get(entries), [str(name) for name in _entries(payload.get(order)).values()]
    found = _entries(given)
    if isinstance(given, list) and "0" not in listed and str(len(given)) in listed:
        found = {str(at): entry for at, entry in enumerate(given, 1)}
    names = dict.fromkeys([*(name for name in listed if name in found), *found])
    return [(name, found[name]) for name in names]


def _options(payload: Payload, entries: str, order: str) -> list[Option]:
    codes, names = _entries(payload.get("RecodeValues")), _entries(payload.get("VariableNaming"))
    # "Exclude from analysis": chosen by people as any other option, but no part of a mean.
    analysed = _object(payload.get("AnalyzeChoices"))
    return [
        Option(
            name=name,
            text=line(_shown(entry)) or line(names.get(name)),
            code=str(name if codes.get(name) in (None, "") else codes[name]),
            off_scale=analysed.get(name) == "No",
        )
        for name, entry in _ordered(payload, entries, order)
    ]


def _shown(entry: object) -> object:
    return _object(entry).get("Display", _object(entry).get("display"))


def _between(text: str, options: Sequence[Option]) -> tuple[str, list[Option]]:
    """A bipolar row: the two ends stand in its text, the steps between them have numbers only."""
    left, _, right = text.partition(":")
    ends = {0: left.strip(), len(options) - 1: right.strip()}
    steps = [
        Option(name=o.name, code=o.code, text=f"{at + 1} ({ends[at]})" if ends.get(at) else str(at + 1))
        for at, o in enumerate(options)
    ]
    return f"{left.strip()} - {right.strip()}" if right.strip() else text, steps


def _order(randomization: object) -> str:
    value = _object(randomization)
    if value.get("Type") == "ScaleReversal" or value.get("ConsistentScaleReversal") is True:
        return "reversed"
    return "shuffled" if value.get("Type") not in (None, "", "None", False) else ""


def _piped_question(locator: str) -> str | None:
    match = re.fullmatch(r"q://([^/]+)/ChoiceGroup/SelectedChoices", locator)
    return match[1] if match else None


def _tag(payload: Payload, qid: str) -> str:
    return line(payload.get("DataExportTag")) or qid or "?"


def _flow_id(node: Payload) -> str:
    return line(node.get("Description")) or line(node.get("FlowID")) or "?"
