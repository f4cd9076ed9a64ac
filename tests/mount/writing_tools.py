"""Programs that know nothing of Zarr and write a hierarchy: each as a generator of stages.

As in tests.mount.writing_clients, but for what they copy: they take a plain directory with a
hierarchy too. What they leave at a stage is a valid hierarchy.
"""

import os
import random
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

Tool = Callable[[Path, Path], Iterator[None]]

LIMIT_S = 60


def run(*command: object, cwd: Path | None = None) -> None:
    """Run a program to its end; what it says is in the failure, and it may say nothing."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), f"{command}: {done.stderr}"


def shell(script: str, directory: Path) -> None:
    """Run *script* with sh in *directory*; the first command that fails ends it."""
    run("sh", "-euc", script, cwd=directory)


def keys_of(directory: Path) -> list[Path]:
    """Return the relative paths of all files below *directory*, sorted."""
    return sorted(p.relative_to(directory) for p in directory.rglob("*") if p.is_file())


def is_metadata(key: Path) -> bool:
    """Whether a file is a zarr.json."""
    return key.name == "zarr.json"


def _copy(keys: Iterable[Path], source: Path, target: Path) -> None:
    for key in keys:
        (target / key).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / key, target / key)


def cp_r(root: Path, source: Path) -> Iterator[None]:
    """``cp -r`` of the whole, again over it, and of a group inside."""
    run("cp", "-r", f"{source}/.", root)
    yield
    run("cp", "-r", *source.iterdir(), root)
    run("cp", "-r", root / "xr", root / "xr-copy")
    yield


def cp_a(root: Path, source: Path) -> Iterator[None]:
    """``cp -a``, which keeps owners, modes, times and attributes."""
    run("cp", "-a", f"{source}/.", root)
    key = next(k for k in keys_of(source) if not is_metadata(k))
    assert (root / key).stat().st_mtime_ns == (source / key).stat().st_mtime_ns
    yield


def tar_x(root: Path, source: Path) -> Iterator[None]:
    """``tar x`` of a stream, then of one with other times over it."""
    shell(f"tar c -C {shlex.quote(str(source))} . | tar x", root)
    yield
    shell(f"tar c -C {shlex.quote(str(source))} --sort=name --mtime=@0 dt | tar x", root)
    yield


def rsync_a(root: Path, source: Path) -> Iterator[None]:
    """``rsync -a``; a run that finds one change; one in place; one that deletes."""
    copy = Path(tempfile.mkdtemp(dir=source.parent))  # to be changed
    run("cp", "-r", f"{source}/.", copy)
    run("rsync", "-a", f"{copy}/", root)
    yield
    metadata = copy / "xr" / "zarr.json"
    metadata.write_text(metadata.read_text().replace("made for a test", "changed for a test"))
    run("rsync", "-a", "--checksum", f"{copy}/", root)
    assert "changed for a test" in (root / "xr/zarr.json").read_text()
    yield
    metadata.write_text(metadata.read_text().replace("changed for a test", "in place"))
    shutil.copyfile(copy / "dt/i4/c/0/0", copy / "dt/i4/c/1/1")
    run("rsync", "-a", "--inplace", "--checksum", f"{copy}/", root)
    yield
    shutil.rmtree(copy / "codec")
    run("rsync", "-a", "--delete", f"{copy}/", root)
    assert not (root / "codec").exists()
    yield


def any_order(root: Path, source: Path) -> Iterator[None]:
    """Files copied in no order at all; other ones every chunk before any ``zarr.json``."""
    keys = keys_of(source)
    shuffled = random.Random(3).sample(keys, len(keys))
    _copy(shuffled, source, root / "shuffled")
    yield
    _copy(sorted(shuffled, key=is_metadata), source, root / "chunks-first")
    deepest_first = sorted(keys, key=lambda key: (is_metadata(key), -len(key.parts)))
    _copy(deepest_first, source, root / "from-below")
    yield


def written_oddly(root: Path, source: Path) -> Iterator[None]:
    """Files written byte by byte, appended to, from the end, cut, and through open files."""
    _copy([key for key in keys_of(source) if key.parts[0] in {"zarr.json", "dt"}], source, root)
    key = "dt/f8/c/0/0"
    data = (source / key).read_bytes()
    with (root / key).open("wb", buffering=0) as file:
        for n in range(len(data)):
            file.write(data[n : n + 1])
    shell(f"head -c 3 {key} > part; tail -c +4 {key} >> part; mv part {key}", root)
    key = "dt/i8/c/0/0"
    data = (source / key).read_bytes()
    with (root / key).open("r+b", buffering=0) as file:
        file.truncate(2 * len(data))
        os.pwrite(file.fileno(), data[4:], 4)
        os.pwrite(file.fileno(), data[:4], 0)
        file.truncate(len(data))
    run("install", "-m", "600", source / "dt/u8/c/0/0", root / "dt/u8/c/0/0")
    run("dd", f"if={source}/dt/u4/c/0/0", f"of={root}/dt/u4/c/0/0", "bs=7", "status=none")
    yield


def hard_links(root: Path, source: Path) -> Iterator[None]:
    """Hard links of files that are new and of committed ones; then one of two names goes."""
    run("cp", "-r", f"{source}/.", root)
    run("cp", "-r", "--link", root / "dt", root / "linked")
    yield
    run("cp", "-r", "--link", root / "codec", root / "linked-later")
    run("rm", "-r", root / "dt")
    run("ln", "-f", root / "linked/i4/c/0/0", root / "linked/u4/c/2/2")
    yield


def edited(root: Path, source: Path) -> Iterator[None]:
    """Attributes changed with jq and mv, sed -i, vim, and a shell's append."""
    run("cp", "-r", f"{source}/.", root)
    yield
    jq = "jq '.attributes.by = \"jq\"' {0}/zarr.json > {0}/tmp && mv {0}/tmp {0}/zarr.json"
    shell(f"{jq.format('.')}; {jq.format('dt')}; {jq.format('dt/i4')}", root)
    yield
    run("sed", "-i", 's/"by": "jq"/"by": "sed"/', root / "zarr.json", root / "dt/zarr.json")
    assert '"sed"' in (root / "dt/zarr.json").read_text()
    yield
    vim = ["vim", "-es", "-u", "NONE", "-i", "NONE"]
    change = ["-c", '%s/"by": "sed"/"by": "vim"/', "-c", "wq"]
    run(*vim, *change, root / "zarr.json")
    # with backups it renames the file away and writes a new one, and probes the directory
    keeping = ["--cmd", "set nocompatible backup writebackup backupcopy=no backupskip="]
    run(*vim, *keeping, *change, root / "dt/zarr.json")
    assert '"vim"' in (root / "dt/zarr.json").read_text()
    (root / "dt/zarr.json~").unlink()
    yield
    shell("printf '\\n\\n' >> dt/zarr.json", root)
    yield


