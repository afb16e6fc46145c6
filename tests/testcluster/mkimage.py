#!/usr/bin/env python3
"""mkimage.py FOLDER OUT.tar NAME:TAG... [--entrypoint A,B] [--user N]

An image (docker-archive, as `docker save` writes it) of the files in a folder, without Docker.
The same files give the same bytes.
"""
import argparse
import hashlib
import io
import json
import platform
import tarfile

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def owned_by_root(entry):
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


def layer_of(folder):
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(folder, arcname=".", filter=owned_by_root)
    return layer.getvalue()


def add(tar, name, data):
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("folder")
    parser.add_argument("out")
    parser.add_argument("names", nargs="+")
    parser.add_argument("--entrypoint", default="")
    parser.add_argument("--user", default="")
    args = parser.parse_args()

    layer = layer_of(args.folder)
    run = {"Env": ["PATH=/bin"], "User": args.user}
    if args.entrypoint:
        run["Entrypoint"] = args.entrypoint.split(",")
    config = json.dumps({
        "architecture": ARCHITECTURES[platform.machine()],
        "os": "linux",
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
    }).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = [{"Config": config_name, "RepoTags": args.names, "Layers": ["layer.tar"]}]
    with tarfile.open(args.out, "w") as tar:
        add(tar, config_name, config)
        add(tar, "layer.tar", layer)
        add(tar, "manifest.json", json.dumps(manifest).encode())


main()
