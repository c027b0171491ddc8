"""What ptxas said of every kernel: registers, spills, stack and shared memory, as a table. Called by runner.py with the build
folder; also by hand: cuda_resources.py BUILD. A spill or a stack frame (local arrays) is a mistake unless listed here."""
import pathlib, re, subprocess, sys

# kernel name (part of the demangled one) -> why its spills or local arrays are accepted
ALLOWED = {}
ARCHITECTURES = {"sm_80", "sm_90a", "sm_100"}        # each kernel is compiled for all of them


def kernels(folder):
    """(source, architecture, kernel, registers, stack, spilled bytes, static shared bytes) of all objects."""
    found = []
    for log in sorted(folder.glob("kernels/cuda/*.o.ptxas.txt")):
        kernel, arch, stack, spills = "", "", 0, 0
        for line in log.read_text(errors="replace").splitlines():
            if m := re.search(r"Compiling entry function '([^']+)' for '([^']+)'", line):
                kernel, arch = m.groups()
            elif m := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
                stack, spills = int(m[1]), int(m[2]) + int(m[3])
            elif (m := re.search(r"Used (\d+) registers", line)) and kernel:
                shared = re.search(r"(\d+) bytes smem", line)
                found.append((log.name.split(".")[0], arch, kernel, int(m[1]), stack, spills, int(shared[1]) if shared else 0))
                kernel = ""
    return found


def short(names):
    done = subprocess.run(["c++filt", "-p"], input="\n".join(names), stdout=subprocess.PIPE, text=True)
    return [n.split("::")[-1] if "<" not in n else n[n.rfind("::", 0, n.index("<")) + 2:] for n in done.stdout.splitlines()]


def check(folder):
    """Prints the table; the list of what is wrong."""
    found, wrong = kernels(folder), []
    if not found:
        print("cuda: no nvcc here, kernels were not compiled for devices (the emulator ran them)")
        return wrong
    for source, kernel in {(f[0], f[2]) for f in found}:
        if missing := ARCHITECTURES - {f[1] for f in found if (f[0], f[2]) == (source, kernel)}:
            wrong.append(f"cuda/{source}: {short([kernel])[0]} was not compiled for {', '.join(sorted(missing))}")
    print(f"{'source':16} {'kernel':64} {'architecture':>12} {'registers':>9} {'stack':>6} {'spilled':>7} {'shared':>6}")
    for (source, arch, _, registers, stack, spills, shared), name in zip(found, short([f[2] for f in found])):
        name = name.replace("tokenworks::kernels::cuda::native::", "")
        print(f"{source:16} {name[:64]:64} {arch:>12} {registers:9} {stack:6} {spills:7} {shared:6}")
        if (stack or spills) and not any(part in name for part in ALLOWED):
            wrong.append(f"cuda/{source}: {name} for {arch} has {stack} bytes of stack and spills {spills}")
    return wrong


if __name__ == "__main__":
    sys.exit(1 if check(pathlib.Path(sys.argv[1])) else 0)
