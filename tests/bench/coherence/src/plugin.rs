// SPDX-License-Identifier: GPL-2.0

//! The interface to QEMU.
//!
//! Arguments: `out` is the file to which each window is appended as a line of JSON, and
//! `interrupts` one with the addresses where the kernel begins to handle interrupts, in
//! hexadecimal digits.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::ffi::c_char;
use std::ffi::c_int;
use std::ffi::c_uint;
use std::ffi::c_void;
use std::fs;
use std::fs::File;
use std::io::Write;
use std::ptr::without_provenance_mut;
use std::slice;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use composefs_bench::coherence::Mark;
use qemu_plugin_sys as qemu;
use qemu_plugin_sys::qemu_plugin_cb_flags::QEMU_PLUGIN_CB_NO_REGS;
use qemu_plugin_sys::qemu_plugin_mem_rw::QEMU_PLUGIN_MEM_RW;

use crate::caches::Access;
use crate::caches::Kind;
use crate::instruction::IRETQ;
use crate::instruction::Role;
use crate::model::Model;

/// The version of the interface.
#[unsafe(no_mangle)]
pub static qemu_plugin_version: c_int = qemu::QEMU_PLUGIN_VERSION as c_int;

/// The first address of the kernel's half. An instruction's address is in the kernel's half,
/// and in what QEMU passes on with it, [`CALL`] and [`RETURN`] say what it does.
const KERNEL: u64 = 1 << 63;
/// In the address of an instruction: it does not call.
const CALL: u64 = 1 << 62;
/// In the address of an instruction: it does not return.
const RETURN: u64 = 1 << 61;

/// What the arguments say.
struct Settings {
    out: Mutex<File>,
    interrupts: BTreeSet<u64>,
}

static SETTINGS: OnceLock<Settings> = OnceLock::new();

/// Whether a window is open: most of the time none is, and then nothing else is looked at.
static OPEN: AtomicBool = AtomicBool::new(false);

static MODEL: Mutex<Option<Model>> = Mutex::new(None);

fn model() -> MutexGuard<'static, Option<Model>> {
    MODEL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// QEMU loads the plugin.
///
/// # Safety
///
/// QEMU passes `argc` strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qemu_plugin_install(
    id: qemu::qemu_plugin_id_t,
    _info: *const qemu::qemu_info_t,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    let count = usize::try_from(argc).unwrap_or(0);
    // SAFETY: QEMU passes so many strings.
    let arguments = (0..count).map(|index| unsafe { CStr::from_ptr(*argv.add(index)) });
    match settings(arguments) {
        Ok(settings) => {
            let _ = SETTINGS.set(settings);
            // SAFETY: `id` is that of this plugin, and the callback has the right type.
            unsafe { qemu::qemu_plugin_register_vcpu_tb_trans_cb(id, Some(translated)) };
            0
        }
        Err(error) => {
            eprintln!("composefs-coherence: {error}");
            1
        }
    }
}

fn settings<'a>(arguments: impl Iterator<Item = &'a CStr>) -> Result<Settings, String> {
    let (mut out, mut interrupts) = (None, BTreeSet::new());
    for argument in arguments {
        let argument = argument.to_string_lossy();
        let said = |error| format!("{argument}: {error}");
        match argument.split_once('=') {
            Some(("out", path)) => out = Some(File::create(path).map_err(said)?),
            Some(("interrupts", path)) => {
                let text = fs::read_to_string(path).map_err(said)?;
                interrupts.extend(
                    text.lines()
                        .filter_map(|line| u64::from_str_radix(line, 16).ok()),
                );
            }
            _ => return Err(format!("unknown argument {argument}")),
        }
    }
    Ok(Settings {
        out: Mutex::new(out.ok_or("the argument out= is missing")?),
        interrupts,
    })
}

/// QEMU has translated instructions of the guest.
unsafe extern "C" fn translated(_id: qemu::qemu_plugin_id_t, tb: *mut qemu::qemu_plugin_tb) {
    // SAFETY: QEMU passes a block that is valid now.
    let count = unsafe { qemu::qemu_plugin_tb_n_insns(tb) };
    for index in 0..count {
        // SAFETY: `index` is less than their number.
        let insn = unsafe { qemu::qemu_plugin_tb_get_insn(tb, index) };
        // SAFETY: `insn` is valid as long as the block, and its bytes are as many as it says.
        let (at, bytes) = unsafe {
            let data = qemu::qemu_plugin_insn_data(insn).cast::<u8>();
            let bytes = slice::from_raw_parts(data, qemu::qemu_plugin_insn_size(insn));
            (qemu::qemu_plugin_insn_vaddr(insn), bytes)
        };
        instrument(insn, at, bytes);
    }
}

