# The debian guest: Debian 12 with systemd, its DHCP client, cloud-init, the guest agent and SSH.
# shellcheck shell=bash disable=SC2154

debian_packages=(
    systemd-sysv systemd-resolved libnss-resolve udev dbus
    # networkd asks hostnamed to take the hostname from a lease, and polkit says that it may.
    polkitd
    cloud-init qemu-guest-agent openssh-server
    e2fsprogs iproute2 iputils-ping netcat-openbsd iperf3 ca-certificates procps kmod
)

# Where the file system with this UUID is, is what the boot loader tells the initrd.
debian_root=46656272-6f76-4972-8274-64656269616e
debian_cmdline="root=UUID=$debian_root console=tty0 console=ttyS0 net.ifnames=0 quiet"
# Outside the file tree: what boots it.
debian_boot_packages=(linux-image-cloud-amd64 busybox-static shim-signed grub-efi-amd64-signed)
debian_initrd_modules=(virtio_pci virtio_blk virtio_scsi sd_mod nvme)

build_debian() {
    local packages key dir=$tmp/debian root=$tmp/debian.root started=$SECONDS
    packages=$(versions "${debian_boot_packages[@]}" "${debian_packages[@]}")
    key=$(key "$packages" \
        build lib.sh debian.sh images.sh oci.py debian mini/etc/modprobe.d)
    if current debian "$key" && has_images debian; then
        say "debian is up to date"
        return
    fi
    ((EUID == 0)) || die "building the debian guest installs packages in a directory: run it as root"

    say "building debian; this takes a minute or two"
    packages=$(versions "${debian_boot_packages[@]}")
    unpack_all "$tmp/boot.root" "$packages"
    mkdir "$dir"
    initrd "$tmp/boot.root" "$here/debian/initrd" "$dir/initrd" "${debian_initrd_modules[@]}"
    boot_partition "$tmp/boot.img" 44 "$tmp/boot.root"/boot/vmlinuz-* "$dir/initrd" "$debian_cmdline" "$tmp/boot.root"

    debian_tree "$root"
    cp -r "$tmp/boot.root/lib/modules" "$root/usr/lib/"
    rm -rf "$tmp/boot.root" "$dir/initrd"
    debian_filesystem "$root" "$tmp/root.img"
    rm -rf "$root"
    disk "$tmp/debian.img" "$tmp/boot.img" "$tmp/root.img"
    qemu-img convert -c -W -m 4 -O qcow2 -o compression_type=zstd "$tmp/debian.img" "$dir/disk.qcow2"
    rm "$tmp"/{debian,boot,root}.img

    images_debian "$dir"
    install_output debian "$key" "$dir"
    say "built debian in $((SECONDS - started)) s"
}

# debian_tree DIR: the packages installed there, from the sources that this machine's apt uses,
# and configured for a short boot.
debian_tree() {
    local root=$1 packages
    packages=$(IFS=,; echo "${debian_packages[*]}")
    debian_sources >"$tmp/sources.list"
    # Namespaces of its own, and its death with ours: no mount and no process outlives a build
    # that is killed.
    setpriv --pdeathsig KILL unshare --mount --propagation private --pid --fork --kill-child -- \
        mmdebstrap --quiet --mode=root --variant=essential \
        --include="$packages" \
        --aptopt='Apt::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/info/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/i18n/*' \
        --dpkgopt='path-exclude=/usr/share/bash-completion/*' \
        bookworm "$root" "$tmp/sources.list" </dev/null >"$tmp/mmdebstrap.log" 2>&1 9>&- || {
        tail -n 20 "$tmp/mmdebstrap.log" >&2
        die "mmdebstrap failed"
    }
    cp -r "$here/debian/root/." "$root/"
    cp -r "$here/mini/etc/modprobe.d" "$root/etc/"

    # The guest's own systemctl: the machine that builds it may have none.
    SYSTEMD_OFFLINE=1 chroot "$root" systemctl --quiet enable systemd-networkd.service serial-getty@ttyS0.service
    SYSTEMD_OFFLINE=1 chroot "$root" systemctl --quiet mask \
        getty@tty1.service user@.service e2scrub_reap.service fstrim.timer \
        systemd-networkd-wait-online.service systemd-pstore.service \
        systemd-hwdb-update.service ldconfig.service systemd-journal-catalog-update.service
    # Made anew by each guest: its identity and its keys. The hostname is DHCP's or cloud-init's.
    : >"$root/etc/machine-id"
    rm -f "$root"/etc/ssh/ssh_host_*_key* "$root"/etc/hostname "$root"/var/lib/dbus/machine-id
    echo '127.0.0.1 localhost' >"$root/etc/hosts"
    echo "UUID=$debian_root / ext4 rw,noatime 0 0" >"$root/etc/fstab"
    : >"$root/etc/motd"
    ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
    rm -rf "$root"/var/{log,cache,lib/apt/lists}/* "$root"/usr/share/{doc,man,info}
    # Bytecode that names no time of its source, or same_times would make cloud-init compile all of
    # Python at each boot. Some packages hold files that are not for this version of it.
    chroot "$root" python3 -m compileall -q -f --invalidation-mode unchecked-hash \
        /usr/lib/python3 /usr/lib/python3.11 >/dev/null || true
    # An empty password on the console would be one over SSH too: there is none at all.
    chroot "$root" passwd --quiet --lock root
}

# The Debian lines of this machine's apt sources, whatever mirror they name.
debian_sources() {
    local lines
    # shellcheck disable=SC2016 # apt-get fills these in.
    lines=$(apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' \
        'Created-By: Packages' 'Origin: Debian' | grep -E ' bookworm(-security|-updates)? main$' | sort -u)
    [[ $lines == *' bookworm main'* ]] || die "apt has no Debian 12 main in its sources"
    printf '%s\n' "$lines"
}

# debian_filesystem DIR FILE: an ext4 of DIR, with 256 MiB to spare.
debian_filesystem() {
    local root=$1 file=$2 mib
    same_times "$root"
    # No "files in /etc and /var are older than /usr" work at boot.
    touch -d "@$((SOURCE_DATE_EPOCH + 1))" "$root/etc/.updated" "$root/var/.updated"
    mib=$(($(du -s --apparent-size -BM "$root" | cut -dM -f1) * 11 / 10 + 256))
    truncate -s "${mib}M" "$file"
    E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH mke2fs -q -t ext4 -d "$root" -L debian -U "$debian_root" -m 0 \
        -O ^metadata_csum_seed,^has_journal \
        -E "hash_seed=$debian_root,lazy_itable_init=1" "$file"
}
