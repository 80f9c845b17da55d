"""Studies: a question, its arms, its measures and how they are summarised."""

import compo_mech.data  # noqa: F401  loads torch, which has to be before other modules do
