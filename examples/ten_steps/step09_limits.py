"""Step 9: no more memory than 100 MB, from the first instruction on."""

import sys

from pyns import Container, Limits, run

# The article's `stress --vm-bytes 200m --vm-keep`, without stress.
HOG = "print('I take 200 MB', flush=True); memory = bytearray(200 << 20); print('I have them')"

box = Container(limits=Limits(memory_max="100M", memory_swap_max=0, pids_max=10, cpu_max=0.5))
done = run(box, [sys.executable, "-c", HOG], capture_output=True, text=True)
print(done.stdout, end="")
print("status", done.returncode)
if done.usage and done.usage.memory_peak:
    print("OOM kills", done.usage.oom_kills)
    print(f"memory peak {done.usage.memory_peak / 2**20:.0f} MiB")
