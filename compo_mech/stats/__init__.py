"""Intervals, the onset and the trend of curves over training, and summaries over seeds."""

from compo_mech.stats.intervals import Interval, wilson
from compo_mech.stats.onset import emergence, Emergence, Course, Moment, CENSORED, reached
from compo_mech.stats.trend import still_rising, Rise, rising_over_seeds, RiseOverSeeds
from compo_mech.stats.over_seeds import over_seeds, SeedSummary, survival, Survival, lag, Lag

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
]
