//! The layers of the source: each module imports only modules below it, and no import goes in a circle.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The modules of `src`, from the lowest to the highest. A module imports only modules that stand before it.
const LAYERS: &[(&str, &[&str])] = &[
    ("vocabulary", &["time", "error", "correction", "quota", "strategy", "policy", "decision", "telemetry"]),
    ("pure protocol", &["engine", "geometry", "script", "nonce", "lease"]),
    ("keyed storage", &["keyspace"]),
    ("I/O", &["runtime", "redis"]),
    ("stores", &["store", "limiter"]),
    ("middleware", &["key", "response", "layer"]),
    ("operation", &["admin"]),
    ("documentation", &["guide"]),
];

/// The stores: none imports another.
const STORES: &[&str] = &["store::local", "store::redis", "store::hybrid"];

/// Who imports whom, by module path; `mod.rs` stands for its folder.
type Imports = BTreeMap<String, BTreeSet<String>>;

/// The production code of a file: without comments and without its test module.
fn production(source: &str) -> String {
    let code: Vec<&str> = source.lines().map(|line| line.split("//").next().unwrap_or("")).collect();
    let code = code.join("\n");
    let tests = ["#[cfg(test)]\nmod tests {", "#[cfg(all(test"].iter().filter_map(|start| code.find(start)).min();
    code[..tests.unwrap_or(code.len())].to_owned()
}

/// Words, `::`, and single characters.
fn tokens(code: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut chars = code.chars().peekable();
    while let Some(char) = chars.next() {
        if char.is_alphanumeric() || char == '_' {
            let mut word = String::from(char);
            while let Some(next) = chars.next_if(|next| next.is_alphanumeric() || *next == '_') {
                word.push(next);
            }
            tokens.push(word);
        } else if char == ':' && chars.next_if_eq(&':').is_some() {
            tokens.push("::".into());
        } else if !char.is_whitespace() {
            tokens.push(char.into());
        }
    }
    tokens
}

/// The paths that begin with `crate`, `self` or `super`, with braces written out.
fn paths(tokens: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let is_start = ["crate", "self", "super"].contains(&tokens[at].as_str());
        let follows_path = at > 0 && tokens[at - 1] == "::";
        // `pub(in crate::x)` says who sees an item, and imports nothing.
        let is_visibility = at > 0 && (tokens[at - 1] == "in" || tokens[at - 1] == "(");
        if is_start && !follows_path && !is_visibility && tokens.get(at + 1).is_some_and(|next| next == "::") {
            at = path(tokens, at, &mut Vec::new(), &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads one path from a token on; returns where it ends.
fn path(tokens: &[String], mut at: usize, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> usize {
    let depth = prefix.len();
    loop {
        match tokens.get(at).map(String::as_str) {
            Some("{") => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}") {
                    if tokens[at] == "," { at += 1 } else { at = path(tokens, at, prefix, found) }
                }
                at += 1;
                break;
            }
            Some(word) if word == "*" || word.chars().all(|char| char.is_alphanumeric() || char == '_') => {
                if word != "*" && (word != "self" || prefix.is_empty()) {
                    prefix.push(word.to_owned());
                }
                at += 1;
                if tokens.get(at).is_some_and(|next| next == "::") {
                    at += 1;
                    continue;
                }
                if tokens.get(at).is_some_and(|next| next == "as") {
                    at += 2;
                }
                found.push(prefix.clone());
                break;
            }
            // A turbofish or the like ends the path.
            _ => {
                found.push(prefix.clone());
                at += 1;
                break;
            }
        }
    }
    prefix.truncate(depth);
    at
}

/// The imports of modules, given as their paths and sources.
fn imports(sources: &BTreeMap<String, String>) -> Imports {
    let mut imports = Imports::new();
    for (module, source) in sources {
        let targets = imports.entry(module.clone()).or_default();
        for path in paths(&tokens(&production(source))) {
            let mut target: Vec<&str> = module.split("::").filter(|part| !part.is_empty()).collect();
            for word in &path {
                match word.as_str() {
                    "crate" => target.clear(),
                    "self" => {}
                    "super" => drop(target.pop()),
                    word => target.push(word),
                }
            }
            // What is no module is an item of the one that holds it.
            while !target.is_empty() && !sources.contains_key(&target.join("::")) {
                target.pop();
            }
            let target = target.join("::");
            if target != *module && !target.is_empty() {
                targets.insert(target);
            }
        }
    }
    imports
}

/// The top of a module's path.
fn top(module: &str) -> &str {
    module.split("::").next().unwrap_or(module)
}

/// Imports that point up, or at a module without a layer.
fn upward(imports: &Imports) -> Vec<String> {
    let order: Vec<&str> = LAYERS.iter().flat_map(|(_, modules)| *modules).copied().collect();
    let rank = |module: &str| order.iter().position(|known| *known == top(module));
    let mut wrong = Vec::new();
    for (from, targets) in imports.iter().filter(|(from, _)| !from.is_empty()) {
        for to in targets.iter().filter(|to| top(from) != top(to)) {
            let points_down = rank(from).zip(rank(to)).is_some_and(|(from, to)| to < from);
            if !points_down {
                wrong.push(format!("{from} -> {to}"));
            }
        }
        let store_of =
            |module: &str| STORES.iter().find(|store| format!("{module}::").starts_with(&format!("{store}::")));
        let store = store_of(from);
        let other = |to: &&String| store_of(to).is_some_and(|other| Some(other) != store);
        if store.is_some() {
            wrong.extend(targets.iter().filter(other).map(|to| format!("{from} -> {to}")));
        }
    }
    wrong
}

/// The modules that can reach themselves.
fn in_circles(imports: &Imports) -> Vec<String> {
    let reaches_itself = |start: &String| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![start]);
        while let Some(module) = open.pop() {
            for to in imports.get(module).into_iter().flatten() {
                if to == start {
                    return true;
                }
                if seen.insert(to) {
                    open.push(to);
                }
            }
        }
        false
    };
    imports.keys().filter(|module| reaches_itself(module)).cloned().collect()
}

