//! The tiny guest: one page of 64-bit code that writes to memory and to a port.

use kvm_bindings::{kvm_regs, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit};

/// Guest memory: page tables, code and a word to write, below 2 MiB.
const MEMORY: usize = 0x20_0000;
const PML4: u64 = 0x2000;
const PDPT: u64 = 0x3000;
const DIRECTORY: u64 = 0x4000;
const CODE: u64 = 0x8000;
const STACK: u64 = 0x7000;

/// The port that the guest tells its success to, and what it says there.
const PORT: u16 = 0xf4;
const ANSWER: u8 = 0x42;

/// `mov byte [WORD], ANSWER; mov al, [WORD]; out PORT, al; hlt`
const PROGRAM: [u8; 18] = [
    0xc6, 0x04, 0x25, 0x00, 0x10, 0x00, 0x00, ANSWER, // mov byte [0x1000], 0x42
    0x8a, 0x04, 0x25, 0x00, 0x10, 0x00, 0x00, // mov al, [0x1000]
    0xe6, 0xf4, // out 0xf4, al
    0xf4, // hlt
];

/// Memory aligned as KVM wants it.
#[repr(C, align(4096))]
struct Memory([u8; MEMORY]);

/// Runs the guest; does not return where KVM hangs, so the caller sets a deadline.
///
/// # Errors
/// What the machine lacks, what KVM refused, or what the guest did instead of answering.
pub fn probe_kvm() -> Result<(), String> {
    super::looks_able()?;
    let kvm =
        |step: &'static str| move |error: kvm_ioctls::Error| format!("cannot {step}: {error}");
    let system = Kvm::new().map_err(kvm("open /dev/kvm"))?;
    let vm = system.create_vm().map_err(kvm("create a VM"))?;
    let mut memory = zeroed();
    load(&mut memory.0);
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: MEMORY as u64,
        userspace_addr: memory.0.as_ptr() as u64,
    };
    map(&vm, region).map_err(kvm("give the VM memory"))?;
    let mut vcpu = vm.create_vcpu(0).map_err(kvm("create a vCPU"))?;
    let mut special = vcpu.get_sregs().map_err(kvm("read the vCPU"))?;
    // Long mode: PAE, LME and LMA, protection and paging (Intel SDM volume 3, 10.8.5).
    special.cr3 = PML4;
    special.cr4 = 1 << 5;
    special.efer = 1 << 8 | 1 << 10;
    special.cr0 = 1 | 1 << 31;
    let code = kvm_segment {
        limit: u32::MAX,
        selector: 8,
        type_: 11,
        present: 1,
        s: 1,
        l: 1,
        g: 1,
        ..kvm_segment::default()
    };
    let data = kvm_segment {
        selector: 16,
        type_: 3,
        l: 0,
        db: 1,
        ..code
    };
    special.cs = code;
    (special.ds, special.es, special.ss) = (data, data, data);
    vcpu.set_sregs(&special)
        .map_err(kvm("set the vCPU's mode"))?;
    let registers = kvm_regs {
        rip: CODE,
        rsp: STACK,
        rflags: 2,
        ..kvm_regs::default()
    };
    vcpu.set_regs(&registers)
        .map_err(kvm("set the vCPU's registers"))?;
    match vcpu.run().map_err(kvm("run the vCPU"))? {
        VcpuExit::IoOut(PORT, [ANSWER]) => Ok(()),
        other => Err(format!("the guest did not answer but ended with {other:?}")),
    }
}

/// The page tables (one identity-mapped page of 2 MiB) and the program.
fn load(memory: &mut [u8]) {
    const PRESENT_WRITABLE: u64 = 0b11;
    const LARGE: u64 = 1 << 7;
    let entries = [
        (PML4, PDPT | PRESENT_WRITABLE),
        (PDPT, DIRECTORY | PRESENT_WRITABLE),
        (DIRECTORY, LARGE | PRESENT_WRITABLE),
    ];
    for (address, entry) in entries {
        put(memory, address, &entry.to_le_bytes());
    }
    put(memory, CODE, &PROGRAM);
}

fn put(memory: &mut [u8], address: u64, bytes: &[u8]) {
    // The constants above lie within the 2 MiB.
    let start = address as usize;
    memory[start..start + bytes.len()].copy_from_slice(bytes);
}

#[expect(unsafe_code, reason = "2 MiB do not go over the stack")]
fn zeroed() -> Box<Memory> {
    // SAFETY: all zeroes are a valid array of bytes.
    unsafe { Box::<Memory>::new_zeroed().assume_init() }
}

#[expect(
    unsafe_code,
    reason = "the kernel writes to the region for as long as the VM lives"
)]
fn map(
    vm: &kvm_ioctls::VmFd,
    region: kvm_userspace_memory_region,
) -> Result<(), kvm_ioctls::Error> {
    // SAFETY: the memory behind the region outlives the vCPU's only run, in `probe_kvm`.
    unsafe { vm.set_user_memory_region(region) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_writes_the_word_and_the_port_that_are_checked() {
        // Written and read back at the same address, below the page tables.
        assert_eq!(PROGRAM[3..7], PROGRAM[11..15]);
        assert_eq!(
            u32::from_le_bytes([PROGRAM[3], PROGRAM[4], PROGRAM[5], PROGRAM[6]]),
            0x1000
        );
        assert_eq!(u16::from(PROGRAM[16]), PORT);
    }
}
