// SPDX-License-Identifier: GPL-2.0

//! Files that import each other in a circle cannot be read one after the other.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use regex::Regex;

/// The path of a module in its crate, like `["vfs", "inode"]`.
type Module = Vec<String>;

/// Checks that imports among the files of a crate, whose root is `root` in `dir`, run
/// one way. The folders `whole` count as one file each.
///
/// # Errors
///
/// A circle, as the names of its files.
pub fn check(dir: &Path, root: &str, whole: &[&str]) -> Result<()> {
    let mut sources = BTreeMap::new();
    read(dir, &mut Vec::new(), root, &mut sources)?;
    if sources.len() < 2 {
        bail!("{} holds no crate", dir.display());
    }
    let imports = imports(&sources, whole)?;
    if let Some(circle) = circle(&imports) {
        bail!(
            "files in {} import each other in a circle: {}",
            dir.display(),
            circle.join(" -> ")
        );
    }
    Ok(())
}

/// Reads the sources of all modules below a directory.
fn read(
    dir: &Path,
    module: &mut Module,
    root: &str,
    sources: &mut BTreeMap<Module, String>,
) -> Result<()> {
    let entries = fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if path.is_dir() {
            module.push(name.into_owned());
            read(&path, module, root, sources)?;
            module.pop();
        } else if let Some(stem) = name.strip_suffix(".rs") {
            let mut module = module.clone();
            if name != root && stem != "mod" {
                module.push(stem.to_owned());
            }
            sources.insert(module, fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

/// What each file imports.
fn imports(
    sources: &BTreeMap<Module, String>,
    whole: &[&str],
) -> Result<BTreeMap<String, BTreeSet<String>>> {
    // A path that begins with a name is one below the file, as in `use child::Item`.
    let start = Regex::new(r"\bcrate::|\b(?:super::)+|(?:^|[^:\w])[a-z]\w*::")?;
    let room = |module: &Module| match module.first() {
        Some(first) if whole.contains(&first.as_str()) => first.clone(),
        _ => module.join("::"),
    };
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, source) in sources {
        // The root declares all others.
        if module.is_empty() {
            continue;
        }
        let code = code(source)?;
        let mut paths = Vec::new();
        for begin in start.find_iter(&code) {
            let begin = begin
                .as_str()
                .find(char::is_alphabetic)
                .map(|at| begin.start() + at);
            tree(&code[begin.unwrap_or_default()..], &[], &mut paths);
        }
        let to = found.entry(room(module)).or_default();
        for path in paths {
            let target = resolve(module, &path, sources);
            to.extend(target.filter(|to| !to.is_empty()).map(|to| room(&to)));
        }
        to.remove(&room(module));
    }
    Ok(found)
}

/// A source without its tests, comments and the strings that end on their line.
fn code(source: &str) -> Result<String> {
    let noise = Regex::new(r#"//.*|"(?:[^"\\\n]|\\.)*""#)?;
    let tests = source.find("#[cfg(test)]\nmod ");
    let source = &source[..tests.unwrap_or(source.len())];
    Ok(noise.replace_all(source, "").into_owned())
}

/// All paths of an import tree, as `a::{b, c::d}` has two.
fn tree(text: &str, before: &[&str], paths: &mut Vec<Vec<String>>) {
    let text = text.trim_start();
    if let Some(group) = text.strip_prefix('{') {
        let (mut depth, mut begin) = (0, 0);
        for (at, mark) in group.char_indices() {
            match mark {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    tree(&group[begin..at], before, paths);
                    begin = at + 1;
                    if mark == '}' {
                        return;
                    }
                }
                _ => {}
            }
        }
        return;
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    let (name, rest) = text.split_at(end.unwrap_or(text.len()));
    let path = [before, &[name]].concat();
    match rest.strip_prefix("::") {
        Some(rest) => tree(rest, &path, paths),
        None => paths.push(path.into_iter().map(str::to_owned).collect()),
    }
}

/// The module that a path in `from` leads to, without the names of its items.
fn resolve(from: &Module, path: &[String], sources: &BTreeMap<Module, String>) -> Option<Module> {
    let mut module: Module = Vec::new();
    let mut names = path.iter().peekable();
    if names.next_if(|name| *name == "crate").is_none() {
        module.clone_from(from);
        while names.next_if(|name| *name == "super").is_some() {
            module.pop();
        }
    }
    let mut known = sources.contains_key(&module).then(|| module.clone());
    for name in names {
        module.push(name.clone());
        if sources.contains_key(&module) {
            known = Some(module.clone());
        }
    }
    known
}

/// One circle, its first file again at the end.
fn circle(imports: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    let mut done = BTreeSet::new();
    imports
        .keys()
        .find_map(|start| search(start, imports, &mut Vec::new(), &mut done))
}

fn search(
    at: &str,
    imports: &BTreeMap<String, BTreeSet<String>>,
    way: &mut Vec<String>,
    done: &mut BTreeSet<String>,
) -> Option<Vec<String>> {
    if let Some(begin) = way.iter().position(|before| before == at) {
        let mut circle = way[begin..].to_vec();
        circle.push(at.to_owned());
        return Some(circle);
    }
    if done.contains(at) {
        return None;
    }
    way.push(at.to_owned());
    for next in imports.get(at).into_iter().flatten() {
        let found = search(next, imports, way, done);
        if found.is_some() {
            return found;
        }
    }
    way.pop();
    done.insert(at.to_owned());
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_of(files: &[(&str, &str)]) -> Result<()> {
        let dir = tempfile::tempdir()?;
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().context("no parent")?)?;
            fs::write(path, text)?;
        }
        check(dir.path(), "main.rs", &["whole"])
    }

    #[test]
    fn a_circle_is_told() {
        for files in [
            [
                ("a.rs", "use crate::b::B;"),
                ("b.rs", "fn f() { crate::a::g() }"),
            ],
            [
                ("a.rs", "use crate::{\n    d::c::C, //\n};"),
                ("d/c.rs", "use super::super::a;"),
            ],
            [
                ("d/a.rs", "use super::{x, c};"),
                ("d/c.rs", "use super::a::{self, X};"),
            ],
        ] {
            let error = check_of(&files).err().map(|error| error.to_string());
            assert!(
                error.as_ref().is_some_and(|said| said.contains(" -> ")),
                "{files:?}: {error:?}"
            );
        }
    }

    #[test]
    fn one_way_is_no_circle() -> Result<()> {
        check_of(&[
            ("main.rs", "mod a; use crate::a::A;"),
            ("a.rs", "use crate::b::B;\nuse crate::whole::One;"),
            (
                "b.rs",
                "// not crate::a\nconst C: &str = \"crate::a\";\n#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}",
            ),
            ("whole/one.rs", "use super::two::Two;"),
            ("whole/two.rs", "use super::one::One;"),
        ])
    }
}
