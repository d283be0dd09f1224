"""A cluster in numbers: what `foundrank plan` and the checks before a launch reckon with."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from ...data.config.yaml_reader import read_yaml
from ...data.errors import UserError, nearest
from ...data.settings_base import Positive, Strict
from ..sharding.planner import Ranks

Device = Literal["cpu", "a100-80", "h100", "h200"]


class Cluster(Strict):
    """Ranks, hosts and what they have. What is not given is the preset's of its device."""

    device: Device = Field(default="cpu", description="what a rank computes on; one GPU per rank")
    world_size: Positive = Field(default=1, description="R, ranks in all")
    ranks_per_host: Positive | None = Field(default=None, description="ranks on one host")
    device_memory_gib: float | None = Field(default=None, gt=0, description="memory of a GPU")
    host_memory_gib: float | None = Field(default=None, gt=0, description="memory of a host, for all its ranks")
    memory_gb_s: float | None = Field(
        default=None, gt=0, description="bandwidth of the memory that holds tables, per rank"
    )
    inside_gb_s: float | None = Field(default=None, gt=0, description="from rank to rank on one host, per rank")
    between_gb_s: float | None = Field(default=None, gt=0, description="from host to host, per rank")
    tflops: float | None = Field(
        default=None, gt=0, description="matrix products, per rank, in the training's precision"
    )

    def get(self, name: str) -> float:
        """A number: as given, or of the preset."""
        given = getattr(self, name)
        if given is None and name == "ranks_per_host" and self.device == "cpu":
            return min(self.world_size, _PRESETS["cpu"][name])
        return _PRESETS[self.device].get(name, 0.0) if given is None else given

    @property
    def ranks(self) -> Ranks:
        """The same as the planner wants it."""
        per_host = min(int(self.get("ranks_per_host")), self.world_size)
        on_cpu = self.device == "cpu"
        bandwidths = {
            "ddr_mem_bw" if on_cpu else "hbm_mem_bw": self.get("memory_gb_s") * 1e6,
            "intra_host_bw": self.get("inside_gb_s") * 1e6,
            "inter_host_bw": self.get("between_gb_s") * 1e6,
        }
        return Ranks(
            "cpu" if on_cpu else "cuda",
            self.world_size,
            per_host,
            int(self.get("host_memory_gib") * 2**30 / per_host),
            None if on_cpu else int(self.get("device_memory_gib") * 2**30),
            bandwidths,
        )


# Data sheets of the devices (dense bf16 rates), one NVLink or network direction, 8 GPUs and 8 network cards to a host; a CPU host
# is a small server whose ranks have 8 cores each. Half of a data sheet's product rate is what training sees, so that is what counts.
_PRESETS: dict[str, dict[str, float]] = {
    "cpu": {
        "ranks_per_host": 2, "host_memory_gib": 64, "memory_gb_s": 40, "inside_gb_s": 5, "between_gb_s": 1.5, "tflops": 0.4,
    },
    "a100-80": {
        "ranks_per_host": 8, "device_memory_gib": 79, "host_memory_gib": 1024, "memory_gb_s": 2039,
        "inside_gb_s": 300, "between_gb_s": 25, "tflops": 156,
    },
    "h100": {
        "ranks_per_host": 8, "device_memory_gib": 79, "host_memory_gib": 2048, "memory_gb_s": 3350,
        "inside_gb_s": 450, "between_gb_s": 50, "tflops": 495,
    },
    "h200": {
        "ranks_per_host": 8, "device_memory_gib": 139, "host_memory_gib": 2048, "memory_gb_s": 4800,
        "inside_gb_s": 450, "between_gb_s": 50, "tflops": 495,
    },
}  # fmt: skip


def read_cluster(described: str | None, **given: Any) -> Cluster:
    """A cluster from what a command line says of it.

    Args:
        described: a YAML file with `Cluster`'s fields, or ``key=value,key=value``; None: nothing.
        given: fields that come before those of ``described``, where not None.

    Raises:
        UserError: no such file, an unknown field, or a value that cannot be.
    """
    where = f"--cluster {described}"
    raw: dict[str, Any] = {}
    if described is not None and "=" in described:
        for part in described.split(","):
            key, _, value = part.partition("=")
            raw[key.strip()] = read_yaml(value, where, "Write fields such as device=h100,world_size=64.")
    elif described is not None:
        if not Path(described).is_file():
            raise UserError(where, "no such file", "Give a YAML file, or fields such as device=h100,world_size=64.")
        raw = read_yaml(Path(described).read_bytes(), where, "Correct the file at that line.")
        if not isinstance(raw, dict):
            raise UserError(where, "holds no mapping", "Write fields such as `device: h100`, one a line.")
    raw |= {key: value for key, value in given.items() if value is not None}
    try:
        return Cluster.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            raise UserError(where, f"unknown field '{field}'", nearest(field, Cluster.model_fields)) from error
        raise UserError(
            f"{where}: {field}",
            f"{first['msg']} (got {first['input']!r})",
            str(Cluster.model_fields[field].description),
        ) from error
