# The mini guest: Debian's kernel, static busybox, dhcp6c, for Debian's busybox has no udhcpc6, and
# mini/, all in an initramfs.
# shellcheck shell=bash disable=SC2154

# The cloud kernel unpacks in a moment but knows only virtio and NVMe. The generic one
# needs three seconds more under emulation, and drives SATA, e1000 and the i6300esb watchdog.
declare -A mini_kernels=([mini]=linux-image-cloud-amd64 [mini-generic]=linux-image-amd64)

# Modules by name; what they depend on comes with them, what a kernel lacks is left out.
mini_modules=(
    virtio_pci virtio_mmio virtio_blk virtio_scsi virtio_net virtio_console virtio_balloon
    virtio_input virtio-rng vmw_vsock_virtio_transport virtiofs 9pnet_virtio 9p
    ahci ata_piix sd_mod sr_mod nvme xhci_pci usb_storage uas usbhid
    e1000 e1000e 8139cp rtl8139 i6300esb iTCO_wdt pvpanic-pci qemu_fw_cfg
    button evdev atkbd i8042
    isofs vfat nls_utf8 nls_ascii nls_cp437 nls_iso8859-1
)

# dhcp6c and all that it loads.
mini_programs=(
    usr/sbin/dhcp6c usr/lib/x86_64-linux-gnu/libfl.so.2
    lib/x86_64-linux-gnu/libc.so.6 lib64/ld-linux-x86-64.so.2
)

mini_cmdline='console=tty0 console=ttyS0 quiet'

build_mini() {
    local name
    for name in mini mini-generic; do
        build_mini_flavour "$name" "${mini_kernels[$name]}"
    done
}

build_mini_flavour() {
    local name=$1 meta=$2 images=("$1") packages key dir=$tmp/$1 started=$SECONDS
    if [[ $name == mini ]]; then
        images+=(mini-kernel)
    fi
    packages=$(versions "$meta" busybox-static wide-dhcpv6-client libc6 libfl2 shim-signed grub-efi-amd64-signed)
    key=$(key "$packages" build lib.sh mini.sh images.sh oci.py mini)
    if current "$name" "$key" && has_images "${images[@]}"; then
        say "$name is up to date"
        return
    fi

    unpack_all "$tmp/$name.root" "$packages"
    mkdir "$dir"
    cp "$tmp/$name.root"/boot/vmlinuz-* "$dir/vmlinuz"
    overlay "$tmp/$name.root" "$here/mini" "$tmp/$name.overlay" "${mini_programs[@]}"
    initrd "$tmp/$name.root" "$tmp/$name.overlay" "$dir/initrd" "${mini_modules[@]}"
    boot_partition "$tmp/boot.img" 44 "$dir/vmlinuz" "$dir/initrd" "$mini_cmdline" "$tmp/$name.root"
    disk "$dir/disk.img" "$tmp/boot.img"
    qemu-img convert -O qcow2 "$dir/disk.img" "$dir/disk.qcow2"
    rm -rf "$tmp/$name.root" "$tmp/$name.overlay" "$tmp/boot.img"
    "images_$name" "$dir"
    install_output "$name" "$key" "$dir"
    say "built $name in $((SECONDS - started)) s"
}