/// The longest chain of imports.
fn depth(imports: &Imports) -> usize {
    fn of<'a>(module: &'a str, imports: &'a Imports, known: &mut BTreeMap<&'a str, usize>) -> usize {
        if let Some(depth) = known.get(module) {
            return *depth;
        }
        let below = imports.get(module).into_iter().flatten();
        let depth = 1 + below.map(|to| of(to, imports, known)).max().unwrap_or(0);
        known.insert(module, depth);
        depth
    }
    let mut known = BTreeMap::new();
    imports.keys().map(|module| of(module, imports, &mut known)).max().unwrap_or(0)
}

/// Reads the production modules of the crate. Folders of tests and the simulation are left out.
fn sources() -> BTreeMap<String, String> {
    fn read(folder: &Path, prefix: &str, sources: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            if ["tests", "sim"].contains(&name) {
                continue;
            }
            let module = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}::{name}") };
            if path.is_dir() {
                read(&path, &module, sources);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let module = if name == "mod" || (name == "lib" && prefix.is_empty()) { prefix } else { &module };
                sources.insert(module.to_owned(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut sources = BTreeMap::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut sources);
    sources
}

#[test]
fn every_import_points_down() {
    let sources = sources();
    assert!(sources.len() > 100, "only {} modules were read", sources.len());
    let wrong = upward(&imports(&sources));
    assert!(wrong.is_empty(), "imports that point up, or at a module without a layer:\n{}", wrong.join("\n"));
}

#[test]
fn no_import_goes_in_a_circle() {
    let imports = imports(&sources());
    let circles = in_circles(&imports);
    assert!(circles.is_empty(), "modules that import themselves through others:\n{}", circles.join("\n"));
    println!("{} modules, {} imports deep", imports.len(), depth(&imports));
}

#[test]
fn the_check_finds_what_it_looks_for() {
    let source = |module: &str, source: &str| (module.to_owned(), source.to_owned());
    let sources = BTreeMap::from([
        source("engine", "use crate::{redis::{self, Client}, quota::Quota};"),
        source("engine::window", "use super::ring::Ring; // use crate::layer::Gate;"),
        source("engine::ring", "fn f() { super::window::g(); }\n#[cfg(test)]\nmod tests { use crate::layer; }"),
        source("layer", ""),
        source("quota", "pub(in crate::layer) struct Quota;"),
        source("redis", "use crate::unheard_of::Thing as Other;"),
        source("store::local", "pub use crate::store::redis::RedisStore;"),
        source("store::redis", ""),
        source("unheard_of", ""),
    ]);
    let imports = imports(&sources);
    assert_eq!(upward(&imports), ["engine -> redis", "redis -> unheard_of", "store::local -> store::redis"]);
    assert_eq!(in_circles(&imports), ["engine::ring", "engine::window"]);
    assert_eq!(imports["engine"].iter().collect::<Vec<_>>(), ["quota", "redis"]);
}
