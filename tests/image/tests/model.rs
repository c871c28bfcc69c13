// SPDX-License-Identifier: GPL-2.0

//! Random trees, written with random options: the parser must read what was written.

mod support;

use composefs_image::Image;
use proptest::prelude::*;

use support::{compare, model, writer, Memory};

proptest! {
    #![proptest_config(support::cases(64))]

    #[test]
    fn reads_what_was_written(tree in model::tree(40), options in writer::options()) {
        let written = writer::write(&tree, &options);
        let image = Image::open(Memory::new(written.bytes)).unwrap();
        assert_eq!(image.superblock().composefs_version, options.version);
        compare::compare(&image, &tree, &written.nids);
    }

    #[test]
    fn large_directories(
        names in prop::collection::btree_set(model::name(), 0..400),
        options in writer::options(),
    ) {
        let mut tree = model::Model {
            files: vec![model::File {
                kind: model::Kind::Directory(Default::default()),
                perm: 0o755,
                uid: 0,
                gid: 0,
                mtime: model::EPOCH,
                nsec: model::EPOCH_NSEC,
                xattrs: Default::default(),
            }],
        };
        // Some whiteouts, alone and one after another.
        for (number, name) in names.into_iter().enumerate() {
            let rdev = u32::from(number % 7 > 1);
            let mut file = tree.files[0].clone();
            file.kind = model::Kind::Char(rdev);
            tree.files.push(file);
            if let model::Kind::Directory(entries) = &mut tree.files[0].kind {
                entries.insert(name, number + 1);
            }
        }
        let written = writer::write(&tree, &options);
        let image = Image::open(Memory::new(written.bytes)).unwrap();
        compare::compare(&image, &tree, &written.nids);
    }
}
