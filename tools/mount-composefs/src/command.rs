// SPDX-License-Identifier: GPL-2.0

//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::Arg;
use lexopt::Parser;

use crate::failure::Failure;

/// What `--help` prints, and what follows a message about a wrong command line.
pub(crate) const USAGE: &str = "\
usage: mount.composefs [-fnsv] [-t composefs] [-o OPTION[,OPTION...]] [-N NAMESPACE]
                       IMAGE MOUNTPOINT
Mounts a composefs image. For example:
  mount.composefs -o basedir=/composefs/objects example.cfs /mnt
  mount -t composefs -o basedir=/composefs/objects example.cfs /mnt

Options of the file system:
  basedir=DIR[:DIR...]    directories of objects; needed
  digest=DIGEST           the fs-verity digest that the image must have
  signature=FILE          a signature of the image, by a key that the kernel trusts
  signed                  the file of the image must have a signature of its own
  verity                  every object must have the digest that the image names
  tryverity               as verity, if the kernel can
  noverity                digests are not checked; the default
  upperdir=DIR            changes are written here
  workdir=DIR             belongs to upperdir
  idmap=FILE              maps the owners by a user namespace, /proc/PID/ns/user
  image=FILE              the image; IMAGE is then only the name of the mount
  prefer=native|stack     the file system composefs (the default), or erofs + overlayfs
  remount                 changes the flags of a mount
and those of every file system: ro, nodev, nosuid, noexec, noatime, context=... See mount(8).

  -o OPTIONS              options, separated by commas; may be repeated
  -f                      checks everything, but does not mount
  -s                      ignores unknown options
  -v                      says how the image was mounted
  -N NAMESPACE            mounts in this mount namespace: a process, or a path
  -t composefs, -n        do nothing
  -h, --help              prints this
  -V, --version           prints the version
";

/// What `--version` prints.
pub(crate) const VERSION: &str = concat!("mount.composefs ", env!("CARGO_PKG_VERSION"), "\n");

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// The usage.
    Help,
    /// The version.
    Version,
    /// A mount, or a remount.
    Mount(Command),
}

/// The words of the command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Command {
    /// The image, or the name of the mount if an option names the image.
    pub(crate) source: PathBuf,
    /// The mount point.
    pub(crate) target: PathBuf,
    /// The values of all `-o`, in order.
    pub(crate) options: Vec<OsString>,
    /// `-f`: do not mount.
    pub(crate) fake: bool,
    /// `-s`: ignore unknown options.
    pub(crate) sloppy: bool,
    /// `-v`: say how the image was mounted.
    pub(crate) verbose: bool,
    /// `-N`: a mount namespace.
    pub(crate) namespace: Option<OsString>,
}

/// Reads the command line.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn parse(mut parser: Parser) -> Result<Request, Failure> {
    // As getopt(3): the value in -o=x is "=x".
    parser.set_short_equals(false);
    let mut command = Command::default();
    let mut positional = Vec::new();
    let wrong = |error: lexopt::Error| Failure::usage(&[&error.to_string()]);
    while let Some(argument) = parser.next().map_err(wrong)? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Request::Help),
            Arg::Short('V') | Arg::Long("version") => return Ok(Request::Version),
            Arg::Short('o') => command.options.push(value(&mut parser, "o")?),
            Arg::Short('t') => check_type(value(&mut parser, "t")?)?,
            Arg::Short('N') => command.namespace = Some(value(&mut parser, "N")?),
            Arg::Short('f') => command.fake = true,
            Arg::Short('n') => {}
            Arg::Short('s') => command.sloppy = true,
            Arg::Short('v') => command.verbose = true,
            Arg::Value(word) => positional.push(word),
            Arg::Short(letter) => {
                let letter = letter.to_string();
                return Err(Failure::usage(&[&"invalid option -- '", &letter, &"'"]));
            }
            Arg::Long(word) => {
                return Err(Failure::usage(&[&"unrecognized option '--", &word, &"'"]));
            }
        }
    }
    let mut positional = positional.into_iter();
    let mut path = |missing: &str| match positional.next() {
        Some(word) => Ok(PathBuf::from(word)),
        None => Err(Failure::usage(&[&missing])),
    };
    command.source = path("No source path specified")?;
    command.target = path("No mount path specified")?;
    if let Some(word) = positional.next() {
        return Err(Failure::usage(&[&"Unexpected argument ", &word]));
    }
    Ok(Request::Mount(command))
}

/// The value of an option. It may begin with a dash.
fn value(parser: &mut Parser, letter: &str) -> Result<OsString, Failure> {
    parser
        .value()
        .map_err(|_| Failure::usage(&[&"option requires an argument -- '", &letter, &"'"]))
}

fn check_type(name: OsString) -> Result<(), Failure> {
    match name == "composefs" {
        true => Ok(()),
        false => Err(Failure::options(&[&"Unsupported fs type '", &name, &"'"])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Result<Command, Failure> {
        match parse(Parser::from_args(words))? {
            Request::Mount(command) => Ok(command),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_may_follow_the_paths() {
        let command = words(&[
            "a.cfs",
            "/mnt",
            "-sfnv",
            "-N",
            "12",
            "-o",
            "x,y",
            "-oz",
            "-t",
            "composefs",
        ]);
        let expected = Command {
            source: "a.cfs".into(),
            target: "/mnt".into(),
            options: vec!["x,y".into(), "z".into()],
            fake: true,
            sloppy: true,
            verbose: true,
            namespace: Some("12".into()),
        };
        assert_eq!(command, Ok(expected));
    }

    #[test]
    fn two_dashes_end_the_options() {
        let command = words(&["-v", "--", "-o", "-f"]).unwrap();
        assert_eq!(command.source, PathBuf::from("-o"));
        assert_eq!(command.target, PathBuf::from("-f"));
        assert!(!command.fake);
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (wrong, message) in [
            (&[][..], "No source path specified"),
            (&["a"], "No mount path specified"),
            (&["a", "b", "c"], "Unexpected argument c"),
            (&["-t", "ext4", "a", "b"], "Unsupported fs type 'ext4'"),
            (&["-o"], "option requires an argument -- 'o'"),
            (&["-x"], "invalid option -- 'x'"),
            (&["-v=x"], "invalid option -- '='"),
            (&["--foo"], "unrecognized option '--foo'"),
        ] {
            assert_eq!(words(wrong).unwrap_err().lines, [message], "{wrong:?}");
        }
    }

    #[test]
    fn help_and_version_need_nothing_else() {
        for (word, request) in [
            ("-h", Request::Help),
            ("--help", Request::Help),
            ("-V", Request::Version),
            ("--version", Request::Version),
        ] {
            assert_eq!(parse(Parser::from_args(["a", word])), Ok(request));
        }
    }
}
