"""Training on several ranks of MPI: bitwise what one process does, and what happens when something goes wrong.

  distributed.py PROGRAM MPIEXEC [--kills N]

PROGRAM is distributed_program.cpp; MPIEXEC starts its ranks. --kills: so many runs of which a rank is killed at random, and
which are resumed on another number of ranks. Exits with 77 if there is no MPI."""
import argparse
import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

parser = argparse.ArgumentParser()
parser.add_argument("program")
parser.add_argument("mpiexec", nargs="?", default="")
parser.add_argument("--kills", type=int, default=3)
parser.add_argument("--seed", type=int, default=1)
options = parser.parse_args()
if not options.mpiexec or not shutil.which(options.mpiexec):
    print("skipped: mpiexec was not found")
    sys.exit(77)

version = subprocess.run([options.mpiexec, "--version"], capture_output=True, text=True).stdout
is_open_mpi = "Open MPI" in version or "OpenRTE" in version
launch = [options.mpiexec] + (["--oversubscribe", "--bind-to", "none"] if is_open_mpi else [])
# As root, Open MPI wants to be asked twice. Its ranks wait without spinning, as there are more of them than processors.
environment = dict(os.environ, OMP_NUM_THREADS="1", OMP_WAIT_POLICY="passive", OMPI_ALLOW_RUN_AS_ROOT="1",
                   OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMPI_MCA_mpi_yield_when_idle="1", PRTE_ALLOW_RUN_AS_ROOT="1",
                   PRTE_ALLOW_RUN_AS_ROOT_CONFIRM="1")
temporary = tempfile.TemporaryDirectory(prefix="fathom-")  # removed when Python ends, whatever happens
folder = temporary.name
failures = 0


def check(holds, what):
    global failures
    if not holds:
        failures += 1
    print(f"{'ok' if holds else 'FAILED'}: {what}", flush=True)


class run:
    """A run of the program, on `ranks` ranks; 0: alone, without mpiexec."""

    def __init__(self, ranks, kind, name="", at=None, **settings):
        if name:
            settings.setdefault("checkpoint", os.path.join(folder, name + ".safetensors"))
            settings.setdefault("log", os.path.join(folder, name + ".csv"))
        command = (launch + ["-n", str(ranks)] if ranks else []) + [options.program, kind]
        command += [f"{key}={value}" for key, value in settings.items()]
        begin = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
                                   start_new_session=True)
        if at:
            at(process)
        try:
            self.out, self.errors = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.terminate()  # mpiexec ends its ranks, wherever they are; then nothing of it may be left
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            self.out, self.errors = process.communicate()
            self.errors += "\n(did not end)"
        self.code = process.returncode
        self.seconds = time.monotonic() - begin
        lines = [line for line in self.out.splitlines() if line.startswith("steps ")]
        self.result = lines[0] if len(lines) == 1 else f"({len(lines)} results) {self.errors[-2000:]}"

    def messages(self):
        return re.findall(r"fathom: rank .*", self.errors)


def contents(name):
    """The checkpoint, and the log without its times. Without them, something that equals no other run's."""
    try:
        with open(os.path.join(folder, name + ".safetensors"), "rb") as file:
            checkpoint = file.read()
        with open(os.path.join(folder, name + ".csv")) as file:
            return checkpoint, [line.rstrip("\n").split(",")[:6] for line in file]
    except FileNotFoundError as error:
        return name, str(error)


# ---- The same bits ---------------------------------------------------------------------------------------------------

for micro_batches in (8, 5):
    settings = dict(micro_batches=micro_batches, accumulate=2 if micro_batches == 5 else 1, every=3)
    expected = run(0, "alone", "alone", **settings)
    check(expected.code == 0, f"{micro_batches} micro-batches without a group: {expected.result}")
    for ranks in (0, 2, 4):
        found = run(ranks, "mpi", f"on{ranks}", **settings)
        check(found.code == 0 and found.result == expected.result, f"the same result on {ranks or 1} ranks: {found.result}")
        check(contents(f"on{ranks}") == contents("alone"), f"the same checkpoint and log on {ranks or 1} ranks")
    for before, after in ((2, 4), (4, 0)):
        run(before, "mpi", "resumed", stop=4, **settings)
        found = run(after, "mpi", "resumed", resume=1, **settings)
        check(found.result == expected.result and contents("resumed") == contents("alone"),
              f"the same, interrupted on {before} ranks and resumed on {after or 1}")
expected = run(0, "muon_alone", every=3)
found = run(4, "muon", every=3)
check(expected.code == 0 and found.result == expected.result, f"the same with Muon on 4 ranks: {found.result}")
shard = os.path.join(folder, "shard_0.bin")
expected = run(0, "alone", "alone", every=3, write_tokens=shard)
found = run(3, "mpi", "files", every=3, token_files=os.path.join(folder, "shard_*.bin"))
check(expected.code == 0 and found.result == expected.result and contents("files") == contents("alone"),
      f"the same from token files on 3 ranks: {found.result}")
expected = run(0, "alone", every=3, bf16=1)
for ranks in (2, 4):
    found = run(ranks, "mpi", every=3, bf16=1)
    check(expected.code == 0 and found.result == expected.result, f"the same with gradients in bf16 on {ranks} ranks: {found.result}")
many = run(0, "alone", threads=2, every=3)
check(run(2, "mpi", threads=2, every=3).result == many.result, "the same with two threads on each of 2 ranks")

# ---- What goes wrong -------------------------------------------------------------------------------------------------

host = os.uname().nodename


