"""Whole analyses of a network or of a run."""

import compo_mech.data  # noqa: F401  loads torch, which has to be before other modules do
