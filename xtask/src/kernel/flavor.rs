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
}

impl Flavor {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Debug => "debug",
            Self::Patched => "patched",
        }
    }

    /// Whether composefs is loaded as a module.
    pub fn takes_module(self) -> bool {
        self != Self::Patched
    }

    /// Whether this is the debug kernel.
    pub fn is_debug(self) -> bool {
        self == Self::Debug
    }

    /// Its files in scripts/config. A later file overrides an earlier one.
    pub fn fragments(self) -> &'static [&'static str] {
        match self {
            Self::Plain | Self::Patched => &["base.config"],
            Self::Debug => &["base.config", "debug.config"],
        }
    }
}
