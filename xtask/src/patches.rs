// SPDX-License-Identifier: GPL-2.0

//! The patches with which composefs goes into a kernel tree: a series that can
//! be mailed, and that the guest's patched kernel is built from.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use crate::context::Context;
use crate::git::git;
use crate::progress::output;

/// Where the programs of tests/selftests are in a kernel tree.
const SELFTESTS: &str = "tools/testing/selftests/filesystems/composefs";

/// One patch.
struct Patch {
    message: &'static str,
    /// What it adds: from where in the clone, to where in the kernel.
    adds: &'static [(&'static str, &'static str)],
    /// Lines that it adds to what is there.
    lines: &'static [Line],
}

/// What is added to a file of the kernel's.
struct Line {
    file: &'static str,
    /// The line that it is added behind.
    after: &'static str,
    /// One line or more. `AUTHOR` stands for whose patches they are.
    text: &'static str,
}

/// The series. Each patch stands on those before it; the third is the first
/// that anything is built of.
const PATCHES: &[Patch] = &[
    Patch {
        message: "composefs: add the on-disk format\n\n\
            A parser of composefs images, in Rust and of nothing but core: it neither\n\
            allocates nor panics, and has no unsafe code. The bytes of an image are\n\
            not trusted; what is wrong with them is an error that names the field.\n",
        adds: &[("fs/composefs/image", "fs/composefs/image")],
        lines: &[Line {
            file: "MAINTAINERS",
            after: "F:\tinclude/linux/compiler_attributes.h",
            text: "\n\
                COMPOSEFS FILE SYSTEM [RUST]\n\
                M:\tAUTHOR\n\
                L:\tlinux-fsdevel@vger.kernel.org\n\
                L:\trust-for-linux@vger.kernel.org\n\
                S:\tMaintained\n\
                F:\tDocumentation/filesystems/composefs*\n\
                F:\tfs/composefs/\n\
                F:\ttools/testing/selftests/filesystems/composefs/",
        }],
    },
    Patch {
        message: "composefs: add abstractions over the VFS\n\n\
            What a read-only file system in Rust needs of the VFS, as safe interfaces:\n\
            mount contexts, super blocks, inodes, directories, xattrs, files that\n\
            others back, and a page cache that only the file system fills. All unsafe\n\
            code of composefs is in here.\n\n\
            The bindings are made in a run of their own, because those of the kernel\n\
            crate lack the headers of a file system.\n",
        adds: &[("fs/composefs/vfs", "fs/composefs/vfs")],
        lines: &[],
    },
    Patch {
        message: "composefs: add the file system\n\n\
            A mount takes an image, which holds metadata only, and directories of\n\
            objects, the files' content, each named after its fs-verity digest. Until\n\
            now erofs and overlayfs mount such images, one on top of the other.\n\n\
            An object is opened when its file is first read, and only after its digest\n\
            was found to be the one that the image names.\n",
        adds: &[("fs/composefs", "fs/composefs")],
        lines: &[
            Line {
                file: "fs/Kconfig",
                after: "source \"fs/erofs/Kconfig\"",
                text: "source \"fs/composefs/Kconfig\"",
            },
            Line {
                file: "fs/Makefile",
                after: "obj-$(CONFIG_EROFS_FS)\t\t+= erofs/",
                text: "obj-$(CONFIG_COMPOSEFS_FS)\t+= composefs/",
            },
        ],
    },
    Patch {
        message: "Documentation: filesystems: add composefs\n\n\
            What users need to know, and what is promised against whom.\n",
        adds: &[
            (
                "Documentation/filesystems/composefs.rst",
                "Documentation/filesystems/composefs.rst",
            ),
            (
                "Documentation/filesystems/composefs-threat-model.rst",
                "Documentation/filesystems/composefs-threat-model.rst",
            ),
        ],
        lines: &[Line {
            file: "Documentation/filesystems/index.rst",
            after: "   coda",
            text: "   composefs\n   composefs-threat-model",
        }],
    },
    Patch {
        message: "selftests: filesystems: add composefs\n\n\
            Programs that mount images and look at what a user sees, beside erofs and\n\
            overlayfs on the same images where there is something to compare.\n",
        adds: &[("tests/selftests", SELFTESTS)],
        lines: &[Line {
            file: "tools/testing/selftests/Makefile",
            after: "TARGETS += filesystems/binderfs",
            text: "TARGETS += filesystems/composefs",
        }],
    },
];

