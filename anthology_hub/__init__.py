"""The Hub-native home of virtual personas.

    people  = Anthology.load("starter")
    humans  = Respondents.load("gss-2018").sample(40)
    cast    = match(people, humans, method="optimal")
    answers = simulate(cast, Survey.load("gss-national-spending"), open_model("local:smollm2"), seed=0)
    result  = evaluate(answers, humans)

Names are loaded when they are first used, so importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOMES = {
    "AnthologyError": "errors",
    "Codebook": "schema",
    "Matching": "schema",
    "Persona": "schema",
    "Result": "schema",
    "Survey": "schema",
    "Respondents": "humans",
    "Margins": "margins",
    "read_survey": "questionnaires",
    "as_themselves": "matching",
    "match": "matching",
    "unmatched": "matching",
    "open_model": "models",
    "Sampling": "models",
    "Anthology": "collection",
    "CardText": "cards",
    "import_pool": "pools",
    "Encoder": "encoding",
    "SimulateOptions": "simulation",
    "simulate": "simulation",
    "load_run": "simulation",
    "EvaluateOptions": "evaluation",
    "evaluate": "evaluation",
    "compare": "comparison",
    "plan_power": "power",
    "rectify": "rectification",
    "publish": "leaderboard",
    "read_board": "leaderboard",
    "compact": "leaderboard",
    "rank": "ranking",
    "reproduce": "reproduction",
    "verify": "verification",
    "read_results": "leaderboard",
    "write_report": "report",
    "annotate": "annotation",
    "AnnotateOptions": "annotation",
    "plan_annotation": "annotation",
    "write_calibration": "calibration_report",
    "Crosswalk": "crosswalks",
    "target_of": "crosswalks",
    "diagnose": "diagnostics",
    "rake": "weighting",
    "generate": "generation",
    "Generation": "generation",
    "GenerateOptions": "styles",
    "Critic": "screening",
    "steer": "steering",
    "plan_simulation": "simulation",
    "Interview": "interviews",
    "interview": "interviews",
    "code_answers": "free_answers",
    "agreement": "free_answers",
    "Panel": "panels",
    "attrite": "panels",
    "transitions": "panels",
}
__all__ = [
    "AnnotateOptions",
    "Anthology",
    "AnthologyError",
    "CardText",
    "Codebook",
    "Critic",
    "Crosswalk",
    "Encoder",
    "EvaluateOptions",
    "GenerateOptions",
    "Generation",
    "Interview",
    "Margins",
    "Matching",
    "Panel",
    "Persona",
    "Respondents",
    "Result",
    "Sampling",
    "SimulateOptions",
    "Survey",
    "agreement",
    "annotate",
    "as_themselves",
    "attrite",
    "code_answers",
    "compact",
    "compare",
    "diagnose",
    "evaluate",
    "generate",
    "import_pool",
    "interview",
    "load_run",
    "match",
    "open_model",
    "plan_annotation",
    "plan_power",
    "plan_simulation",
    "publish",
    "rake",
    "rank",
    "read_board",
    "read_results",
    "read_survey",
    "rectify",
    "reproduce",
    "simulate",
    "steer",
    "target_of",
    "transitions",
    "unmatched",
    "verify",
    "write_calibration",
    "write_report",
]

if TYPE_CHECKING:
    from anthology_hub.annotation import AnnotateOptions, annotate, plan_annotation
    from anthology_hub.calibration_report import write_calibration
    from anthology_hub.cards import CardText
    from anthology_hub.collection import Anthology
    from anthology_hub.comparison import compare
    from anthology_hub.crosswalks import Crosswalk, target_of
    from anthology_hub.diagnostics import diagnose
    from anthology_hub.encoding import Encoder
    from anthology_hub.errors import AnthologyError
    from anthology_hub.evaluation import EvaluateOptions, evaluate
    from anthology_hub.free_answers import agreement, code_answers
    from anthology_hub.generation import Generation, generate
    from anthology_hub.humans import Respondents
    from anthology_hub.interviews import Interview, interview
    from anthology_hub.leaderboard import compact, publish, read_board, read_results
    from anthology_hub.margins import Margins
    from anthology_hub.matching import as_themselves, match, unmatched
    from anthology_hub.models import Sampling, open_model
    from anthology_hub.panels import Panel, attrite, transitions
    from anthology_hub.pools import import_pool
    from anthology_hub.power import plan_power
    from anthology_hub.questionnaires import read_survey
    from anthology_hub.ranking import rank
    from anthology_hub.rectification import rectify
    from anthology_hub.report import write_report
    from anthology_hub.reproduction import reproduce
    from anthology_hub.schema import Codebook, Matching, Persona, Result, Survey
    from anthology_hub.screening import Critic
    from anthology_hub.simulation import SimulateOptions, load_run, plan_simulation, simulate
    from anthology_hub.steering import steer
    from anthology_hub.styles import GenerateOptions
    from anthology_hub.verification import verify
    from anthology_hub.weighting import rake


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
