// SPDX-License-Identifier: GPL-2.0

//! The user's terminal, which the guest's shell uses.

use std::io;

use anyhow::Context as _;
use anyhow::Result;
use rustix::termios::OptionalActions;
use rustix::termios::Termios;
use rustix::termios::tcgetattr;
use rustix::termios::tcgetwinsize;
use rustix::termios::tcsetattr;

/// Ctrl-]: three of these in a row stop the guest, even if it hangs.
pub const ESCAPE: u8 = 0x1d;

/// The terminal in raw mode, restored when dropped.
pub struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Switches standard input to raw mode.
    ///
    /// # Errors
    ///
    /// When standard input is no terminal.
    pub fn enter() -> Result<Self> {
        let before = tcgetattr(io::stdin()).context(
            "a shell in the guest needs a terminal; run a command instead: \
             add `-- COMMAND`",
        )?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
    }
}

/// Rows and columns of the terminal.
pub fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(io::stdin()).ok()?;
    (size.ws_row > 0).then_some((size.ws_row, size.ws_col))
}