/// What comes before the series.
const COVER: &str = "composefs: verified metadata over content-addressed files\n\n\
    composefs is a read-only file system in Rust, for images of the composefs\n\
    project, which podman, ostree and bootc use. It takes the place of erofs and\n\
    overlayfs on top of each other: one mount, one inode and one dentry a file.\n";

/// `cargo xtask patches`: writes the series to a directory.
///
/// # Errors
///
/// As [`make`].
pub fn run(context: &Context, source: &Path, dir: &Path) -> Result<()> {
    for patch in make(context, source, dir)? {
        println!("{}", patch.display());
    }
    Ok(())
}

/// Makes the series for the kernel at `source`, in a directory where nothing but
/// an older series is. Returns the patches in their order, the cover letter first.
/// The same clone gives the same bytes.
///
/// # Errors
///
/// When the directory has other patches, the kernel has not the lines that ours
/// go by, or git fails.
pub fn make(context: &Context, source: &Path, dir: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let old = series(dir)?;
    if let Some(other) = old.iter().find(|patch| !is_ours(patch)) {
        bail!(
            "{} is no patch of ours; name another directory",
            other.display()
        );
    }
    let work = context.cache.run_dir()?;
    let made = work.path().join("series");
    write(context, source, &work.path().join("tree"), &made)?;
    for path in old {
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    for path in series(&made)? {
        let name = path.file_name().context("a patch without a name")?;
        fs::copy(&path, dir.join(name)).with_context(|| format!("to {}", dir.display()))?;
    }
    series(dir)
}

/// Whether a file is of an older series, by its subject.
fn is_ours(file: &Path) -> bool {
    let messages = PATCHES.iter().map(|patch| patch.message);
    let subjects: Vec<&str> = messages
        .chain([COVER])
        .filter_map(|message| message.lines().next())
        .collect();
    let is_one = |line: &str| {
        line.starts_with("Subject: ") && subjects.iter().any(|subject| line.ends_with(subject))
    };
    fs::read_to_string(file).is_ok_and(|text| text.lines().any(is_one))
}

/// Makes the series in an empty repository.
fn write(context: &Context, source: &Path, tree: &Path, made: &Path) -> Result<()> {
    fs::create_dir(tree)?;
    let git = Git::new(context, tree)?;
    for line in PATCHES.iter().flat_map(|patch| patch.lines) {
        copy(source, Path::new(line.file), tree, Path::new(line.file))?;
    }
    git.run(&["init", "--quiet", "--initial-branch=composefs"])?;
    git.run(&["config", "branch.composefs.description", COVER])?;
    git.commit("the kernel")?;
    git.run(&["tag", "kernel"])?;
    for patch in PATCHES {
        for (from, to) in patch.adds {
            for file in files(context, from)? {
                let inside = file.strip_prefix(from).unwrap_or(&file);
                // A file's own path has nothing inside.
                let target = match inside.as_os_str().is_empty() {
                    true => PathBuf::from(to),
                    false => Path::new(to).join(inside),
                };
                copy(&context.repo, &file, tree, &target)?;
            }
        }
        for line in patch.lines {
            insert(&tree.join(line.file), line, &git.author())?;
        }
        git.commit(patch.message)?;
    }
    git.run(&[
        "format-patch",
        "--quiet",
        "--cover-letter",
        "--cover-from-description=auto",
        "--no-signature",
        "--zero-commit",
        "--output-directory",
        &made.to_string_lossy(),
        "kernel",
    ])
}

/// The patches that are in a directory, in their order.
fn series(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "patch"))
        .collect();
    found.sort();
    Ok(found)
}

/// The files of the clone at or below `path`, also those that are new, but none
/// that git is to ignore.
fn files(context: &Context, path: &str) -> Result<Vec<PathBuf>> {
    let listed = output(
        git()
            .current_dir(&context.repo)
            .args(["ls-files", "-z", "--cached", "--others", "--deduplicate"])
            .args(["--exclude-per-directory=.gitignore", "--", path]),
    )?;
    let files: Vec<PathBuf> = listed
        .split_terminator('\0')
        .map(PathBuf::from)
        .filter(|file| context.repo.join(file).exists())
        .collect();
    if files.is_empty() {
        bail!("the clone has no {path}");
    }
    Ok(files)
}

