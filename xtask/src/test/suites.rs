// SPDX-License-Identifier: GPL-2.0

//! Which suites there are.

use super::arm64;
use super::boot;
use super::boot_ways;
use super::boots;
use super::deb;
use super::debug_all;
use super::defects;
use super::foreign;
use super::fuzz;
use super::fuzz_kernel;
use super::harness;
use super::host;
use super::hostile;
use super::kunit;
use super::module;
use super::old;
use super::patches;
use super::stress;
use super::suite::Run;
use super::suite::Suite;
use super::suite::When;
use crate::kernel::Flavor;

/// The kernels of suites in the gate: Debian's, which gets more done and need not be built, and
/// the debug kernel, which sees more.
const GATE: &[Flavor] = &[Flavor::Debian, Flavor::Debug];

/// The kernels of the long suites.
const LONG: &[Flavor] = &[Flavor::Plain, Flavor::Debug];

/// All suites, in the order in which they run: quick ones first, and next to each other those that
/// keep only one processor busy.
pub const SUITES: &[Suite] = &[
    Suite {
        name: "host",
        about: "formatting, lints, documentation and tests of what runs on the host",
        minutes: 3,
        processors: 2,
        when: When::Gate,
        run: Run::Whole(host::run),
    },
    Suite {
        name: "module",
        about: "formatting and lints of the module, and that it cannot panic",
        minutes: 1,
        processors: 2,
        when: When::Gate,
        run: Run::Whole(module::run),
    },
    Suite {
        name: "harness",
        about: "that a guest which panics, hangs or breaks off does not pass",
        minutes: 1,
        processors: 2,
        when: When::Gate,
        run: Run::Whole(harness::run),
    },
    Suite {
        name: "kunit",
        about: "KUnit tests of fs/composefs/vfs on the debug kernel",
        minutes: 1,
        processors: 1,
        when: When::Gate,
        run: Run::OnKernels(&[Flavor::Debug], kunit::run),
    },
    Suite {
        name: "selinux",
        about: "the selftests that need SELinux",
        minutes: 1,
        processors: 1,
        when: When::Gate,
        run: Run::Selftests(&boots::SELINUX),
    },
    Suite {
        name: "patches",
        about: "the patches for a kernel tree, and the core selftests on the kernel they make",
        minutes: 2,
        processors: 1,
        when: When::Gate,
        run: Run::Whole(patches::run),
    },
    Suite {
        name: "boot",
        about: "a Debian whose root is an image, and one whose root is refused",
        minutes: 3,
        processors: 1,
        when: When::Gate,
        run: Run::Whole(boot::run),
    },
    Suite {
        name: "selftests",
        about: "tests/selftests on Debian's own kernel, by run_kselftest.sh",
        minutes: 8,
        processors: 2,
        when: When::Gate,
        run: Run::Selftests(&boots::DEBIAN),
    },
    Suite {
        name: "debug",
        about: "some selftests on a kernel with KASAN, lockdep and more",
        minutes: 9,
        processors: 2,
        when: When::Gate,
        run: Run::Selftests(&boots::DEBUG),
    },
    Suite {
        name: "stress",
        about: "many threads at once, on Debian's kernel and the debug kernel",
        minutes: 2,
        processors: 2,
        when: When::Gate,
        run: Run::OnKernels(GATE, stress::run),
    },
    Suite {
        name: "hostile",
        about: "images made to do harm, on Debian's kernel and the debug kernel",
        minutes: 2,
        processors: 2,
        when: When::Gate,
        run: Run::OnKernels(GATE, hostile::run),
    },
    Suite {
        name: "module-plain",
        about: "that the module cannot panic, on a kernel without overflow checks",
        minutes: 1,
        processors: 1,
        when: When::All,
        run: Run::Whole(module::run_plain),
    },
    Suite {
        name: "kunit-plain",
        about: "KUnit tests of fs/composefs/vfs on the plain kernel",
        minutes: 1,
        processors: 1,
        when: When::All,
        run: Run::OnKernels(&[Flavor::Plain], kunit::run),
    },
    Suite {
        name: "ipe",
        about: "the selftest that needs IPE, which lets only some programs run",
        minutes: 1,
        processors: 1,
        when: When::All,
        run: Run::Selftests(&boots::IPE),
    },
    Suite {
        name: "patched",
        about: "selftests on the plain kernel with composefs built in",
        minutes: 2,
        processors: 1,
        when: When::All,
        run: Run::Selftests(&boots::PATCHED),
    },
    Suite {
        name: "kmemleak",
        about: "the selftest for leaked memory, on the debug kernel with kmemleak",
        minutes: 2,
        processors: 1,
        when: When::All,
        run: Run::Selftests(&boots::KMEMLEAK),
    },
    Suite {
        name: "boot-all",
        about: "updates of a Debian whose root is an image, and attacks on its disk",
        minutes: 10,
        processors: 1,
        when: When::All,
        run: Run::Whole(boot::run_all),
    },
    Suite {
        name: "boot-ways",
        about: "a Debian that boots from an image, by initramfs-tools, dracut and others",
        minutes: 10,
        processors: 1,
        when: When::All,
        run: Run::Whole(boot_ways::run),
    },
    Suite {
        name: "old",
        about: "mount.composefs on Debian's kernels 6.1 and 6.12",
        minutes: 4,
        processors: 1,
        when: When::All,
        run: Run::Whole(old::run),
    },
    Suite {
        name: "clients",
        about: "container tools and ostree of Debian, unmodified, on composefs",
        minutes: 3,
        processors: 1,
        when: When::All,
        run: Run::Selftests(&boots::CLIENTS),
    },
    Suite {
        name: "others",
        about: "tests that others wrote, on composefs and on overlayfs above it",
        minutes: 20,
        processors: 1,
        when: When::All,
        run: Run::Selftests(&boots::OTHERS),
    },
    Suite {
        name: "packages",
        about: "the Debian packages, from installation to purge, on Debian's own kernel",
        minutes: 15,
        processors: 1,
        when: When::All,
        run: Run::Whole(deb::run),
    },
    Suite {
        name: "selftests-long",
        about: "those that take long: large images, and programs for users",
        minutes: 5,
        processors: 2,
        when: When::All,
        run: Run::Selftests(&boots::DEBIAN_LONG),
    },
    Suite {
        name: "selftests-plain",
        about: "selftests on the plain kernel",
        minutes: 8,
        processors: 2,
        when: When::All,
        run: Run::Selftests(&boots::PLAIN),
    },
    Suite {
        name: arm64::NAME,
        about: "the plain kernel's selftests and KUnit tests on arm64, with pages of 4, 16 and 64 KiB",
        minutes: 20,
        processors: 2,
        when: When::All,
        run: Run::Pieces {
            list: arm64::list,
            run: arm64::run,
        },
    },
    Suite {
        name: debug_all::NAME,
        about: "all selftests on a kernel with KASAN, lockdep and more",
        minutes: 13,
        processors: 1,
        when: When::All,
        run: Run::Pieces {
            list: debug_all::list,
            run: debug_all::run,
        },
    },
    Suite {
        name: "stress-long",
        about: "the suite stress for a quarter of an hour, on the plain and the debug kernel",
        minutes: 25,
        processors: 2,
        when: When::All,
        run: Run::OnKernels(LONG, stress::run_long),
    },
    Suite {
        name: "hostile-long",
        about: "204,000 images made to do harm, on the plain and the debug kernel",
        minutes: 35,
        processors: 2,
        when: When::All,
        run: Run::OnKernels(LONG, hostile::run_long),
    },
    Suite {
        name: "fuzz",
        about: "coverage-guided fuzzing of parsers on the host: images, old ones, signatures",
        minutes: 20,
        processors: 2,
        when: When::All,
        run: Run::Whole(fuzz::run),
    },
    Suite {
        name: "foreign",
        about: "the tests of the parser on machines of 32 bits, and of the other byte order",
        minutes: 10,
        processors: 2,
        when: When::All,
        run: Run::Whole(foreign::run),
    },
    Suite {
        name: "fuzz-kernel",
        about: "fuzzing of the module in the guest, guided by the code that runs there",
        minutes: 12,
        processors: 1,
        when: When::All,
        run: Run::Whole(fuzz_kernel::run),
    },
    Suite {
        name: "defects",
        about: "mistakes in the module, which the tests have to find",
        minutes: 2,
        processors: 1,
        when: When::All,
        run: Run::Pieces {
            list: defects::list,
            run: defects::run,
        },
    },
];

#[cfg(test)]
mod tests {
    use super::super::suite::Reads;
    use super::*;

    #[test]
    fn suites_that_read_texts_are_known() {
        let all = SUITES.iter().filter(|suite| suite.reads() == Reads::All);
        let names: Vec<&str> = all.map(|suite| suite.name).collect();
        assert_eq!(names, ["host", "patches", "packages"]);
    }
}
