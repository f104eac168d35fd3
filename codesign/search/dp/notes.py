"""What a reader must know of the surrogate to believe the result, one sentence each."""

from __future__ import annotations

from codesign.search.dp.agreement import ENOUGH, WEAK, Agreement
from codesign.search.dp.fit import MISFITS, surrogate_of
from codesign.search.dp.problem import Problem
from codesign.search.knowledge import Knowledge
from codesign.search.trial import Origin


def notes_on_surrogate(problem: Problem, knowledge: Knowledge, agreement: Agreement) -> list[str]:
    """Interactions, losses that amplify each other, what stays unexplained, and whether the ranking can be believed."""
    notes = []
    model = surrogate_of(problem.prior, knowledge) if len(knowledge.known) > 2 else None
    if model is not None and model.pairs:
        notes.append("decisions interact: pairs of them explain the measured errors better than their sum alone")
    if model is not None and model.link.bend > 0:
        notes.append("losses amplify each other: the measured errors grow faster than the sum of single losses")
    if model is not None and model.misfit > min(MISFITS):
        notes.append(
            f"decisions interact in ways that the model does not know: {100 * model.misfit:.0f} % of a design's loss is left "
            "unexplained"
        )
    explored = sum(t.proposal.origin is Origin.EXPLORE for t in knowledge.trials)
    if explored:
        notes.append(
            f"nsga2 proposed {explored} designs while the model ranked its own badly (rank correlation of its last ones "
            f"{agreement.rank_correlation:.2f}, {agreement.attainable:.2f} attainable under the noise)"
        )
    if agreement.designs >= ENOUGH and agreement.attainable < WEAK and not agreement.weak:
        notes.append(
            f"the noise of one training hides how the proposed designs rank (attainable rank correlation "
            f"{agreement.attainable:.2f}): more seeds or longer trainings are needed to tell them apart"
        )
    return notes
