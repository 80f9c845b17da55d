"""Intervals, the onset and the trend of curves over training, and summaries over seeds."""

from compo_mech.stats.intervals import Interval, wilson
from compo_mech.stats.onset import emergence, Emergence, Course, Moment, CENSORED, reached
from compo_mech.stats.trend import still_rising, Rise, rising_over_seeds, RiseOverSeeds
from compo_mech.stats.over_seeds import over_seeds, SeedSummary, survival, Survival, lag, Lag
from compo_mech.stats.log_rank import log_rank, LogRank
from compo_mech.stats.verdicts import compare_arms, Comparison, ArmVerdict, holm
from compo_mech.stats.seeds_needed import seeds_to_decide
from compo_mech.stats.optimum import optimum, Optimum

__all__ = [
    "Interval",
    "wilson",
    "emergence",
    "Emergence",
    "Course",
    "Moment",
    "CENSORED",
    "reached",
    "still_rising",
    "Rise",
    "rising_over_seeds",
    "RiseOverSeeds",
    "over_seeds",
    "SeedSummary",
    "survival",
    "Survival",
    "lag",
    "Lag",
    "log_rank",
    "LogRank",
    "compare_arms",
    "Comparison",
    "ArmVerdict",
    "holm",
    "seeds_to_decide",
    "optimum",
    "Optimum",
]
