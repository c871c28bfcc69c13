// SPDX-License-Identifier: GPL-2.0

//! Files, directories and numbers from options and environment variables.
//!
//! They are checked here, so that an error names the option and the path as the user wrote
//! them. A program that gets the path later could not.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;

/// The absolute path without links. QEMU takes a relative one like `nbd:1` for a server.
fn resolve(by: &str, path: &Path, otherwise: &str) -> Result<(PathBuf, Metadata)> {
    let shown = path.display();
    let found = path.canonicalize().and_then(|path| {
        let metadata = path.metadata()?;
        Ok((path, metadata))
    });
    found.map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow!("{by}: there is no {shown}{otherwise}"),
        _ => anyhow!("{by}: {shown}: {error}"),
    })
}

/// The directory `path`, named by the option or variable `by`.
///
/// # Errors
///
/// When there is no such directory.
pub fn directory(by: &str, path: &Path) -> Result<PathBuf> {
    let (resolved, metadata) = resolve(by, path, "; a directory is needed")?;
    if !metadata.is_dir() {
        bail!("{by}: {} is not a directory", path.display());
    }
    Ok(resolved)
}

/// The directory that an environment variable names, if that is set.
///
/// # Errors
///
/// When there is no such directory.
pub fn directory_of(variable: &str) -> Result<Option<PathBuf>> {
    let value = env::var_os(variable).filter(|value| !value.is_empty());
    value
        .map(|value| directory(variable, Path::new(&value)))
        .transpose()
}

/// The number that an environment variable holds, if that is set.
///
/// # Errors
///
/// When it holds something else.
pub fn number(variable: &str) -> Result<Option<u64>> {
    let value = env::var_os(variable).filter(|value| !value.is_empty());
    let number = |value: OsString| {
        let number = value.to_str().and_then(|text| text.parse().ok());
        number.with_context(|| format!("{variable}={} is not a number", value.to_string_lossy()))
    };
    value.map(number).transpose()
}

/// The file or block device `path`, named by the option `by`, for a disk of the guest.
///
/// # Errors
///
/// When it is neither, or cannot be read and written.
pub fn disk(by: &str, path: &Path) -> Result<PathBuf> {
    let shown = path.display();
    let otherwise = format!("; `truncate --size=1G {shown}` makes an empty disk");
    let (resolved, metadata) = resolve(by, path, &otherwise)?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        bail!("{by}: {shown} is a directory; --share gives the guest one");
    }
    if !kind.is_file() && !kind.is_block_device() {
        bail!("{by}: {shown} is neither a file nor a block device");
    }
    File::options()
        .read(true)
        .write(true)
        .open(&resolved)
        .with_context(|| format!("{by}: {shown} cannot be opened for reading and writing"))?;
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(result: Result<PathBuf>) -> String {
        result.map_or_else(
            |error| format!("{error:#}"),
            |path| path.display().to_string(),
        )
    }

    #[test]
    fn errors_name_the_option_and_the_path_as_written() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("file");
        let missing = dir.path().join("missing");
        File::create(&file)?;
        for (result, words) in [
            (
                disk("--disk", &missing),
                ["--disk: there is no ", "missing; `truncate"],
            ),
            (disk("--disk", dir.path()), ["is a directory", "--share"]),
            (
                disk("--disk", Path::new("/dev/null")),
                ["--disk: /dev/null", "neither"],
            ),
            (
                disk("--disk", &file.join("x")),
                ["--disk: ", "file/x: Not a directory"],
            ),
            (
                directory("--share", &missing),
                ["--share: there is no ", "a directory"],
            ),
            (
                directory("--share", &file),
                ["--share: ", "file is not a directory"],
            ),
        ] {
            let said = said(result);
            assert!(words.iter().all(|word| said.contains(word)), "{said}");
        }
        Ok(())
    }

    #[test]
    fn paths_are_absolute() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("nbd:1");
        File::create(&file)?;
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("nbd:1", &link)?;
        assert_eq!(disk("--disk", &link)?, file.canonicalize()?);
        assert_eq!(
            directory("--share", dir.path())?,
            dir.path().canonicalize()?
        );
        Ok(())
    }
}
