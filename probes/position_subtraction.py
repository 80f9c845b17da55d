"""Does MLP 0 subtract positions, so that t = (row's position i) - ([EoI]'s position j) + 1 is known to layer 1?

python probes/position_subtraction.py runs/parity-seed0
python probes/position_subtraction.py runs/parity-seed0 --step 600
python probes/position_subtraction.py runs/parity-seed0 --all-steps

Writes tables into RUN/analysis/ and adds a section with a verdict to RUN/report.html. Rows with
t = 1 are left out, since their own token, [EoI], gives t away.
"""

from compo_mech.cli.command import call
from compo_mech.cli.commands import subtraction_command

if __name__ == "__main__":
    call(subtraction_command, description=__doc__)
