// SPDX-License-Identifier: GPL-2.0

//! The few instructions of x86-64 that have to be known.

/// What ends an interrupt or an exception.
pub const IRETQ: [u8; 2] = [0x48, 0xcf];

/// What an instruction does to the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Nothing that matters.
    Plain,
    /// It calls.
    Call,
    /// It returns.
    Return,
}

impl Role {
    /// That of an instruction.
    pub fn of(bytes: &[u8]) -> Self {
        // Segments, sizes, and what some kernels put before a call for other reasons.
        let is_prefix = |byte: &u8| matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x66);
        let start = bytes.iter().take_while(|byte| is_prefix(byte)).count();
        match &bytes[start..] {
            [0xe8, ..] => Self::Call,
            // The middle of the second byte says which of several instructions it is.
            [0xff, second, ..] if (second >> 3) & 7 == 2 => Self::Call,
            [0xc3 | 0xc2, ..] | [0xf2 | 0xf3, 0xc3, ..] => Self::Return,
            _ => Self::Plain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_returns_are_known() {
        let calls: [&[u8]; 4] = [
            &[0xe8, 0, 0, 0, 0],
            &[0xff, 0xd0],
            &[0x41, 0xff, 0xd3],
            &[0xff, 0x50, 0x18],
        ];
        for call in calls {
            assert_eq!(Role::of(call), Role::Call, "{call:x?}");
        }
        let returns: [&[u8]; 3] = [&[0xc3], &[0xf3, 0xc3], &[0xc2, 8, 0]];
        for bytes in returns {
            assert_eq!(Role::of(bytes), Role::Return, "{bytes:x?}");
        }
        // jmp, push, inc, mov, iretq
        let others: [&[u8]; 5] = [
            &[0xff, 0xe0],
            &[0xff, 0x30],
            &[0xff, 0x00],
            &[0x48, 0x89, 0xd8],
            &IRETQ,
        ];
        for bytes in others {
            assert_eq!(Role::of(bytes), Role::Plain, "{bytes:x?}");
        }
    }
}
