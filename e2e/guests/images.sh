# The guests as container images, in one OCI layout, under the names that KubeVirt's own
# examples use and under names of ours.
# shellcheck shell=bash disable=SC2154

# The user that KubeVirt runs QEMU as, and so the owner of a containerDisk's file.
qemu_user=107:107

declare -A image_names=(
    [mini]='localhost/ferrovirt/mini:devel'
    # KubeVirt's examples attach disks by SATA too.
    [mini-generic]='localhost/ferrovirt/mini-generic:devel
        registry:5000/kubevirt/cirros-container-disk-demo:devel
        registry:5000/kubevirt/alpine-container-disk-demo:devel'
    [mini-kernel]='localhost/ferrovirt/mini-kernel:devel
        registry:5000/kubevirt/alpine-ext-kernel-boot-demo:devel'
    [debian]='localhost/ferrovirt/debian:devel
        registry:5000/kubevirt/fedora-with-test-tooling-container-disk:devel'
)

# image NAME [--gzip] FILE=PATH[:UID:GID]...
image() {
    local name=$1 ref
    shift
    mkdir -p "$out/images"
    local refs=()
    for ref in ${image_names[$name]}; do
        refs+=(--ref "$ref")
    done
    python3 "$here/oci.py" layout "$out/images" "${refs[@]}" "$@"
}

# has_images NAME...: whether the layout names them all.
has_images() {
    local name ref
    for name; do
        for ref in ${image_names[$name]}; do
            grep -qF "\"$ref\"" "$out/images/index.json" 2>/dev/null || return 1
        done
    done
}

images_mini() {
    image mini --gzip "$1/disk.qcow2=/disk/mini.qcow2:$qemu_user"
    image mini-kernel --gzip "$1/vmlinuz=/boot/vmlinuz-virt" "$1/initrd=/boot/initramfs-virt"
    # As `docker save` writes it, beside the disk: the layout has the same image.
    python3 "$here/oci.py" archive "$1/docker.tar" --ref localhost/ferrovirt/mini-archive:devel \
        "$1/disk.img=/disk/mini.img:$qemu_user"
}

images_mini-generic() {
    image mini-generic --gzip "$1/disk.img=/disk/mini.img:$qemu_user"
}

images_debian() {
    # The disk's clusters are packed already.
    image debian "$1/disk.qcow2=/disk/debian.qcow2:$qemu_user"
}
