// SPDX-License-Identifier: GPL-2.0

//! What is said when something fails, and the exit status.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::io;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::ExitCode;

use composefs_mount::Error;
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::command::USAGE;

/// The exit statuses of mount(8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The command line or an option is wrong.
    Usage = 1,
    /// The system has no memory, or no more open files.
    System = 2,
    /// A signal interrupted a system call.
    Interrupted = 8,
    /// The mount failed.
    Mount = 32,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Exit {
    fn of(errno: Errno) -> Self {
        match errno {
            Errno::NOMEM | Errno::MFILE | Errno::NFILE => Self::System,
            Errno::INTR => Self::Interrupted,
            _ => Self::Mount,
        }
    }
}

/// A failure as the user sees it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit status.
    pub(crate) exit: Exit,
    /// What to say, a line each. Paths are in it as they were given, whatever bytes they have.
    pub(crate) lines: Vec<OsString>,
    /// Whether the usage follows.
    usage: bool,
}

impl Failure {
    /// A wrong command line. The usage follows.
    pub(crate) fn usage(line: &[&dyn AsRef<OsStr>]) -> Self {
        Self {
            usage: true,
            ..Self::options(line)
        }
    }

    /// A wrong option.
    pub(crate) fn options(line: &[&dyn AsRef<OsStr>]) -> Self {
        Self::new(Exit::Usage, line)
    }

    /// The system cannot do something.
    pub(crate) fn system(line: &[&dyn AsRef<OsStr>]) -> Self {
        Self::new(Exit::System, line)
    }

    /// Something cannot be opened.
    pub(crate) fn open(what: &str, path: &dyn AsRef<OsStr>, errno: Errno) -> Self {
        let line: &[&dyn AsRef<OsStr>] =
            &[&"Failed to open ", &what, path, &": ", &reason_of(errno)];
        Self::new(Exit::of(errno), line)
    }

    /// A mount namespace cannot be entered.
    pub(crate) fn namespace(path: &Path, errno: Errno) -> Self {
        let line: &[&dyn AsRef<OsStr>] = &[
            &"Failed to enter mount namespace ",
            &path,
            &": ",
            &reason_of(errno),
        ];
        Self::new(Exit::of(errno), line)
    }

    /// An image cannot be mounted.
    pub(crate) fn mount(image: &Path, error: &Error) -> Self {
        let what = match error {
            // It was opened.
            Error::Image {
                errno: errno @ Errno::ISDIR,
                ..
            } => reason_of(*errno),
            Error::Image { errno, .. } => return Self::open("", &image, *errno),
            Error::NoVerity { .. } => "Image has no fs-verity".to_owned(),
            Error::WrongVerity { .. } => "Image has wrong fs-verity".to_owned(),
            other => reason_of(other.errno()),
        };
        let first: &[&dyn AsRef<OsStr>] = &[&"Failed to mount composefs ", &image, &": ", &what];
        Self::with_details(first, error)
    }

    /// A mount cannot be changed.
    pub(crate) fn remount(target: &Path, error: &Error) -> Self {
        let what = reason_of(error.errno());
        let first: &[&dyn AsRef<OsStr>] = &[&"Failed to remount composefs ", &target, &": ", &what];
        let mut failure = Self::with_details(first, error);
        // Here the first line does not name it.
        if let Error::Image { image, .. } = error {
            let line = format!("image {image}: cannot be opened");
            failure.lines.push(line.into());
        }
        failure
    }

    fn with_details(first: &[&dyn AsRef<OsStr>], error: &Error) -> Self {
        let mut failure = Self::new(Exit::of(error.errno()), first);
        let details = details(error).into_iter().map(OsString::from);
        failure.lines.extend(details);
        failure
    }

    fn new(exit: Exit, line: &[&dyn AsRef<OsStr>]) -> Self {
        let line: Vec<&OsStr> = line.iter().map(|part| part.as_ref()).collect();
        Self {
            exit,
            lines: vec![line.join(OsStr::new(""))],
            usage: false,
        }
    }

