"""The CPU as a device, and what control groups leave of the RAM."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from roles.pool.gpu_inventory.cpu import Cpu, Memory, limited, limits, quotas, usable_cores

GIB = 2**30


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


VERSION_2 = {
    "proc/self/cgroup": "0::/a/b\n",
    "sys/fs/cgroup/a/memory.max": f"{8 * GIB}\n",
    "sys/fs/cgroup/a/memory.current": f"{3 * GIB}\n",
    "sys/fs/cgroup/a/memory.stat": f"anon {GIB}\ninactive_file {GIB}\n",
    "sys/fs/cgroup/a/b/memory.max": "max\n",
    "sys/fs/cgroup/a/b/memory.current": f"{GIB}\n",
}
VERSION_1 = {
    "proc/self/cgroup": "5:memory:/docker/x\n4:cpu:/docker/x\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{4 * GIB}\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB}\n",
    "sys/fs/cgroup/memory/memory.stat": f"inactive_file 0\ntotal_inactive_file {GIB // 2}\n",
}


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (VERSION_2, [Memory(8 * GIB, 6 * GIB)]),
        (VERSION_1, [Memory(4 * GIB, 7 * GIB // 2)]),
        ({}, []),
        ({"proc/self/cgroup": "garbage\n0::/../../etc\n"}, []),
    ],
)
def test_limits_of_every_group_above_count(tmp_path: Path, files: dict[str, str], found: list[Memory]) -> None:
    assert limits(write(tmp_path, files)) == found


@pytest.mark.parametrize(
    ("groups", "left"),
    [
        ([], Memory(100, 60)),
        ([Memory(50, 40)], Memory(50, 40)),
        ([Memory(1000, 900)], Memory(100, 60)),
        ([Memory(80, 70), Memory(50, 10)], Memory(50, 10)),
        ([Memory(30, 30)], Memory(30, 30)),
    ],
)
def test_the_least_of_all_memory_holds(groups: list[Memory], left: Memory) -> None:
    assert limited(Memory(100, 60), groups) == left


def test_the_cpu_is_measured_and_keeps_its_name(tmp_path: Path) -> None:
    root = write(tmp_path, {"proc/cpuinfo": "model name\t: Some CPU\n", "etc/machine-id": "abc\n"})

    first, again = Cpu(root).read(), Cpu(root).read()

    assert (first.id, first.backend, first.name) == ("cpu", "cpu", "Some CPU")
    assert first.uuid == again.uuid
    assert "abc" not in first.uuid
    assert 0 < first.memory_total_bytes <= psutil.virtual_memory().total
    assert first.memory_total_bytes == first.memory_used_bytes + first.memory_free_bytes


def test_utilisation_is_told_once_it_was_measured() -> None:
    cpu = Cpu()
    cpu.read()

    assert isinstance(cpu.read().utilization_percent, float)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "250000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "max 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "50000 100000\n"}, 1),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/docker/x\n",
                "sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu/docker/x/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu:/x\n",
                "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000\n",
            },
            8,
        ),
        ({}, 8),
    ],
)
def test_a_share_of_the_time_is_as_good_as_fewer_cores(tmp_path: Path, files: dict[str, str], cores: int) -> None:
    assert usable_cores(8, quotas(write(tmp_path, files))) == cores
