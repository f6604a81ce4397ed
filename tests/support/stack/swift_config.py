"""Swift's configuration for one device on one machine, rendered for the ports it is given."""

import getpass
import json
import secrets
from pathlib import Path

BACKENDS = ("account", "container", "object")
PIPELINE = (
    "catch_errors gatekeeper healthcheck proxy-logging listing_formats bulk s3api tempauth copy slo dlo "
    "versioned_writes proxy-logging proxy-server"
)
FILTERS = {"proxy-logging": "proxy_logging"}
"""Filters whose entry point is not called what the pipeline calls it."""

PAGE_SIZE = 10
"""Of listings, instead of 1,000: a test sees more than one page without making a thousand objects."""

RINGS = """
import json, sys
from swift.common.ring import RingBuilder
for name, port in json.loads(sys.argv[2]).items():
    ring = RingBuilder(part_power=4, replicas=1, min_part_hours=1)
    place = {"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": "d1", "weight": 1}
    ring.add_dev({**place, "replication_ip": "127.0.0.1", "replication_port": port, "meta": ""})
    ring.rebalance()
    ring.get_ring().save(f"{sys.argv[1]}/{name}.ring.gz")
"""
"""Run by Swift's own Python with the folder and {backend: port}."""


def write_configuration(folder: Path, ports: dict[str, int], *, access_key: str, secret_key: str, region: str) -> None:
    """Write swift.conf and a file per server; `ports` has those of the backends and of `proxy`."""
    (folder / "devices" / "d1").mkdir(parents=True)
    (folder / "swift.conf").write_text(
        f"[swift-hash]\nswift_hash_path_prefix = {secrets.token_hex(8)}\n"
        f"swift_hash_path_suffix = {secrets.token_hex(8)}\n"
        "[storage-policy:0]\nname = default\ndefault = yes\n"
    )
    for name in BACKENDS:
        (folder / f"{name}.conf").write_text(_backend(folder, name, ports[name]))
    (folder / "proxy.conf").write_text(
        _proxy(folder, ports["proxy"], access_key=access_key, secret_key=secret_key, region=region)
    )


def ring_arguments(folder: Path, ports: dict[str, int]) -> list[str]:
    """Return what Swift's Python is called with to make the rings."""
    return ["-c", RINGS, str(folder), json.dumps({name: ports[name] for name in BACKENDS})]


def _default(folder: Path, port: int) -> str:
    return (
        f"[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = {port}\nuser = {getpass.getuser()}\nworkers = 0\n"
        f"swift_dir = {folder}\ndevices = {folder / 'devices'}\nmount_check = false\ndisable_fallocate = true\n"
    )


def _backend(folder: Path, name: str, port: int) -> str:
    return (
        _default(folder, port) + f"[pipeline:main]\npipeline = {name}-server\n"
        f"[app:{name}-server]\nuse = egg:swift#{name}\n[container-sharder]\n[object-expirer]\n"
    )


def _proxy(folder: Path, port: int, *, access_key: str, secret_key: str, region: str) -> str:
    account, user = access_key.split(":")
    options = {
        "tempauth": f"user_{account}_{user} = {secret_key} .admin\n",
        "s3api": (
            f"location = {region}\ns3_acl = false\nmin_segment_size = 5242880\ncheck_bucket_owner = false\n"
            f"max_bucket_listing = {PAGE_SIZE}\n"
        ),
    }
    filters = sorted(set(PIPELINE.split()) - {"proxy-server"})
    return (
        _default(folder, port)
        + f"[pipeline:main]\npipeline = {PIPELINE}\n"
        + "[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\nallow_account_management = true\n"
        + "".join(f"[filter:{n}]\nuse = egg:swift#{FILTERS.get(n, n)}\n{options.get(n, '')}" for n in filters)
    )
