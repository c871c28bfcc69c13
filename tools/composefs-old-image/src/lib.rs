// SPDX-License-Identifier: GPL-2.0

//! Reads composefs images of early 2023, and writes what is in them as a dump: the text of
//! composefs-dump(5), from which `mkcomposefs --from-file` makes an image of today's format.
//!
//! The first patch series that brought composefs to the kernel had a format of its own.
//! `mkcomposefs --format=composefs` of release 0.1.1 wrote it. The dump has all that such an image
//! holds, but for the times of the last status change, which today's format does not have.
//!
//! The image is hostile: every byte may have any value. Nothing here panics, and an image of N bytes
//! takes N/12 bytes of memory beside its own and time in proportion to the dump, whose length has a
//! limit.
//!
//! | file         | contents                                                 |
//! |--------------|----------------------------------------------------------|
//! | `raw.rs`     | the structures of the format, as they are stored         |
//! | `image.rs`   | [`Image`]: header, inodes, and the data that they name   |
//! | `dir.rs`     | entries of a directory                                   |
//! | `xattrs.rs`  | extended attributes                                      |
//! | `text.rs`    | fields of the dump                                       |
//! | `walk.rs`    | [`dump`]: the tree, file by file                         |
//! | `error.rs`   | what can be wrong                                        |

#![deny(
    unsafe_code,
    missing_docs,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::cast_lossless,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::todo,
    clippy::unimplemented,
    clippy::unreachable,
    clippy::unwrap_used
)]

mod dir;
mod error;
mod image;
mod raw;
mod text;
mod walk;
mod xattrs;

pub use crate::error::Error;
pub use crate::image::HEADER_SIZE;
pub use crate::image::Image;
pub use crate::walk::dump;
pub use crate::walk::usual_limit;
