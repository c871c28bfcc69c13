// SPDX-License-Identifier: GPL-2.0

//! What a user sees of long work, and what is kept of it in files.

mod command;
mod course;
mod screen;
mod step;
mod words;

pub use command::output;
pub use course::Course;
pub use course::Piece;
pub use course::Stage;
pub use screen::Transcript;
pub use screen::print;
pub use screen::say;
pub use step::Step;
pub use words::about;
pub use words::human;
pub use words::tail;
