// SPDX-License-Identifier: GPL-2.0

//! `composefs-old-image`: prints the dump of a composefs image of early 2023.

use std::fs::File;
use std::io;
use std::io::BufWriter;
use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use composefs_old_image::Error;
use composefs_old_image::HEADER_SIZE;
use composefs_old_image::Image;
use composefs_old_image::dump;
use composefs_old_image::usual_limit;

/// Largest image that is read, in bytes. It is held in memory.
const SIZE_MAX: u64 = 4 << 30;

/// Turns a composefs image of the format of early 2023 into a dump.
///
/// The dump is the text of composefs-dump(5). To make an image of today's format of it:
///
///     composefs-old-image old.img | mkcomposefs --from-file - new.cfs
#[derive(Parser)]
#[command(version, verbatim_doc_comment)]
struct Arguments {
    /// Write the dump however long it is
    #[arg(long)]
    no_limit: bool,
    /// The image
    image: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(lines) => {
            for line in lines {
                eprintln!("composefs-old-image: {line}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Prints the dump. Returns what to say if that fails.
fn run(arguments: &Arguments) -> Result<(), [String; 2]> {
    let name = arguments.image.display();
    let failed = |error: Error| [format!("{name}: {error}"), error.advice().to_owned()];
    let bytes = read(&arguments.image)?;
    let image = Image::new(&bytes).map_err(failed)?;
    let limit = match arguments.no_limit {
        true => u64::MAX,
        false => usual_limit(&image),
    };
    dump(&image, BufWriter::new(io::stdout().lock()), limit).map_err(failed)
}

/// Reads an image, after its header was found to be right.
fn read(path: &Path) -> Result<Vec<u8>, [String; 2]> {
    let name = path.display();
    let unreadable = |error: io::Error| {
        [
            format!("{name}: it cannot be read: {error}"),
            "name an image that you may read".to_owned(),
        ]
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    let header = u64::try_from(HEADER_SIZE).unwrap_or(u64::MAX);
    file.by_ref()
        .take(header)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    Image::check_header(&bytes)
        .map_err(|error| [format!("{name}: {error}"), error.advice().to_owned()])?;
    let size = file.take(SIZE_MAX).read_to_end(&mut bytes);
    let size = size.map_err(unreadable)?;
    match u64::try_from(size) {
        Ok(size) if size < SIZE_MAX => Ok(bytes),
        _ => Err([
            format!("{name}: it is larger than {SIZE_MAX} bytes, and no image of its time was"),
            "make the image again from the files that it was made from".to_owned(),
        ]),
    }
}
