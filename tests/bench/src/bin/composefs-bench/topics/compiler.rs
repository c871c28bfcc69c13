// SPDX-License-Identifier: GPL-2.0

//! A compiler, and what it compiles: a program that includes 2,000 headers, which it looks for in
//! several directories.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use crate::prepare::copy_program;

/// Number of headers.
const HEADERS: usize = 2000;

/// Directories that the compiler looks in, one after the other. Each has as many headers.
const DIRECTORIES: usize = 5;

/// Path of the directory of all of it, in the tree.
pub const TOP: &str = "include";

/// The compiler proper of gcc, which is in the guest as a part of the package cpp.
fn program() -> Result<PathBuf> {
    let mut dirs = vec![PathBuf::from("/usr/libexec/gcc")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name == "cc1") {
                return Ok(path);
            }
            if path.is_dir() {
                dirs.push(path);
            }
        }
    }
    bail!("the guest has no cc1 below /usr/libexec/gcc: is its package cpp missing?")
}

/// Puts the compiler, its libraries, and the program with its headers into a tree. Returns the
/// words that compile it.
pub fn add(tree: &Path) -> Result<Vec<String>> {
    let program = program()?.display().to_string();
    copy_program(tree, program.trim_start_matches('/'))?;
    let mut main = String::new();
    let mut words = vec![program, "-quiet".to_owned(), "-nostdinc".to_owned()];
    for number in 0..DIRECTORIES {
        fs::create_dir_all(tree.join(TOP).join(number.to_string()))?;
        words.push(format!("-I/{TOP}/{number}"));
    }
    for number in 0..HEADERS {
        let name = format!("header-{number:04}.h");
        let text = format!(
            "#ifndef HEADER_{number}\n#define HEADER_{number}\n\
             struct s{number} {{ int first, second; }};\n\
             static inline int f{number}(struct s{number} *s)\n\
             {{\n\treturn s->first + s->second + {number};\n}}\n#endif\n"
        );
        let dir = (number % DIRECTORIES).to_string();
        fs::write(tree.join(TOP).join(dir).join(&name), text)?;
        let _ = writeln!(main, "#include <{name}>");
    }
    main += "int main(void)\n{\n\tstruct s7 s = { 1, 2 };\n\treturn f7(&s);\n}\n";
    fs::write(tree.join(TOP).join("main.c"), main)?;
    words.extend([
        format!("/{TOP}/main.c"),
        "-o".to_owned(),
        "/main.s".to_owned(),
    ]);
    Ok(words)
}
