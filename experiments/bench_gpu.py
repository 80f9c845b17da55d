"""What a device does: the same as the CPU, how fast from one network to thousands, and many seeds to their end.

python experiments/bench_gpu.py --out gpu.csv                           under 6 minutes on one GPU
python experiments/bench_gpu.py --device cpu --sizes 1 4 --n-seeds 2    anywhere
"""

from compo_mech.cli.command import call
from compo_mech.reference.gpu_bench import gpu_bench

if __name__ == "__main__":
    call(gpu_bench, description=__doc__)
