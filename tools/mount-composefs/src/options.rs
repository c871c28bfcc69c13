// SPDX-License-Identifier: GPL-2.0

//! What the options mean.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use composefs_mount::Prefer;
use composefs_mount::Verity;

use crate::failure::Failure;
use crate::flags::Flags;
use crate::optstr;

/// Options that concern mount(8), or that have no meaning for a file system that is read-only.
const IGNORED: [&[u8]; 17] = [
    b"_netdev",
    b"_rnetdev",
    b"auto",
    b"comment",
    b"defaults",
    b"helper",
    b"iversion",
    b"mand",
    b"noauto",
    b"nogroup",
    b"noiversion",
    b"nomand",
    b"noowner",
    b"nouser",
    b"nousers",
    b"seclabel",
    b"uhelper",
];

/// Options of security modules.
const LABELS: [&[u8]; 4] = [b"context", b"defcontext", b"fscontext", b"rootcontext"];

/// What the mount table shows of a mount, but no option here. mount(8) passes it to a remount.
const SHOWN: [&[u8]; 2] = [b"escaped", b"idmapped"];

/// What the options of the command line ask for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) basedirs: Vec<PathBuf>,
    pub(crate) digest: Option<String>,
    pub(crate) signature: Option<PathBuf>,
    pub(crate) signed: bool,
    pub(crate) upperdir: Option<PathBuf>,
    pub(crate) workdir: Option<PathBuf>,
    pub(crate) idmap: Option<PathBuf>,
    pub(crate) image: Option<PathBuf>,
    pub(crate) prefer: Prefer,
    pub(crate) remount: bool,
    /// An image that does not exist is no failure.
    pub(crate) nofail: bool,
    pub(crate) flags: Flags,
    /// Options of security modules, with their values.
    pub(crate) labels: Vec<(String, String)>,
    words: Words,
}

/// Which of the words about verity were given since the last `noverity`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Words {
    verity: bool,
    tryverity: bool,
    noverity: bool,
}

impl Options {
    /// The options of some lists. `sloppy` ignores unknown ones.
    ///
    /// # Errors
    ///
    /// An option that is unknown, or whose value is wrong, or that options contradict each other.
    pub(crate) fn parse(lists: &[OsString], sloppy: bool) -> Result<Self, Failure> {
        let mut options = Self::default();
        let mut unknown = Vec::new();
        for list in lists {
            for (key, value) in optstr::options(list.as_bytes()) {
                if !options.apply(key, value)? {
                    unknown.push(key);
                }
            }
        }
        if options.remount {
            unknown.retain(|key| !SHOWN.contains(key));
        }
        if let Some(key) = unknown.first()
            && !sloppy
        {
            let key = text(key);
            return Err(Failure::options(&[&"Unsupported option ", &key]));
        }
        options.check().map(|()| options)
    }

    /// Checks the options together.
    fn check(&self) -> Result<(), Failure> {
        if self.basedirs.is_empty() && !self.remount {
            return Err(Failure::usage(&[&"No object dirs specified"]));
        }
        if self.upperdir.is_some() != self.workdir.is_some() {
            return Err(Failure::options(&[
                &"Both workdir and upperdir must be specified if used",
            ]));
        }
        if let Some(option) = self.pinned_by()
            && self.words.noverity
        {
            return Err(Failure::options(&[&option, &" excludes noverity"]));
        }
        Ok(())
    }

