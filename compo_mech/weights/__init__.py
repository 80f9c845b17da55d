"""What can be read off the weights alone."""

from compo_mech.weights.qk_ov import (
    QKCircuit,
    qk_circuit,
    OVCircuit,
    ov_circuit,
    BIAS,
    direct_logits,
    direct_logit_attribution,
)
from compo_mech.weights.positions import (
    position_gram,
    position_spectrum,
    effective_dimension,
    fourier_power,
    toeplitz_share,
    explained_share,
    participation_ratio,
)
from compo_mech.weights.subtraction import (
    Subtraction,
    rule_or_table,
    subtraction_neurons,
    subtraction_score,
    pair_queries,
)

__all__ = [
    "QKCircuit",
    "qk_circuit",
    "OVCircuit",
    "ov_circuit",
    "BIAS",
    "direct_logits",
    "direct_logit_attribution",
    "position_gram",
    "position_spectrum",
    "effective_dimension",
    "fourier_power",
    "toeplitz_share",
    "explained_share",
    "participation_ratio",
    "Subtraction",
    "rule_or_table",
    "subtraction_neurons",
    "subtraction_score",
    "pair_queries",
]
