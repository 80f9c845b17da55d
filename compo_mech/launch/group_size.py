"""How many runs are trained at once: timing chooses, and the choice is kept.

At once, numbers are rounded otherwise than one by one: chosen anew, a sweep that is killed and repeated had other bits.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from compo_mech.launch.group_timing import best_group
from compo_mech.launch.machine import n_that_fit
from compo_mech.launch.settings import Launch
from compo_mech.runs.files import read_plain, write_whole


def group_size(group: Sequence[Launch]) -> int:
    """Return how many of these runs, which differ in their seed alone, are trained at once, as before if ever before.

    Args:
        group: all of them, those that are done included.
    """
    if len(group) == 1:
        return 1
    file = _kept_in(group[0])
    try:
        kept = json.loads(read_plain(file))["n_at_once"]
        if isinstance(kept, int) and kept > 0:
            return kept
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # no choice yet, or none that can be read
        pass
    try:
        config, device = group[0].config, group[0].device
        n = best_group(config, min(len(group), n_that_fit(config, device)), device)
    except RuntimeError:  # too much for the device, say; what is wrong with one alone is recorded when it is trained
        n = 1
    try:
        file.parent.mkdir(exist_ok=True)
        write_whole(file, json.dumps({"n_at_once": n}))
    except OSError:  # the runs' own folders cannot be written either, and that is told
        pass
    return n


def _kept_in(settings: Launch) -> Path:
    """The file beside the runs, named by all settings but the seed, and by the device."""
    asked = settings.config.model_copy(update={"seed": 0}).model_dump_json() + settings.device
    return settings.runs_dir / ".groups" / f"{hashlib.sha256(asked.encode()).hexdigest()[:16]}.json"