def fails(what, pieces, ranks=3, **settings):
    """Ends all ranks within seconds, with one message that has these pieces."""
    found = run(ranks, "mpi", every=2, name="failed", **settings)
    said = found.messages()
    check(found.code != 0 and found.seconds < 60 and len(said) == 1 and all(piece in found.errors for piece in [host] + pieces),
          f"{what}: {said if len(said) == 1 else found.errors[-3000:]} in {found.seconds:.1f} s")


fails("a loss that is not a number", ["rank 1 of 3", "the loss is", "nan", "at step 6 of 8", "last good checkpoint", "of step 4"], rank=1, nan=5)
fails("an error on a rank", ["rank 2 of 3", "something broke"], rank=2, throw=3)
fails("a rank that ends early", ["rank 1 of 3", "has ended"], rank=1, leave=3)
fails("a rank that hangs", ["rank 2 of 3", "has not answered", "for 2 seconds"], rank=2, hang=3, patience=2)
fails("other options", ["rank 1 of 3", "another run", "steps: expected 8, found 9"], rank=1, more_steps=1)
fails("other data", ["rank 2 of 3", "another run", "data.hash"], rank=2, data_seed=9)
fails("other weights", ["rank 2 of 3", "other initial weights"], rank=2, other_weights=1)
fails("too few micro-batches", ["micro_batches 2 for 3 ranks"], micro_batches=2)
fails("a folder that does not exist", ["cannot be written"], log=os.path.join(folder, "none", "log.csv"))

# Rank 1 has sent its part of the last checkpoint, and ends; that of rank 2 comes late. Both parts are beyond what is sent eagerly.
alone = run(0, "alone", "on_time", validation=0)
late = run(3, "mpi", "late", rank=2, late=4, validation=0)
check(alone.code == 0 and late.code == 0 and late.seconds > 8 and contents("late") == contents("on_time"),
      f"the last checkpoint waits for a late rank while another has ended: {late.result}, in {late.seconds:.1f} s")

# ---- Signals, and ranks that are killed -------------------------------------------------------------------------------

settings = dict(micro_batches=8, steps=12, every=2)
expected = run(0, "alone", "alone", **settings)
found = run(3, "mpi", "term", rank=1, term=5, **settings)
check(found.code == 0 and re.match(r"steps [56] .* signal 15", found.result), f"SIGTERM on a rank ends all: {found.result}")
found = run(2, "mpi", "term", resume=1, **settings)
check(found.result == expected.result and contents("term") == contents("alone"), "resumed after SIGTERM")
found = run(3, "mpi", "late_term", term_after=12, **settings)
check(found.code == 0 and found.result == expected.result.replace("signal 0", "signal 15") and contents("late_term") == contents("alone"),
      f"SIGTERM after the last step is in the result: {found.result}")
found = run(0, "mpi", "later_term", term_at_end=1, **settings)
check(found.code == -signal.SIGTERM and contents("later_term") == contents("alone"), f"SIGTERM after that ends the program: {found.code}")


def terminate(process):
    while not os.path.exists(os.path.join(folder, "all.csv")) and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)


found = run(2, "mpi", "all", at=terminate, slow=150, **settings)
check(found.seconds < 60, f"SIGTERM for mpiexec ends the run, after {found.seconds:.1f} s: {found.result[:200]}")
found = run(2, "mpi", "all", resume=1, **settings)
check(found.result == expected.result and contents("all") == contents("alone"), "resumed after SIGTERM for mpiexec")



def suspend(process):
    """Stops all ranks for longer than they have patience, while rank 0 waits for rank 1."""
    log = os.path.join(folder, "suspended.csv")
    while process.poll() is None and not (os.path.exists(log) and len(open(log).readlines()) > 3):
        time.sleep(0.01)
    time.sleep(0.5)
    ranks = []
    for number in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{number}/cmdline", "rb") as file:
                words = file.read().decode().split("\0")
            if words[0] == options.program and f"log={log}" in words:
                ranks.append(int(number))
    for number in ranks:
        os.kill(number, signal.SIGSTOP)
    time.sleep(5)
    for number in ranks:
        os.kill(number, signal.SIGCONT)


found = run(2, "mpi", "suspended", at=suspend, rank=1, nap=3, patience=4, **settings)
check(found.code == 0 and found.result == expected.result and found.seconds > 5,
      f"ranks that are suspended go on: {found.result[:300]}, in {found.seconds:.1f} s")

random.seed(options.seed)
for n in range(options.kills):
    ranks = random.choice((2, 3, 4))
    rank, step, resumed_on = random.randrange(ranks), random.randrange(1, 12), random.choice((0, 2, 4))
    for ending in (".safetensors", ".csv"):
        if os.path.exists(os.path.join(folder, "killed" + ending)):
            os.remove(os.path.join(folder, "killed" + ending))
    killed = run(ranks, "mpi", "killed", rank=rank, kill=step, **settings)
    found = run(resumed_on, "mpi", "killed", resume=1, **settings)
    check(killed.code != 0 and killed.seconds < 60 and found.result == expected.result and contents("killed") == contents("alone"),
          f"rank {rank} of {ranks} killed after step {step}, in {killed.seconds:.1f} s, and resumed on {resumed_on or 1}: {found.result[:300]}")
    said = (killed.errors + killed.out).lower()
    check(("rank %d" % rank in said or not is_open_mpi) and ("signal 9" in said or "killed" in said), "mpiexec says who was killed, and how")

print(f"{failures} failures")
sys.exit(failures != 0)