def moved(root: Path, source: Path) -> Iterator[None]:
    """Groups and arrays moved: what is committed and what is not, into others, and in a ring."""
    run("cp", "-r", f"{source}/.", root)
    run("mv", root / "dt", root / "types")
    run("mv", root / "types/i4", root / "types/int")
    yield
    run("mv", root / "types", root / "shape/types")
    run("mv", root / "shape/types/int", root / "int")
    shell("mv codec ring; mv shard codec; mv ring shard", root)
    yield
    run("cp", source / "dt/i4/c/0/0", root / "int/c/1/1")  # changed, then moved
    shell("mv int 'an int'; mkdir -p new; mv 'an int' shape/types new; mv shape new/shape", root)
    shell(
        """printf '{"zarr_format":3,"node_type":"group","attributes":{}}' > new/zarr.json""", root
    )
    yield
    shell("rm -r c/2; mv c/0 c/2; mv c/1/0 c/1/2", root / "new/types/f4")  # chunks are files
    yield


def removed(root: Path, source: Path) -> Iterator[None]:
    """``rm -r`` of groups, arrays, chunks, of all there is, and what comes after."""
    run("cp", "-r", f"{source}/.", root)
    run("rm", "-r", root / "codec")
    yield
    run("rm", "-r", root / "dt", root / "shape/line", root / "tree/fine")
    run("rm", "-r", root / "shape/cube/c/1")
    run("cp", "-r", source / "codec", root / "dt")
    yield
    shell("rm -r *", root)
    run("cp", source / "zarr.json", root)
    yield
    run("cp", "-r", source / "shard", root)
    yield


TOOLS: dict[str, Tool] = {
    function.__name__: function
    for function in (
        *(cp_r, cp_a, tar_x, rsync_a, any_order),
        *(written_oddly, hard_links, edited, moved, removed),
    )
}
