"""Watch the circuit being born: every measure over a run's checkpoints, and when each component came about.

python experiments/watch.py runs/parity-seed0

Writes tables into RUN/analysis/ and adds a section to RUN/report.html. Measurements are cached.
"""

from compo_mech.cli.command import call
from compo_mech.cli.commands import watch_command

if __name__ == "__main__":
    call(watch_command, description=__doc__)