    /// The name of an option that pins the image.
    fn pinned_by(&self) -> Option<&'static str> {
        match (&self.digest, &self.signature, self.signed) {
            (Some(_), _, _) => Some("digest"),
            (None, Some(_), _) => Some("signature"),
            (None, None, true) => Some("signed"),
            (None, None, false) => None,
        }
    }

    /// Applies one option. Returns whether it is known.
    fn apply(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<bool, Failure> {
        match key {
            b"basedir" => {
                let names = optstr::names(needed(key, value)?).ok_or_else(|| {
                    Failure::options(&[&"Value for basedir option has incorrect format"])
                })?;
                self.basedirs.extend(names.into_iter().map(PathBuf::from));
            }
            b"digest" => {
                // A variable of a script that is empty must not mount just any image.
                let value = value.filter(|value| !value.is_empty());
                let value = optstr::unescaped(needed(key, value)?);
                self.digest = Some(value.to_string_lossy().into_owned());
            }
            b"signature" => {
                let value = value.filter(|value| !value.is_empty());
                self.signature = Some(path(key, value)?);
            }
            b"signed" if value.is_none() => self.signed = true,
            b"upperdir" => self.upperdir = Some(path(key, value)?),
            b"workdir" => self.workdir = Some(path(key, value)?),
            b"idmap" => self.idmap = Some(path(key, value)?),
            b"image" => self.image = Some(path(key, value)?),
            b"prefer" => {
                self.prefer = match needed(key, value)? {
                    b"native" => Prefer::Native,
                    b"stack" => Prefer::Stack,
                    other => {
                        let other = text(other);
                        return Err(Failure::options(&[
                            &"Value for prefer option must be native or stack, not '",
                            &other,
                            &"'",
                        ]));
                    }
                }
            }
            b"verity" => {
                self.words.verity = true;
                self.words.noverity = false;
            }
            b"tryverity" => {
                self.words.tryverity = true;
                self.words.noverity = false;
            }
            b"noverity" if value.is_none() => {
                self.words = Words {
                    noverity: true,
                    ..Words::default()
                }
            }
            b"nofail" => self.nofail = true,
            b"remount" if value.is_none() => self.remount = true,
            _ if LABELS.contains(&key) => {
                let value = unquoted(needed(key, value)?);
                let strings = [text(key), text(value)].map(|text| text.into_string());
                let [Ok(key), Ok(value)] = strings else {
                    let key = text(key);
                    return Err(Failure::options(&[&"Value for ", &key, &" is not text"]));
                };
                self.labels.push((key, value));
            }
            // The values of flags are ignored: mount(8) writes user=NAME.
            _ if self.flags.apply(key) => {}
            _ => return Ok(ignored(key)),
        }
        Ok(true)
    }

    /// Which objects must have their digest, for a mount. The default is that of the composefs
    /// project's program, which checks nothing.
    pub(crate) fn verity(&self) -> Verity {
        match (self.words, self.pinned_by()) {
            (Words { verity: true, .. }, _) | (_, Some(_)) => Verity::Required,
            (
                Words {
                    tryverity: true, ..
                },
                _,
            ) => Verity::Try,
            _ => Verity::Off,
        }
    }

    /// What a remount says about verity: only what was asked for is compared with what the mount
    /// has. `tryverity` may have become something else.
    pub(crate) fn verity_of_remount(&self) -> Verity {
        match self.words {
            Words { noverity: true, .. } => Verity::Off,
            Words { verity: true, .. } => Verity::Required,
            _ => Verity::On,
        }
    }
}

fn ignored(key: &[u8]) -> bool {
    IGNORED.contains(&key) || key.starts_with(b"x-") || key.starts_with(b"X-")
}

/// The value of an option that needs one.
fn needed<'a>(key: &[u8], value: Option<&'a [u8]>) -> Result<&'a [u8], Failure> {
    value.ok_or_else(|| {
        let key = text(key);
        Failure::options(&[&"No value specified for ", &key, &" option"])
    })
}

/// The value of an option that names a file or a directory.
fn path(key: &[u8], value: Option<&[u8]>) -> Result<PathBuf, Failure> {
    needed(key, value).map(|value| optstr::unescaped(value).into())
}

/// A value without the quotes around it.
fn unquoted(value: &[u8]) -> &[u8] {
    let inner = value.strip_prefix(b"\"");
    let inner = inner.and_then(|value| value.strip_suffix(b"\""));
    inner.unwrap_or(value)
}

