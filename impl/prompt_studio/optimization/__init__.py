"""The knobs of optimization strategies: what there is, and what each may be.

One table (`KNOBS`, `RELATIONS`) says it; validation, documentation and tests read it. A knob is checked when it is
present, before anything is written, and nothing that a caller gives is changed. Needs the extra `web`.
"""

from prompt_studio.optimization.knobs import KNOBS, RELATIONS, STRATEGIES, Knob, Relation, Strategy
from prompt_studio.optimization.validation import KnobError, Problem, validate_strategy_config

__all__ = [
    "KNOBS",
    "RELATIONS",
    "STRATEGIES",
    "Knob",
    "KnobError",
    "Problem",
    "Relation",
    "Strategy",
    "validate_strategy_config",
]
