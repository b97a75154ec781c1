"""The connection to a Ray cluster, without Ray's dashboard, statistics and messages."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import stat
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from feature_cache.errors import InvalidChoice, LayertapError, MissingDependency, StorageFailure, Unreachable, one_line
from feature_cache.process.worker_processes import Link

AUTO = "auto"  # $RAY_ADDRESS, or the cluster that runs on this machine, or else a new one on it
ADDRESS_SECONDS = 10.0  # for an answer at an address
CONNECT_SECONDS = 90.0  # for all that connecting takes, or starting Ray on this machine
LOOK_SECONDS, GONE_SECONDS = 3.0, 15.0  # how often it is looked whether the head is there, and how long it may not be
# In milliseconds, where the environment does not say otherwise: Ray takes up to half a minute to know that a machine is
# lost. By then all retries of a task would be used up, if the pauses between them were short; each is twice the last.
PAUSES = {
    "RAY_task_actor_unavailable_retry_delay_base_ms": "4000",
    "RAY_task_actor_unavailable_retry_max_delay_ms": "20000",
}
GO_ON = "What was computed is kept; run the same command again to go on."


def require_ray(address: str) -> None:
    """Raise an error where Ray is not installed, or `address` is none.

    Parameters
    ----------
    address : str
        ``HOST:PORT`` of the head of a cluster, or ``auto``.

    Examples
    --------
    >>> require_ray("127.0.0.1")
    Traceback (most recent call last):
        ...
    feature_cache.errors.InvalidChoice: `ray='127.0.0.1'` is no address of a Ray cluster; give HOST:PORT of its head, \
or 'auto' for the cluster that runs on this machine, or a new one.
    """
    if address != AUTO and _host_and_port(address) is None:
        raise InvalidChoice(
            f"`ray={address[:60]!r}` is no address of a Ray cluster; give HOST:PORT of its head, or {AUTO!r} for the "
            "cluster that runs on this machine, or a new one."
        )
    if find_spec("ray") is None:
        raise MissingDependency("`ray` needs the package ray: pip install 'layertap[ray]'")


def _host_and_port(address: str) -> tuple[str, int] | None:
    match = re.fullmatch(r"(\[[0-9a-fA-F:.%]+\]|[\w.-]+):(\d{1,5})", address, re.ASCII)
    return (match[1].strip("[]"), int(match[2])) if match and 0 < int(match[2]) < 2**16 else None


@contextlib.contextmanager
def connected(address: str, link: Link) -> Iterator[Any]:
    """The module ``ray``, once this process is connected to a cluster.

    Ray may wait without end, or end the process, where the head of the cluster is gone: then `link` gives up first.

    Raises
    ------
    Unreachable
        When there is no cluster, or this machine is not in it.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.update({name: value for name, value in PAUSES.items() if name not in os.environ})
    import ray  # optional

    found = _running() if address == AUTO else address
    if found is not None and (reason := _unreachable(found)):
        raise Unreachable(f"`ray`: there is no Ray cluster at {found}: {reason}.")
    where = "on this machine" if found is None else f"at {found}"
    late = Unreachable(f"`ray`: the Ray cluster {where} did not answer within {CONNECT_SECONDS:.0f} seconds.")
    timer = threading.Timer(CONNECT_SECONDS, link.give_up, [late])
    timer.daemon = True
    timer.start()
    options = {"include_dashboard": False} if found is None else {}
    try:
        ray.init(found or "local", log_to_driver=False, logging_level=logging.CRITICAL, **options)
    except Exception as error:  # of many kinds
        raise Unreachable(
            f"`ray`: the Ray cluster {where} cannot be used from this machine, which has to be one of its own: "
            f"{one_line(error)}"
        ) from error
    finally:
        timer.cancel()
    _watch(ray.get_runtime_context().gcs_address, link)
    try:
        yield ray
    finally:
        ray.shutdown()


def _running() -> str | None:
    """The address of the cluster that runs on this machine, or that the environment names; None where there is none.

    Raises
    ------
    InvalidChoice
        When the environment names something else, such as the address of a dashboard.
    """
    named = os.environ.get("RAY_ADDRESS", "")
    if named not in ("", AUTO):
        if named != "local" and _host_and_port(named) is None:
            raise InvalidChoice(
                f"$RAY_ADDRESS is {named[:60]!r}, which is no address of a Ray cluster; let it be HOST:PORT of its "
                f"head, or {AUTO!r}."
            )
        return None if named == "local" else named
    file = Path(os.environ.get("RAY_TMPDIR") or "/tmp") / "ray" / "ray_current_cluster"
    with contextlib.suppress(OSError, ValueError):
        # Anyone may write into /tmp: a cluster that someone else has started is used where the user names it.
        found = file.lstat()
        if stat.S_ISREG(found.st_mode) and found.st_uid in (0, os.getuid()) and found.st_size < 300:
            address = file.read_text(encoding="ascii").strip()
            return address if not _unreachable(address) else None  # the last one may have been stopped
    return None


def _unreachable(address: str) -> str:
    """Why nothing answers at an address; empty where something does."""
    place = _host_and_port(address)
    if place is None:
        return "it is not of the form HOST:PORT"
    try:
        socket.create_connection(place, ADDRESS_SECONDS).close()
    except (OSError, UnicodeError) as error:
        return getattr(error, "strerror", None) or one_line(error)
    return ""


def _watch(address: str, link: Link) -> None:
    """Give up when nothing has answered at the head of the cluster for some time."""
    gone: LayertapError = StorageFailure(f"`ray`: the head of the Ray cluster at {address} is gone. {GO_ON}")

    def look() -> None:
        last = time.monotonic()
        while time.monotonic() - last < GONE_SECONDS:
            time.sleep(LOOK_SECONDS)
            if not _unreachable(address):
                last = time.monotonic()
        link.give_up(gone)

    threading.Thread(target=look, name="layertap-ray-head", daemon=True).start()


def places(ray: Any) -> dict[tuple[str, int], dict[str, Any]]:
    """Where workers are to be, with the options of each: one for every GPU, or for every machine where Ray knows none.

    Where a machine is lost, Ray starts its workers again on others.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # optional

    machines = [node for node in ray.nodes() if node["Alive"]]
    counts = {node["NodeID"]: int(node["Resources"].get("GPU", 0)) for node in machines}
    with_gpus = any(counts.values())
    if not with_gpus:
        counts = {node["NodeID"]: int(node["Resources"].get("CPU", 0) >= 1) for node in machines}
    return {
        (node, number): {
            "num_cpus": 1,
            "num_gpus": int(with_gpus),
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=True),
        }
        for node, count in sorted(counts.items())
        for number in range(count)
    }