fn text(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// The options of a list. For a mount, they have a directory.
    fn options(list: &str) -> Result<Options, Failure> {
        Options::parse(&[list.into(), "basedir=/a".into()], false)
    }

    #[test]
    fn directories_are_appended() {
        let options = options(r"basedir=/a:/b\:c,basedir=d\,e").unwrap();
        let expected = ["/a", "/b:c", "d,e", "/a"].map(PathBuf::from);
        assert_eq!(options.basedirs, expected);
    }

    #[test]
    fn words_about_verity() {
        for (list, expected) in [
            ("", Verity::Off),
            ("verity", Verity::Required),
            ("tryverity", Verity::Try),
            ("verity,tryverity", Verity::Required),
            ("tryverity,verity", Verity::Required),
            ("noverity", Verity::Off),
            ("verity,noverity", Verity::Off),
            ("noverity,tryverity", Verity::Try),
            ("verity,noverity,tryverity", Verity::Try),
            ("digest=x", Verity::Required),
            ("digest=x,tryverity", Verity::Required),
            ("signature=x", Verity::Required),
            ("signed", Verity::Required),
        ] {
            assert_eq!(options(list).unwrap().verity(), expected, "{list}");
        }
    }

    #[test]
    fn a_remount_compares_only_what_is_named() {
        for (list, expected) in [
            ("", Verity::On),
            ("tryverity", Verity::On),
            ("digest=x", Verity::On),
            ("verity", Verity::Required),
            ("noverity", Verity::Off),
        ] {
            let options = options(&format!("remount,{list}")).unwrap();
            assert_eq!(options.verity_of_remount(), expected, "{list}");
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (list, message) in [
            ("nonsense", "Unsupported option nonsense"),
            ("ro,nonsense=1", "Unsupported option nonsense"),
            ("idmapped", "Unsupported option idmapped"),
            ("remount,nonsense", "Unsupported option nonsense"),
            ("digest=x,noverity", "digest excludes noverity"),
            ("noverity,digest=x", "digest excludes noverity"),
            ("signature=x,noverity", "signature excludes noverity"),
            ("noverity,signed", "signed excludes noverity"),
            ("signed=1", "Unsupported option signed"),
            (
                "upperdir=/u",
                "Both workdir and upperdir must be specified if used",
            ),
            (
                "workdir=/w",
                "Both workdir and upperdir must be specified if used",
            ),
            ("basedir", "No value specified for basedir option"),
            ("digest=", "No value specified for digest option"),
            ("digest", "No value specified for digest option"),
            ("signature=", "No value specified for signature option"),
            ("signature", "No value specified for signature option"),
            ("upperdir", "No value specified for upperdir option"),
            ("workdir", "No value specified for workdir option"),
            ("idmap", "No value specified for idmap option"),
            ("image", "No value specified for image option"),
            ("context", "No value specified for context option"),
            (
                "basedir=/a::/b",
                "Value for basedir option has incorrect format",
            ),
            (
                "prefer=x",
                "Value for prefer option must be native or stack, not 'x'",
            ),
        ] {
            assert_eq!(options(list).unwrap_err().lines, [message], "{list}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_options_or_refused(list in vec(any::<u8>(), 0..100)) {
            let list = OsString::from_vec(list);
            for sloppy in [false, true] {
                let _ = Options::parse(from_ref(&list), sloppy);
            }
        }

        #[test]
        fn any_values_are_taken_or_refused(
            key in "basedir|digest|signature|signed|verity|upperdir|idmap|image|prefer|context|remount|ro",
            value in vec(any::<u8>(), 0..50),
        ) {
            let list = [key.as_bytes(), b"=", &value].concat();
            let _ = Options::parse(&[OsString::from_vec(list)], false);
        }
    }

    #[test]
    fn a_remount_needs_nothing_and_takes_what_is_shown() {
        for list in ["remount", "idmapped,escaped,remount", "remount,idmapped"] {
            assert!(Options::parse(&[list.into()], false).is_ok(), "{list}");
        }
        let missing = Options::parse(&["ro".into()], false).unwrap_err();
        assert_eq!(missing.lines, ["No object dirs specified"]);
    }

    #[test]
    fn unknown_options_can_be_ignored() {
        let sloppy = |list: &str| Options::parse(&[list.into()], true);
        let mut expected = Flags::default();
        expected.apply(b"ro");
        assert_eq!(sloppy("nonsense,ro,basedir=/a").unwrap().flags, expected);
        // A known option without its value is still an error.
        assert!(sloppy("basedir").is_err());
    }

    #[test]
    fn what_concerns_others_is_ignored() {
        let list = "defaults,noauto,_netdev,comment=a,x-systemd.automount,X-mount.mkdir=1";
        assert_eq!(options(list), options(""));
    }

    #[test]
    fn labels_may_be_in_quotes() {
        let options = options(r#"context="u:r:t:c0,c1",rootcontext=u:r:t"#).unwrap();
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let expected = [
            label("context", "u:r:t:c0,c1"),
            label("rootcontext", "u:r:t"),
        ];
        assert_eq!(options.labels, expected);
    }
}
