//! Holds the tree to its rules: who may depend on whom, how long a file may be, what a configuration may ignore.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand};

const MAX_FILE_LINES: usize = 500;
const MAX_README_LINES: usize = 150;

/// The table of ARCHITECTURE.md: each package of ours and the packages of ours that it may use.
const ALLOWED: [(&str, &[&str]); 9] = [
    ("headroom-proto", &[]),
    ("headroom-models", &[]),
    ("headroom-ingest-broker", &["headroom-proto"]),
    ("headroom-ingest-window", &["headroom-proto"]),
    ("headroom-ingest-lake", &["headroom-proto"]),
    ("headroom-actuator-decide", &["headroom-proto"]),
    (
        "headroom-ingest",
        &["headroom-proto", "headroom-ingest-broker", "headroom-ingest-window", "headroom-ingest-lake"],
    ),
    ("headroom-forecaster", &["headroom-proto", "headroom-ingest-broker", "headroom-ingest-lake", "headroom-models"]),
    ("headroom-actuator", &["headroom-proto", "headroom-ingest-broker", "headroom-actuator-decide"]),
];

/// Libraries that one package alone may use, and which.
const SOLE_USERS: [(&str, &str); 6] = [
    ("rdkafka", "headroom-ingest-broker"),
    ("tansu-broker", "headroom-ingest-broker"),
    ("deltalake", "headroom-ingest-lake"),
    ("augurs", "headroom-models"),
    ("polars", "headroom-forecaster"),
    ("cedar-policy", "headroom-actuator-decide"),
];

/// Packages that take time and input as arguments: no runtime, no network.
const PURE: [&str; 4] = ["headroom-proto", "headroom-models", "headroom-ingest-window", "headroom-actuator-decide"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = MetadataCommand::new().no_deps().exec().expect("cargo metadata");
    let normal = |package: &cargo_metadata::Package| {
        package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal).map(|d| d.name.clone()).collect()
    };
    metadata.packages.iter().map(|package| (package.name.to_string(), normal(package))).collect()
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for folder in ["src", "tests", "proto", "ingest", "models", "forecaster", "actuator"] {
        collect(&root().join(folder), &mut found);
    }
    assert!(found.len() > 50, "only {} sources found: is the tree where it should be?", found.len());
    found
}

fn collect(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).expect("a folder of the tree") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("node_modules") {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source file");
            found.push((path.strip_prefix(root()).expect("below the root").to_owned(), text));
        }
    }
}

#[test]
fn packages_depend_only_on_what_the_table_allows() {
    let dependencies = dependencies();
    let ours: BTreeSet<&str> = ALLOWED.iter().map(|(name, _)| *name).chain(["headroom"]).collect();
    assert_eq!(dependencies.keys().map(String::as_str).collect::<BTreeSet<_>>(), ours, "packages of the workspace");
    for (package, allowed) in ALLOWED {
        let used: BTreeSet<&str> =
            dependencies[package].iter().map(String::as_str).filter(|d| ours.contains(d)).collect();
        let extra: Vec<_> = used.iter().filter(|d| !allowed.contains(d)).collect();
        assert!(extra.is_empty(), "{package} must not depend on {extra:?}");
    }
}

#[test]
fn some_libraries_have_one_user() {
    for (library, user) in SOLE_USERS {
        let users: Vec<String> =
            dependencies().into_iter().filter(|(_, uses)| uses.contains(library)).map(|(package, _)| package).collect();
        assert_eq!(users, [user], "users of {library}");
    }
}

#[test]
fn pure_packages_have_no_runtime_and_no_network() {
    let dependencies = dependencies();
    for package in PURE {
        for forbidden in ["tokio", "axum", "rdkafka", "object_store", "reqwest"] {
            assert!(!dependencies[package].contains(forbidden), "{package} must not depend on {forbidden}");
        }
    }
}

#[test]
fn files_are_short_and_modules_have_names() {
    let mut lengths = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= MAX_FILE_LINES, "{} has {lines} lines, the limit is {MAX_FILE_LINES}", path.display());
        assert!(!path.ends_with("mod.rs"), "{}: name the file after its module", path.display());
        assert!(text.starts_with("//!") || path.ends_with("tests.rs"), "{}: say the purpose first", path.display());
        lengths.push(lines);
    }
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    assert!(readme.lines().count() <= MAX_README_LINES, "README.md is for users: keep it short");
}

#[test]
fn configuration_types_refuse_unknown_fields() {
    let mut checked = 0;
    for (path, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let Some(name) = configuration_type(line) else { continue };
            let attributes: Vec<&str> =
                lines[..at].iter().rev().take_while(|l| !l.trim().is_empty() && !l.starts_with('}')).copied().collect();
            if !attributes.iter().any(|l| l.contains("Deserialize")) {
                continue;
            }
            checked += 1;
            assert!(
                attributes.iter().any(|l| l.contains("deny_unknown_fields")),
                "{}:{}: {name} must deny unknown fields",
                path.display(),
                at + 1
            );
        }
    }
    assert!(checked >= 8, "only {checked} configuration types found");
}

fn configuration_type(line: &str) -> Option<&str> {
    let rest = line
        .trim_start()
        .strip_prefix("pub(crate) ")
        .or_else(|| line.trim_start().strip_prefix("pub "))
        .unwrap_or(line);
    let name = rest.strip_prefix("struct ")?.split([' ', '<', '(', ';']).next()?;
    (name.ends_with("Config") || name.ends_with("Settings")).then_some(name)
}

#[test]
fn the_guides_exist_and_name_the_entry_points() {
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    assert!(architecture.contains("Architecture invariant:"));
    for named in ["src/run.rs", "proto/", "ingest/window", "models/", "actuator/decide"] {
        assert!(architecture.contains(named), "ARCHITECTURE.md does not name {named}");
    }
    for (package, allowed) in ALLOWED {
        assert!(architecture.contains(package), "ARCHITECTURE.md does not name {package}, which may use {allowed:?}");
    }
}
