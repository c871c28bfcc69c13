// SPDX-License-Identifier: GPL-2.0

//! The kernels that the guest can boot.

/// One of the guest's kernels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Flavor {
    /// Linux without changes
    #[default]
    Plain,
    /// With sanitizers, lock checking and fault injection; slow
    Debug,
    /// The plain one, with composefs built in
    Patched,
    /// The debug one, with composefs built in
    PatchedDebug,
    /// Debian's own, from its package
    Debian,
}

impl Flavor {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Debug => "debug",
            Self::Patched => "patched",
            Self::PatchedDebug => "patched-debug",
            Self::Debian => "debian",
        }
    }

    /// Whether composefs is loaded as a module.
    pub fn takes_module(self) -> bool {
        !matches!(self, Self::Patched | Self::PatchedDebug)
    }

    /// Whether it has all checks, and is slow.
    pub fn is_debug(self) -> bool {
        matches!(self, Self::Debug | Self::PatchedDebug)
    }

    /// The kernel that makes disks for this one. All make the same, but the debug kernel is slow,
    /// and Debian's need not be built.
    pub fn for_disks(self) -> Self {
        match self {
            Self::Plain | Self::Patched => Self::Plain,
            Self::Debug | Self::PatchedDebug | Self::Debian => Self::Debian,
        }
    }

    /// Its files in scripts/config, if it is built here. A later file overrides an earlier one.
    pub fn fragments(self) -> &'static [&'static str] {
        match self {
            Self::Plain | Self::Patched => &["base.config", "plain.config"],
            Self::Debug | Self::PatchedDebug => &["base.config", "debug.config"],
            Self::Debian => &[],
        }
    }
}
