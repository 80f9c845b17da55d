"""What of a study's table is asked for, as the command line spells it."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from compo_mech.studies.measures import MEASURES, Measure
from compo_mech.studies.scores import LABELS
from compo_mech.studies.table import score_rows

if TYPE_CHECKING:
    import pandas as pd


class Asked(NamedTuple):
    """A measure of the networks, or what the labels single out of it.

    >>> asked = Asked.read("IIA, variable=t, site=query")
    >>> asked.measure.name, asked.labels, asked.title
    ('IIA', {'variable': 't', 'site': 'query'}, 'IIA (t, query)')
    """

    measure: Measure
    labels: Mapping[str, str]

    @classmethod
    def read(cls, text: str) -> "Asked":
        """Read `MEASURE`, or `MEASURE, LABEL=VALUE, ...`.

        Raises:
            ValueError: it is spelled otherwise.
        """
        name, *labels = text.split(", ")
        pairs = [label.partition("=") for label in labels]
        for label, _, value in pairs:
            if label not in LABELS[1:] or not value:
                raise ValueError(
                    f"measures = {text}: must be MEASURE, or MEASURE, LABEL=VALUE with {', '.join(LABELS[1:])}"
                )
        known = MEASURES.get(name, Measure(name, "", bounds=(-math.inf, math.inf)))
        return cls(known, {column: value for column, _, value in pairs})

    @property
    def title(self) -> str:
        """The measure and its labels' values."""
        name = self.measure.title
        return f"{name} ({', '.join(self.labels.values())})" if self.labels else name

    def rows(self, table: "pd.DataFrame") -> "pd.DataFrame":
        """Return the rows of a study's table that have it, of both networks."""
        return score_rows(table, self.measure.name, self.labels)


def read_all(table: "pd.DataFrame", texts: Sequence[str]) -> list[Asked]:
    """Read what is asked for of a table.

    Raises:
        ValueError: one is spelled otherwise, or the table has none of it.
    """
    asked = [Asked.read(text) for text in texts]
    for text, one in zip(texts, asked, strict=True):
        if not len(one.rows(table)):
            raise ValueError(f"measures = {text}: must be of {'; '.join(spellings(table))}")
    return asked


def spellings(table: "pd.DataFrame") -> list[str]:
    """Return everything that can be asked for of a table, as the command line spells it."""
    columns = ["measure", *(label for label in LABELS if label in table and label != "network")]
    found = table.loc[table["measure"].notna(), columns].drop_duplicates().to_dict("records")
    return [
        ", ".join([str(row.pop("measure")), *(f"{label}={value}" for label, value in row.items() if value == value)])
        for row in found
    ]
