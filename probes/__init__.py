"""Probes of trained networks. They use compo_mech, never the reverse."""