/// Copies a file with its permissions; a link becomes what it leads to.
fn copy(from: &Path, file: &Path, to: &Path, target: &Path) -> Result<()> {
    let (from, to) = (from.join(file), to.join(target));
    if let Some(dir) = to.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

/// Adds a line where it belongs.
fn insert(file: &Path, line: &Line, author: &str) -> Result<()> {
    let text = fs::read_to_string(file)?;
    let anchor = format!("\n{}\n", line.after);
    let Some((before, behind)) = text.split_once(&anchor) else {
        bail!(
            "{} of this kernel has no line {:?} to add to",
            line.file,
            line.after
        );
    };
    let added = line.text.replace("AUTHOR", author);
    let added = format!("{before}{anchor}{added}\n{behind}");
    fs::write(file, added).with_context(|| file.display().to_string())
}

/// A repository that is made for the series.
struct Git<'a> {
    tree: &'a Path,
    /// Whose patches they are, and when: as the clone's last commit says.
    who: [(&'static str, String); 6],
}

impl<'a> Git<'a> {
    fn new(context: &Context, tree: &'a Path) -> Result<Self> {
        let last =
            output(
                git()
                    .current_dir(&context.repo)
                    .args(["log", "-1", "--format=%an%n%ae%n%aI"]),
            )?;
        let [name, mail, date] = last.lines().collect::<Vec<_>>()[..] else {
            bail!("the clone's last commit has no author");
        };
        let who = [
            ("GIT_AUTHOR_NAME", name),
            ("GIT_AUTHOR_EMAIL", mail),
            ("GIT_AUTHOR_DATE", date),
            ("GIT_COMMITTER_NAME", name),
            ("GIT_COMMITTER_EMAIL", mail),
            ("GIT_COMMITTER_DATE", date),
        ];
        Ok(Self {
            tree,
            who: who.map(|(variable, value)| (variable, value.to_owned())),
        })
    }

    fn author(&self) -> String {
        let [(_, name), (_, mail), ..] = &self.who;
        format!("{name} <{mail}>")
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        output(
            git()
                .current_dir(self.tree)
                // A person's own settings would change what comes out.
                .env("GIT_CONFIG_GLOBAL", "/dev/null")
                .env("GIT_CONFIG_NOSYSTEM", "1")
                .env("GIT_ATTR_NOSYSTEM", "1")
                .args(["-c", "core.attributesFile=/dev/null"])
                .envs(self.who.iter().map(|(variable, value)| (variable, value)))
                .args(arguments),
        )
        .map(drop)
    }

    fn commit(&self, message: &str) -> Result<()> {
        self.run(&["add", "--all", "--force"])?;
        self.run(&["commit", "--quiet", "--message", message])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: Line = Line {
        file: "file",
        after: "b",
        text: "c AUTHOR",
    };

    #[test]
    fn a_line_is_added_where_it_belongs() -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        fs::write(&file, "a\nb\nd\nbb\n")?;
        insert(file.path(), &LINE, "me")?;
        assert_eq!(fs::read_to_string(&file)?, "a\nb\nc me\nd\nbb\n");
        Ok(())
    }

    #[test]
    fn patches_of_others_are_not_ours() -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        fs::write(&file, "Subject: [PATCH] fix a typo\n")?;
        assert!(!is_ours(file.path()));
        for message in PATCHES.iter().map(|patch| patch.message).chain([COVER]) {
            fs::write(&file, format!("From: me\nSubject: [PATCH 1/5] {message}"))?;
            assert!(is_ours(file.path()));
        }
        Ok(())
    }

    #[test]
    fn a_kernel_without_the_line_is_an_error() -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        fs::write(&file, "a\nbb\nb")?;
        let error = insert(file.path(), &LINE, "me").unwrap_err().to_string();
        assert_eq!(error, "file of this kernel has no line \"b\" to add to");
        Ok(())
    }
}
