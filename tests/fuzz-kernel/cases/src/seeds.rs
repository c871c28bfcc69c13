// SPDX-License-Identifier: GPL-2.0

//! The good images: their trees as text, which mkcomposefs turns into images, and the objects.
//!
//! mkcomposefs makes the same image of the same text wherever it runs, so a case can say at which
//! byte it changes one.

use std::fmt::Write as _;
use std::fs;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::LazyLock;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;

use crate::case::hex;
use crate::sys;

/// Their names, in the order of their numbers.
pub const NAMES: [&str; 4] = ["small-v0", "small-v1", "wide-v0", "wide-v1"];

/// Number of files in the wide directory.
const WIDE: usize = 300;

/// The objects: their path in the tree, and their length.
pub const OBJECTS: [(&str, usize); 4] = [
    ("/small", 5000),
    ("/medium", 20_000),
    ("/large", 300_000),
    ("/undigested", 6000),
];

/// Which of [`OBJECTS`] the image names without a digest.
pub const UNDIGESTED: usize = 3;

/// The tree, with places for the paths and digests of the objects.
const TREE: &str = r"/ 0 40755 6 0 0 0 1700000000.0 - - - security.selinux=system_u:object_r:root_t:s0\x00
/small 5000 100755 2 0 0 0 1700000000.5 <path0> - <digest0> user.a=1 security.selinux=system_u:object_r:bin_t:s0\x00
/medium 20000 104711 1 0 0 0 1700000001.0 <path1> - <digest1> security.capability=\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00
/large 300000 100644 1 1000 1000 0 1700000000.0 <path2> - <digest2> trusted.a=b
/undigested 6000 100644 1 0 0 0 1700000000.0 <path3> - -
/inline 12 100640 1 7 8 0 1700000000.0 - in-the-image -
/empty 0 100600 1 0 0 0 1700000000.0 - - -
/link 6 120777 1 0 0 0 1700000000.0 medium - -
/broken 5 120777 1 0 0 0 1700000000.0 no/no - - trusted.b=1
/null 0 20666 1 0 0 259 1700000000.0 - - -
/block 0 60660 1 0 6 1792 1700000000.0 - - -
/fifo 0 10644 1 0 0 0 1700000000.0 - - -
/acl 0 100640 1 5 5 0 1700000000.0 - - - system.posix_acl_access=\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x07\x00\xe8\x03\x00\x00\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x07\x00\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff
/dir 0 40755 3 0 0 0 1700000000.0 - - - trusted.overlay.overlay.opaque=y user.overlay.overlay.opaque=y
/dir/again 0 @100755 2 0 0 0 1700000000.5 /small - -
/dir/deep 0 40700 3 0 0 0 1700000000.0 - - -
/dir/deep/deeper 0 40755 2 0 0 0 1700000000.0 - - -
/dir/deep/deeper/file 3 100644 1 0 0 0 1700000000.0 - abc -
/sticky 0 41777 2 0 0 0 1700000000.0 - - - user.a=1 user.b=2 user.c=3
/sub 0 42775 2 0 50 0 1700000000.0 - - -
/sub/a 1 100644 1 0 0 0 1700000000.0 - a - user.a=1
";

/// Paths that are in no image, or lead to one that is by another way.
const STRANGE: [&str; 9] = [
    "/absent",
    "/dir/absent",
    "/small/below",
    "/dir/../small",
    "/dir/.",
    "/dir/",
    "/link/",
    "/dir/..",
    "/dir//deep/./deeper/../deeper/file",
];

/// The text of a tree, with the digests of the objects.
fn dump(wide: bool, digests: &[String]) -> String {
    let mut text = TREE.to_owned();
    if wide {
        text.push_str("/wide 0 40755 2 0 0 0 1700000000.0 - - -\n");
        for number in 0..WIDE {
            let path = wide_path(number);
            let _ = writeln!(
                text,
                "{path} 0 100644 1 0 0 0 1700000000.0 - - - user.number={}",
                number % 7
            );
        }
    }
    for (number, digest) in digests.iter().enumerate() {
        let (first, rest) = digest.split_at_checked(2).unwrap_or_default();
        text = text.replace(&format!("<path{number}>"), &format!("{first}/{rest}"));
        text = text.replace(&format!("<digest{number}>"), digest);
    }
    text
}

fn wide_path(number: usize) -> String {
    format!("/wide/{number:03}-{}", "n".repeat(number % 60))
}

