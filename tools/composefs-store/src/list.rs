// SPDX-License-Identifier: GPL-2.0

//! `list`: a line for each image.

use std::collections::HashMap;
use std::collections::HashSet;

use anyhow::Result;
use composefs::fsverity::FsVerityHashValue;

use crate::in_use;
use crate::store::Sizes;
use crate::store::Store;

/// Lists the images. An image is an object, too, and counts as one that it needs.
///
/// # Errors
///
/// When an image cannot be read.
pub fn list<Digest: FsVerityHashValue>(store: &Store<Digest>) -> Result<()> {
    let images = store.images()?;
    let mut needs: Vec<HashSet<Digest>> = Vec::new();
    let mut users: HashMap<Digest, u32> = HashMap::new();
    for digest in images.keys() {
        let mut objects = store.needs(digest)?;
        objects.insert(Digest::from_hex(digest)?);
        for object in &objects {
            *users.entry(object.clone()).or_default() += 1;
        }
        needs.push(objects);
    }
    let width = images.keys().map(String::len).max().unwrap_or_default();
    println!(
        "{:width$} {:>8} {:>12} {:>8} {:>12} {:<7} NAMES",
        "DIGEST", "OBJECTS", "BYTES", "OWN", "BYTES", "USE"
    );
    let mut sizes = Sizes::new(store);
    for ((digest, names), objects) in images.iter().zip(&needs) {
        let all = sizes.count(objects);
        let own = sizes.count(
            objects
                .iter()
                .filter(|object| users.get(object) == Some(&1)),
        );
        let state = if in_use::is_booted(digest) {
            "booted"
        } else if in_use::is_open(&store.image(digest)?)? {
            "in-use"
        } else {
            "-"
        };
        println!(
            "{digest:width$} {:>8} {:>12} {:>8} {:>12} {state:<7} {}",
            all.objects,
            all.bytes,
            own.objects,
            own.bytes,
            if names.is_empty() {
                "-".to_owned()
            } else {
                names.join(",")
            }
        );
        let missing = objects.iter().filter(|object| sizes.of(object).is_none());
        let missing = missing.count();
        if missing > 0 {
            eprintln!("composefs-store: the image {digest} lacks {missing} objects");
        }
    }
    Ok(())
}
