"""Does MLP 1 update the state, s_t = F(s_{t-1}, x_t)? And which of its neurons make the non-additive part?

python probes/state_update.py runs/parity-seed0
python probes/state_update.py runs/parity-seed0 --step 600
python probes/state_update.py runs/parity-seed0 --all-steps

Writes tables into RUN/analysis/ and adds a section with a verdict to RUN/report.html. With fewer than 12
pairs (s, x), as for parity, one pair is left out in turn and each is reported.
"""

from compo_mech.cli.command import call
from compo_mech.cli.commands import update_command

if __name__ == "__main__":
    call(update_command, description=__doc__)
