"""Speed of the head-by-position patching sweep against TransformerLens' stock loop, interleaved."""

import statistics
import time

import torch
from rich.console import Console

from compo_mech.cli.command import Count, NThreads
from compo_mech.cli.errors import one_line_errors
from compo_mech.data.config import DataConfig
from compo_mech.interventions.metrics import cross_entropy
from compo_mech.interventions.pairs import Switch, make_pairs
from compo_mech.interventions.patching import sweep
from compo_mech.launch.settings import check_device
from compo_mech.model.config import ModelConfig
from compo_mech.model.hooked import to_hooked
from compo_mech.model.params import Model, init_params


def patching_bench(n_rounds: Count = 5, n_prompts: Count = 64, n_threads: NThreads = 1, device: str = "cpu") -> None:
    """2 layers × 4 heads × 34 positions, d_model 128, strings of length 16.

    Args:
        n_rounds: times that each is timed.
        n_prompts: pairs.
        n_threads: of the CPU.
        device: as torch names it.
    """
    with one_line_errors():
        check_device(device)
    from transformer_lens import patching  # which takes seconds

    torch.set_num_threads(n_threads)
    console = Console()
    config, data = ModelConfig(n_heads=4, d_model=128), DataConfig(min_length=16, max_length=16)
    generator = torch.Generator().manual_seed(0)
    params = init_params(config, len(data.vocabulary), 35, generator)
    pairs = make_pairs(data, Switch.TOKEN, n_prompts, generator)
    params = {name: param.to(device) for name, param in params.items()}
    pairs = pairs.to(device)
    model = Model(params, config)
    hooked = to_hooked(model)

    def metric(logits: torch.Tensor) -> torch.Tensor:
        scored = logits[pairs.row, pairs.position]
        return cross_entropy(scored, scored, pairs)

    def ours() -> torch.Tensor:
        return sweep(model, pairs, "z", cross_entropy)

    @torch.no_grad()
    def stock() -> torch.Tensor:
        _, cache = hooked.run_with_cache(pairs.corrupt_tokens)
        found = patching.get_act_patch_attn_head_out_by_pos(hooked, pairs.clean_tokens, cache, metric)
        return found.transpose(1, 2)  # [layer, pos, head] -> [layer, head, pos]

    contenders = {"compo_mech": ours, "transformer_lens.patching": stock}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    results = {}
    for round_ in range(n_rounds + 1):
        for name, contender in contenders.items():
            begun = time.perf_counter()
            results[name] = contender().cpu()
            if round_:  # the first warms up
                times[name].append(time.perf_counter() - begun)
    medians = {name: statistics.median(found) for name, found in times.items()}
    for name, seconds in medians.items():
        console.print(f"{name}: {seconds:.2f} s a sweep of {results[name].numel()} patches", highlight=False)
    gap = (results["compo_mech"] - results["transformer_lens.patching"]).abs().max()
    factor = medians["transformer_lens.patching"] / medians["compo_mech"]
    console.print(f"{factor:.1f}× as fast; largest difference of the metric {gap:.1e}", highlight=False)