    /// Prints what there is to say.
    pub(crate) fn print(&self) {
        let mut text = Vec::new();
        for line in &self.lines {
            text.extend_from_slice(b"mount.composefs: ");
            text.extend_from_slice(line.as_bytes());
            text.push(b'\n');
        }
        if self.usage {
            text.extend_from_slice(USAGE.as_bytes());
        }
        // There is nobody else to tell.
        let _ = io::stderr().write_all(&text);
    }
}

/// What the kernel said, or what else is known, and what to do.
fn details(error: &Error) -> Vec<String> {
    let mut lines = match error {
        Error::FileSystem {
            doing, messages, ..
        } if messages.is_empty() => vec![doing.clone()],
        Error::FileSystem { messages, .. } => messages.clone(),
        Error::WrongVerity {
            expected, found, ..
        } => vec![format!("expected {expected}, found {found}")],
        Error::NoVerity { .. } | Error::Image { .. } => Vec::new(),
        // The first line has the reason.
        Error::Directory { what, name, .. } => vec![format!("{what} {name}: cannot be opened")],
        Error::Target { target, .. } => vec![format!("mount point {target}")],
        other => vec![other.to_string()],
    };
    let advice = match (error, error.errno()) {
        (Error::NoVerity { .. }, _) => "enable it: fsverity enable IMAGE",
        (Error::FileSystem { .. }, Errno::PERM) if !geteuid().is_root() => "only root can mount",
        (Error::FileSystem { .. }, Errno::NODEV) => {
            "load the module composefs, or else erofs and overlay"
        }
        (Error::FileSystem { .. }, Errno::UCLEAN) => "make the image again",
        _ => return lines,
    };
    lines.push(advice.to_owned());
    lines
}

/// The text of an error, as strerror(3) has it.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match (text.rsplit_once(" (os error "), error.raw_os_error()) {
        (Some((text, _)), Some(_)) => text.to_owned(),
        _ => text,
    }
}

fn reason_of(errno: Errno) -> String {
    reason(&errno.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_no_numbers() {
        assert_eq!(reason_of(Errno::NOENT), "No such file or directory");
        assert_eq!(
            reason(&io::Error::other("x (os error 2)")),
            "x (os error 2)"
        );
    }

    #[test]
    fn names_are_printed_as_they_were_given() {
        let name = OsStr::from_bytes(b"\xff");
        let failure = Failure::open("", &name, Errno::NOENT);
        let line: &[u8] = b"Failed to open \xff: No such file or directory";
        assert_eq!(failure.lines, [OsStr::from_bytes(line)]);
        assert_eq!(failure.exit, Exit::Mount);
    }

    #[test]
    fn the_messages_of_the_kernel_follow() {
        let error = Error::FileSystem {
            doing: "composefs: mounting".to_owned(),
            errno: Errno::INVAL,
            messages: vec!["composefs: one".to_owned(), "composefs: two".to_owned()],
        };
        let failure = Failure::mount(Path::new("a"), &error);
        let first = "Failed to mount composefs a: Invalid argument";
        assert_eq!(failure.lines, [first, "composefs: one", "composefs: two"]);
    }

    #[test]
    fn a_remount_names_the_image_that_is_missing() {
        let error = Error::Image {
            image: "/a".to_owned(),
            errno: Errno::NOENT,
        };
        let failure = Failure::remount(Path::new("/m"), &error);
        let first = "Failed to remount composefs /m: No such file or directory";
        assert_eq!(failure.lines, [first, "image /a: cannot be opened"]);
    }

    #[test]
    fn no_memory_is_a_failure_of_the_system() {
        let failure = Failure::open("", &"x", Errno::NOMEM);
        assert_eq!(failure.exit, Exit::System);
    }
}
