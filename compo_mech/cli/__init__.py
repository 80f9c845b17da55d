"""Commands: what is typed, what is told, and errors in one line."""

import compo_mech.data  # noqa: F401  loads torch, which has to be before other modules do
