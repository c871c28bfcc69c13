// SPDX-License-Identifier: GPL-2.0

//! Fields of the dump: composefs-dump(5) has the rules.

use std::fmt;
use std::io::Write;

use crate::error::Error;
use crate::image::to_u64;

/// Where the dump goes. It has a limit, because a small image can ask for a very long one: any
/// number of files may share the same attributes.
pub(crate) struct Text<W> {
    writer: W,
    limit: u64,
    written: u64,
}

impl<W: Write> Text<W> {
    pub(crate) fn new(writer: W, limit: u64) -> Self {
        Self {
            writer,
            limit,
            written: 0,
        }
    }

    /// Writes bytes as they are.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.written = self.written.saturating_add(to_u64(bytes.len()));
        if self.written > self.limit {
            return Err(Error::TooLong(self.limit));
        }
        Ok(self.writer.write_all(bytes)?)
    }

    /// Writes numbers.
    pub(crate) fn format(&mut self, arguments: fmt::Arguments<'_>) -> Result<(), Error> {
        self.put(arguments.to_string().as_bytes())
    }

    /// Writes a field that is `-` if it is empty.
    pub(crate) fn optional(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match bytes {
            b"" => self.put(b"-"),
            b"-" => self.put(b"\\x2d"),
            _ => self.escaped(bytes, false),
        }
    }

    /// Writes the name and the value of an attribute.
    pub(crate) fn xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), Error> {
        self.put(b" ")?;
        self.escaped(name, true)?;
        self.put(b"=")?;
        self.escaped(value, true)
    }

    fn escaped(&mut self, bytes: &[u8], equals: bool) -> Result<(), Error> {
        let plain = |byte: &u8| match byte {
            b'\\' => false,
            b'=' => !equals,
            _ => byte.is_ascii_graphic(),
        };
        for run in bytes.chunk_by(|one, other| plain(one) && plain(other)) {
            match run {
                // mkcomposefs reads no field of 64 KiB or more: what has a short form gets it.
                b"\\" => self.put(b"\\\\")?,
                b"\n" => self.put(b"\\n")?,
                b"\r" => self.put(b"\\r")?,
                b"\t" => self.put(b"\\t")?,
                [byte] if !plain(byte) => self.format(format_args!("\\x{byte:02x}"))?,
                _ => self.put(run)?,
            }
        }
        Ok(())
    }

    /// Writes what is held back.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        Ok(self.writer.flush()?)
    }
}
