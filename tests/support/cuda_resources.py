"""What ptxas said of every kernel: registers, spills and stack, as a table, with the most shared memory that a launch gave it in the
tests on the emulator (all of it is given at launches, ptxas knows none). Called by runner.py with the build folder; also by hand:
cuda_resources.py BUILD. A spill or a stack frame (local arrays) is a mistake unless listed here; so are a source without a
kernel in the table where there is an nvcc, and a kernel that no test launches."""
import pathlib, re, subprocess, sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

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


def bare(name):
    """The same in both builds."""
    return re.sub(r"tokenworks::kernels::cuda::(native|emulated)::", "", name)


def launched(folder):
    """Bytes of shared memory by kernel, from the last run of all tests of this build's test_emulator; empty when there was none."""
    program = folder / "tests/test_emulator"
    written = pathlib.Path(f"{program}.launched")
    if not written.exists() or written.stat().st_mtime < program.stat().st_mtime:
        return {}
    done = subprocess.run(["nm", str(program)], stdout=subprocess.PIPE, text=True, check=True)
    names = {int(line.split()[0], 16): line.split()[2] for line in done.stdout.splitlines() if len(line.split()) == 3}
    lines = [line.split() for line in written.read_text().splitlines()]
    return {bare(name): int(size) for name, (_, size) in zip(short([names[int(at, 16)] for at, _ in lines]), lines)}


def has_compiler(folder):
    cache = folder / "CMakeCache.txt"
    return cache.exists() and re.search(r"^TOKENWORKS_NVCC:FILEPATH=/", cache.read_text(), re.MULTILINE) is not None \
        and "TOKENWORKS_CUDA:STRING=OFF" not in cache.read_text()


def check(folder):
    """Prints the table; the list of what is wrong."""
    found, wrong = kernels(folder), []
    if not found and not has_compiler(folder):
        print("cuda: no nvcc here, kernels were not compiled for devices (the emulator ran them)")
        return wrong
    for source in sorted(ROOT.glob("kernels/cuda/*.cu")):
        if source.name != "table.cu" and source.stem not in {f[0] for f in found}:
            wrong.append(f"cuda/{source.stem}: nvcc is here, but no kernel of it is in the table")
    for source, kernel in {(f[0], f[2]) for f in found}:
        if missing := ARCHITECTURES - {f[1] for f in found if (f[0], f[2]) == (source, kernel)}:
            wrong.append(f"cuda/{source}: {short([kernel])[0]} was not compiled for {', '.join(sorted(missing))}")
    print(f"{'source':16} {'kernel':64} {'architecture':>12} {'registers':>9} {'stack':>6} {'spilled':>7} {'shared':>6}")
    given = launched(folder)
    if not given:
        print("shared: of the kernel itself only; what launches give is known after a run of all the emulator's tests")
    for (source, arch, _, registers, stack, spills, shared), name in zip(found, short([f[2] for f in found])):
        if given and bare(name) not in given:
            wrong.append(f"cuda/{source}: no test launches {name} on the emulator")
        shared += given.get(bare(name), 0)
        name = name.replace("tokenworks::kernels::cuda::native::", "")
        print(f"{source:16} {name[:64]:64} {arch:>12} {registers:9} {stack:6} {spills:7} {shared:6}")
        if (stack or spills) and not any(part in name for part in ALLOWED):
            wrong.append(f"cuda/{source}: {name} for {arch} has {stack} bytes of stack and spills {spills}")
    return wrong


if __name__ == "__main__":
    mistakes = check(pathlib.Path(sys.argv[1]))
    sys.exit("\n".join(mistakes) or 0)