/// Asks QEMU for what an instruction does.
fn instrument(insn: *mut qemu::qemu_plugin_insn, at: u64, bytes: &[u8]) {
    let execute = |callback: qemu::qemu_plugin_vcpu_udata_cb_t, data: u64| {
        let data = without_provenance_mut::<c_void>(data as usize);
        // SAFETY: `insn` is valid now, and the callbacks take `data` for a number.
        unsafe {
            qemu::qemu_plugin_register_vcpu_insn_exec_cb(
                insn,
                callback,
                QEMU_PLUGIN_CB_NO_REGS,
                data,
            );
        }
    };
    if at < KERNEL {
        if let Some(mark) = Mark::of(bytes) {
            execute(Some(marked), mark as u64);
        }
        return;
    }
    if bytes == IRETQ {
        execute(Some(resumed), 0);
    }
    if SETTINGS
        .get()
        .is_some_and(|settings| settings.interrupts.contains(&at))
    {
        execute(Some(interrupted), 0);
    }
    let data = match Role::of(bytes) {
        Role::Plain => at,
        Role::Call => at & !CALL,
        Role::Return => at & !RETURN,
    };
    let data = without_provenance_mut::<c_void>(data as usize);
    // SAFETY: as above.
    unsafe {
        qemu::qemu_plugin_register_vcpu_mem_cb(
            insn,
            Some(touched),
            QEMU_PLUGIN_CB_NO_REGS,
            QEMU_PLUGIN_MEM_RW,
            data,
        );
    }
}

/// The program in the guest says something.
unsafe extern "C" fn marked(processor: c_uint, data: *mut c_void) {
    let Some(mark) = Mark::numbered(data.addr() as u64) else {
        return;
    };
    let mut model = model();
    match mark {
        Mark::WindowBegins => {
            *model = Some(Model::default());
            OPEN.store(true, Ordering::Relaxed);
        }
        Mark::WindowEnds => {
            OPEN.store(false, Ordering::Relaxed);
            if let Some(model) = model.take() {
                append(model);
            }
        }
        Mark::OperationBegins | Mark::OperationEnds => {
            if let Some(model) = model.as_mut() {
                model.mark(processor, mark);
            }
        }
    }
}

/// Writes what was counted in a window.
fn append(model: Model) {
    let Some(settings) = SETTINGS.get() else {
        return;
    };
    let mut line = serde_json::to_vec(&model.finish()).unwrap_or_default();
    line.push(b'\n');
    let mut out = settings.out.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) = out.write_all(&line) {
        eprintln!("composefs-coherence: cannot write the counts: {error}");
    }
}

/// The kernel begins to handle an interrupt.
unsafe extern "C" fn interrupted(processor: c_uint, _data: *mut c_void) {
    if OPEN.load(Ordering::Relaxed)
        && let Some(model) = model().as_mut()
    {
        model.interrupted(processor);
    }
}

/// The kernel has handled it.
unsafe extern "C" fn resumed(processor: c_uint, _data: *mut c_void) {
    if OPEN.load(Ordering::Relaxed)
        && let Some(model) = model().as_mut()
    {
        model.resumed(processor);
    }
}

/// The kernel touches memory.
unsafe extern "C" fn touched(
    processor: c_uint,
    info: qemu::qemu_plugin_meminfo_t,
    address: u64,
    data: *mut c_void,
) {
    if !OPEN.load(Ordering::Relaxed) {
        return;
    }
    // SAFETY: QEMU passes an `info` that is valid during this call, and so is the address that
    // `qemu_plugin_get_hwaddr()` makes of it. It returns null for a device.
    let (physical, kind, size) = unsafe {
        let place = qemu::qemu_plugin_get_hwaddr(info, address);
        if place.is_null() || qemu::qemu_plugin_hwaddr_is_io(place) {
            return;
        }
        let kind = match qemu::qemu_plugin_mem_is_store(info) {
            true => Kind::Write,
            false => Kind::Read,
        };
        let size = 1 << qemu::qemu_plugin_mem_size_shift(info);
        (qemu::qemu_plugin_hwaddr_phys_addr(place), kind, size)
    };
    let data = data.addr() as u64;
    let role = match (data & CALL, data & RETURN) {
        (0, _) => Role::Call,
        (_, 0) => Role::Return,
        _ => Role::Plain,
    };
    let access = Access {
        processor,
        address: physical,
        kind,
        at: data | CALL | RETURN,
    };
    let mut model = model();
    let Some(model) = model.as_mut() else { return };
    model.touch(access, address, role);
    // What reaches into the next line touches that, too; but not the next page, which may be
    // elsewhere.
    let last = physical + size - 1;
    if last >> 6 != physical >> 6 && last >> 12 == physical >> 12 {
        let access = Access {
            address: last,
            ..access
        };
        model.touch(access, address + size - 1, Role::Plain);
    }
}
