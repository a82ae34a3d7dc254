#!/usr/bin/env python3
"""Packs files as a container image, the same bytes each time.

  oci.py layout DIR  [--gzip] --ref NAME [--ref NAME]... FILE=PATH[:UID:GID]...
  oci.py archive TAR [--gzip] --ref NAME [--ref NAME]... FILE=PATH[:UID:GID]...

`layout` adds the image to the OCI image layout in DIR (OCI image-spec, image-layout.md) under
every NAME, in the place of any image that had it, and drops blobs that nothing names any more.
`archive` writes what `docker save` writes. Each FILE becomes PATH in the one layer.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import pathlib
import tarfile

EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
CREATED = "1970-01-01T00:00:00Z"
REF = "org.opencontainers.image.ref.name"
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


class Hashing:
    """A file being written, and the hash and size of what went into it."""

    def __init__(self, file):
        self.file, self.sha, self.size = file, hashlib.sha256(), 0

    def write(self, data):
        self.sha.update(data)
        self.size += len(data)
        return self.file.write(data)

    def flush(self):
        self.file.flush()

    @property
    def digest(self):
        return "sha256:" + self.sha.hexdigest()


def entry(path, uid, gid):
    info = tarfile.TarInfo(path.strip("/"))
    info.uid, info.gid, info.mtime = uid, gid, EPOCH
    return info


def write_layer(out, files):
    """Writes the tar. Directories come before what is in them."""
    made = set()
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for source, path, uid, gid in sorted(files, key=lambda f: f[1]):
            for parent in reversed(pathlib.PurePosixPath(path.strip("/")).parents):
                if str(parent) not in made | {"."}:
                    made.add(str(parent))
                    info = entry(str(parent), 0, 0)
                    info.type, info.mode = tarfile.DIRTYPE, 0o755
                    tar.addfile(info)
            info = entry(path, uid, gid)
            info.size, info.mode = os.path.getsize(source), 0o644
            with open(source, "rb") as data:
                tar.addfile(info, data)


def layer_file(directory, files, compress):
    """Makes the layer as a file in `directory`: (its path, digest, size, digest before gzip)."""
    path = directory / f".layer.{os.getpid()}"
    with open(path, "wb") as file:
        blob = Hashing(file)
        if compress:
            with gzip.GzipFile("", "wb", 1, blob, mtime=0) as packed:
                plain = Hashing(packed)
                write_layer(plain, files)
        else:
            plain = blob
            write_layer(plain, files)
    return path, blob.digest, blob.size, plain.digest


def config_json(diff_id):
    return to_json(
        {
            "created": CREATED,
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [{"created": CREATED, "created_by": "e2e/guests/build"}],
        }
    )


def to_json(value):
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def replace(path, data):
    """Writes a file whole or not at all."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_bytes(data)
    fresh.rename(path)


def descriptor(kind, digest, size, **more):
    return {"mediaType": kind, "digest": digest, "size": size, **more}


def add_to_layout(root, refs, files, compress):
    blobs = root / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)

    def put(kind, data):
        digest = hashlib.sha256(data).hexdigest()
        replace(blobs / digest, data)
        return descriptor(kind, "sha256:" + digest, len(data))

    path, digest, size, diff_id = layer_file(blobs, files, compress)
    path.rename(blobs / digest.removeprefix("sha256:"))
    manifest = put(
        MANIFEST,
        to_json(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": put(CONFIG, config_json(diff_id)),
                "layers": [descriptor(LAYER + ("+gzip" if compress else ""), digest, size)],
            }
        ),
    )

    index = root / "index.json"
    images = json.loads(index.read_bytes())["manifests"] if index.exists() else []
    images = [image for image in images if image["annotations"][REF] not in refs]
    images += [{**manifest, "annotations": {REF: ref}} for ref in refs]
    images.sort(key=lambda image: image["annotations"][REF])
    replace(root / "oci-layout", to_json({"imageLayoutVersion": "1.0.0"}))
    replace(index, to_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": images}))
    drop_unused(blobs, images)


def drop_unused(blobs, images):
    """Also takes away what an earlier run was writing when it was killed."""
    used = set()
    for image in images:
        manifest = json.loads((blobs / image["digest"].removeprefix("sha256:")).read_bytes())
        used |= {image["digest"], manifest["config"]["digest"]}
        used |= {layer["digest"] for layer in manifest["layers"]}
    for blob in blobs.iterdir():
        if "sha256:" + blob.name not in used:
            blob.unlink()


def write_archive(target, refs, files, compress):
    path, digest, _, diff_id = layer_file(target.parent, files, compress)
    config = config_json(diff_id)
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    layer_name = digest.removeprefix("sha256:") + "/layer.tar"
    manifest = to_json([{"Config": config_name, "RepoTags": refs, "Layers": [layer_name]}])
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    with open(path, "rb") as layer, tarfile.open(fresh, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, size, data in (
            (config_name, len(config), io.BytesIO(config)),
            (layer_name, path.stat().st_size, layer),
            ("manifest.json", len(manifest), io.BytesIO(manifest)),
        ):
            info = entry(name, 0, 0)
            info.size = size
            tar.addfile(info, data)
    path.unlink()
    fresh.rename(target)


def file_argument(text):
    source, _, rest = text.partition("=")
    path, *owner = rest.split(":")
    uid, gid = map(int, owner or ("0", "0"))
    return source, path, uid, gid


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("form", choices=["layout", "archive"])
    parser.add_argument("target", type=pathlib.Path)
    parser.add_argument("--gzip", action="store_true")
    parser.add_argument("--ref", action="append", required=True, dest="refs")
    parser.add_argument("files", nargs="+", type=file_argument)
    args = parser.parse_args()
    if args.form == "layout":
        add_to_layout(args.target, args.refs, args.files, args.gzip)
    else:
        write_archive(args.target, args.refs, args.files, args.gzip)


if __name__ == "__main__":
    main()