/// All paths that operations use.
pub fn paths() -> &'static [String] {
    static PATHS: LazyLock<Vec<String>> = LazyLock::new(|| {
        let tree = TREE.lines().filter_map(|line| line.split(' ').next());
        let mut paths: Vec<String> = tree.map(str::to_owned).collect();
        paths.push("/wide".to_owned());
        paths.extend([0, 1, 128, WIDE - 1].map(wide_path));
        paths.extend(STRANGE.map(str::to_owned));
        for len in [255, 256] {
            paths.push(format!("/{}", "l".repeat(len)));
        }
        paths
    });
    &PATHS
}

/// The content of an object.
pub fn content(number: usize) -> Vec<u8> {
    let len = OBJECTS.get(number).map_or(0, |(_, len)| *len);
    // Each byte depends on where it is and in which object.
    (0..len)
        .map(|at| (at % 251 + at / 4096 + number * 16) as u8)
        .collect()
}

/// The seeds, and where their objects are.
pub struct Seeds {
    /// The images.
    pub images: Vec<Vec<u8>>,
    /// The directory of the objects.
    pub store: PathBuf,
    /// The names of the objects in it.
    pub objects: Vec<PathBuf>,
}

impl Seeds {
    /// Makes images and objects below a directory, which has to be on a file system with
    /// fs-verity.
    ///
    /// # Errors
    ///
    /// When one cannot be made.
    pub fn make(dir: &Path) -> Result<Self> {
        let store = dir.join("store");
        fs::create_dir_all(&store).with_context(|| format!("cannot make {}", store.display()))?;
        let mut digests = Vec::new();
        let mut objects = Vec::new();
        for number in 0..OBJECTS.len() {
            let digest = hex(&object(dir, &content(number))?);
            let (first, rest) = digest.split_at_checked(2).unwrap_or_default();
            let place = Path::new(first).join(rest);
            fs::create_dir_all(store.join(first))?;
            fs::rename(dir.join("new"), store.join(&place))?;
            objects.push(place);
            digests.push(digest);
        }
        let mut images = Vec::new();
        for (number, name) in NAMES.iter().enumerate() {
            let text = dump(number >= 2, &digests);
            let path = dir.join(format!("{name}.cfs"));
            let image = make_image(&text, number % 2, &path);
            images.push(image.with_context(|| format!("cannot make the image {name}"))?);
        }
        Ok(Self {
            images,
            store,
            objects,
        })
    }

    /// An image.
    pub fn image(&self, number: u32) -> &[u8] {
        let image = self.images.get(number as usize);
        image.map_or(&[], Vec::as_slice)
    }
}

/// Writes a file `new` with fs-verity. Returns its digest.
fn object(dir: &Path, content: &[u8]) -> Result<[u8; 32]> {
    let path = dir.join("new");
    fs::write(&path, content)?;
    let file = File::open(&path)?;
    sys::enable_verity(file.as_fd())
        .with_context(|| format!("no fs-verity in {}", dir.display()))?;
    Ok(sys::measure_verity(file.as_fd())?)
}

fn make_image(text: &str, version: usize, path: &Path) -> Result<Vec<u8>> {
    let mut tool = Command::new("mkcomposefs")
        .args(["--from-file", "--max-version=1"])
        .arg(format!("--min-version={version}"))
        .arg("-")
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot start mkcomposefs")?;
    if let Some(mut stdin) = tool.stdin.take() {
        stdin.write_all(text.as_bytes())?;
    }
    let status = tool.wait()?;
    ensure!(status.success(), "mkcomposefs: {status}");
    Ok(fs::read(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_named_in_the_text() {
        let digests: Vec<String> = ["aa", "bb", "cc", "dd"]
            .map(|digit| digit.repeat(32))
            .to_vec();
        let text = dump(true, &digests);
        assert!(!text.contains('<'), "{text}");
        let line = text.lines().find(|line| line.starts_with("/medium "));
        let rest = digests[1].get(2..).unwrap_or_default();
        let wanted = format!(" bb/{rest} - {} security.", digests[1]);
        assert!(line.is_some_and(|line| line.contains(&wanted)), "{line:?}");
        let line = text.lines().find(|line| line.starts_with("/undigested "));
        assert!(line.is_some_and(|line| line.ends_with(" - -")), "{line:?}");
        assert_eq!(text.matches("\n/wide/").count(), WIDE);
    }

    #[test]
    fn paths_differ_and_have_no_space() {
        let mut paths = paths().to_vec();
        assert!(paths.iter().all(|path| !path.contains(' ')));
        let count = paths.len();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), count);
    }
}
