# What every guest needs: messages, the cache, packages and bootable disks.
# Sourced by build, which sets here, out, tmp and SOURCE_DATE_EPOCH.
# shellcheck shell=bash disable=SC2154

say() { printf 'guests: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# versions PACKAGE...: one line "package version" each, what apt would install, sorted by name.
versions() {
    local found
    found=$(candidates "$@")
    if [[ $(wc -l <<<"$found") -ne $# ]]; then
        refresh_lists
        found=$(candidates "$@")
    fi
    [[ $(wc -l <<<"$found") -eq $# ]] ||
        die "apt knows not all of: $*; does it have Debian 12 main in its sources?"
    printf '%s\n' "$found"
}

candidates() {
    apt-cache policy "$@" |
        awk '/^[^ ]/ { sub(/:$/, ""); name = $1 } $1 == "Candidate:" && $2 != "(none)" { print name, $2 }' | sort
}

refresh_lists() {
    ((EUID == 0)) || die "apt has no usable package lists: run apt-get update as root"
    apt-get -qq update 9>&- || die "apt-get update failed"
}

# fetch PACKAGE VERSION: prints the path of its .deb, kept in out/debs.
fetch() {
    local name=$1_$2 deb
    deb=$out/debs/${name//:/%3a}.deb
    if [[ ! -f $deb ]]; then
        mkdir -p "$out/debs" "$tmp/deb"
        say "fetching $1 $2"
        # The mirror drops a version when it has a newer one: then our lists are too old.
        download "$1=$2" || die "$1 $2 could not be fetched; run apt-get update and try again"
        mv "$tmp"/deb/*.deb "$deb"
    fi
    printf '%s\n' "$deb"
}

download() {
    (cd "$tmp/deb" && apt-get -qq -o APT::Sandbox::User=root download "$1" >&2)
}

# unpack_all DIR VERSIONS: the packages in what versions printed, each unpacked in DIR. In the
# place of a meta package for a kernel, that kernel.
unpack_all() {
    local dir=$1 package version kernel deb
    mkdir -p "$dir"
    while read -r package version; do
        if [[ $package == linux-image-* ]]; then
            kernel=$(apt-cache depends "$package" |
                awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }')
            read -r package version < <(versions "$kernel")
        fi
        deb=$(fetch "$package" "$version")
        dpkg-deb -x "$deb" "$dir"
    done <<<"$2"
}

# key TEXT PATH...: what a guest is made from, as one hash; of a directory, all files count.
key() {
    local text=$1
    shift
    {
        printf '%s\n' "$text"
        (cd "$here" && find "$@" -type f -print0 | sort -z | xargs -0 sha256sum)
    } | sha256sum | cut -d' ' -f1
}

# current NAME KEY: whether out/NAME is there and made from just that.
current() {
    [[ -f $out/$1/.key && $(<"$out/$1/.key") == "$2" ]]
}

# install_output NAME KEY DIR: DIR becomes out/NAME. The key goes in first and the whole
# directory at once, so a kill leaves the old one, none, or the new one.
install_output() {
    printf '%s\n' "$2" >"$3/.key"
    rm -rf "${out:?}/$1"
    mv "$3" "$out/$1"
}

# same_times DIR: every file is as old as SOURCE_DATE_EPOCH.
same_times() {
    find "$1" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
}

# initrd ROOT OVERLAY FILE MODULE...: an initramfs of busybox, the files in OVERLAY and the modules
# with all that they depend on, for the kernel and the busybox that are unpacked in ROOT. Modules
# that the kernel lacks are left out. Not compressed: unpacking costs an emulated CPU more than reading.
initrd() {
    local root=$1 overlay=$2 file=$3 dir=$tmp/initrd modules=$1/lib/modules release name path
    shift 3
    release=$(ls "$modules")
    mkdir -p "$dir"/{bin,dev,etc,mnt,proc,root,run,srv,sys,tmp}
    ln -s bin "$dir/sbin"
    cp "$root/bin/busybox" "$dir/bin/busybox"
    cp -r "$overlay/." "$dir/"
    for name in $("$root/bin/busybox" --list); do
        [[ $name == busybox ]] || ln -s busybox "$dir/bin/$name"
    done
    [[ -e $dir/init ]] || ln -s bin/busybox "$dir/init"

    # All modules are indexed first, since only then are dependencies known.
    depmod -b "$root" "$release"
    for name; do
        modprobe -d "$root" -S "$release" --ignore-install --show-depends "$name" 2>/dev/null || true
    done | awk '$1 == "insmod" { print $2 }' | sort -u | while read -r path; do
        path=${path#"$root"}
        install -Dm644 "$root$path" "$dir$path"
    done
    cp "$modules/$release"/modules.{builtin,builtin.modinfo,order} "$dir/lib/modules/$release/"
    depmod -b "$dir" "$release"
    rm -f "$dir/lib/modules/$release"/*.bin

    same_times "$dir"
    (cd "$dir" && find . | sort | cpio --quiet --reproducible -o -H newc --owner 0:0) >"$file"
    rm -rf "$dir"
}

# overlay ROOT FILES DIR PATH...: in DIR what is in FILES, and what the packages that are unpacked in
# ROOT have at these paths.
overlay() {
    local root=$1 dir=$3 path
    cp -r "$2" "$dir"
    shift 3
    for path; do
        # An absolute link means a file below ROOT.
        if [[ $(readlink "$root/$path") == /* ]]; then
            install -D "$root$(readlink "$root/$path")" "$dir/$path"
        else
            install -D "$root/$path" "$dir/$path"
        fi
    done
}

# boot_partition FILE MIB VMLINUZ INITRD CMDLINE LOADERS: a FAT file system that boots
# the kernel under BIOS (syslinux), UEFI and UEFI with SecureBoot (Debian's signed shim and GRUB).
# LOADERS is where shim-signed and grub-efi-amd64-signed are unpacked.
boot_partition() {
    local file=$1 mib=$2 vmlinuz=$3 initrd=$4 cmdline=$5 loaders=$6 dir
    dir=$(mktemp -d "$tmp/boot.XXXXXX")
    mkdir -p "$dir/EFI/BOOT" "$dir/EFI/debian"
    cp "$vmlinuz" "$dir/vmlinuz"
    cp "$initrd" "$dir/initrd"
    cp "$loaders/usr/lib/shim/shimx64.efi.signed" "$dir/EFI/BOOT/BOOTX64.EFI"
    cp "$loaders/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed" "$dir/EFI/BOOT/grubx64.efi"
    # The signed GRUB looks here, whatever directory it was started from.
    cat >"$dir/EFI/debian/grub.cfg" <<EOF
set timeout=0
linux /vmlinuz $cmdline
initrd /initrd
boot
EOF
    cat >"$dir/syslinux.cfg" <<EOF
DEFAULT linux
PROMPT 0
TIMEOUT 0
LABEL linux
  LINUX /vmlinuz
  INITRD /initrd
  APPEND $cmdline
EOF
    same_times "$dir"
    rm -f "$file"
    truncate -s "${mib}M" "$file"
    mkfs.vfat --invariant -n BOOT "$file" >/dev/null
    mcopy -smQ -i "$file" "$dir"/* ::/
    syslinux --install "$file"
}

# disk FILE BOOT [ROOT]: an MBR disk of the boot partition and, where given, a Linux one.
# One active partition of type EFI system is what both SeaBIOS and OVMF boot from.
disk() {
    local file=$1 boot=$2 root=${3:-} boot_sectors root_sectors=0 table
    boot_sectors=$(($(stat -c %s "$boot") / 512))
    table="start=2048, size=$boot_sectors, type=ef, bootable"
    if [[ -n $root ]]; then
        root_sectors=$(($(stat -c %s "$root") / 512))
        table+=$'\n'"start=$((2048 + boot_sectors)), size=$root_sectors, type=83"
    fi
    rm -f "$file"
    truncate -s $(((2048 + boot_sectors + root_sectors) * 512)) "$file"
    printf 'label: dos\nlabel-id: 0x46565254\n%s\n' "$table" | sfdisk --quiet "$file"
    dd if=/usr/lib/syslinux/mbr/mbr.bin of="$file" bs=440 count=1 conv=notrunc status=none
    dd if="$boot" of="$file" bs=1M seek=1 conv=notrunc,sparse status=none
    if [[ -n $root ]]; then
        dd if="$root" of="$file" bs=1M seek=$((1 + boot_sectors / 2048)) conv=notrunc,sparse status=none
    fi
}
