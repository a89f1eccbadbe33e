//! The house rules, as tests: what a reviewer would otherwise have to say again and again.
//!
//! Each rule is a function from text to findings; each finding has a file, a line and what to do.
//! The tests in this file run the rules over the whole tree; the rules themselves are tested on
//! small snippets beside them, because a rule that cannot fail is no rule. The parser is a few
//! lines of brace matching that trust `rustfmt`; what needs types is left to clippy.

#[path = "tidy/house.rs"]
mod house;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use source::Source;

/// One thing to mend.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    path: String,
    line: usize,
    advice: String,
}

impl Finding {
    /// `index` counts lines from zero, people count from one.
    fn new(path: &str, index: usize, advice: impl Into<String>) -> Self {
        Self { path: path.into(), line: index + 1, advice: advice.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.advice)
    }
}

/// The project's text files by their path from the root, with `/` between the parts.
pub type Tree = BTreeMap<String, String>;

#[test]
fn imports_go_down() {
    check_sources(rules::layers);
}

#[test]
fn cores_do_no_input_or_output() {
    check_sources(rules::pure_layers);
}

#[test]
fn files_are_short() {
    check_sources(rules::file_length);
}

#[test]
fn functions_are_short() {
    check_sources(rules::function_length);
}

#[test]
fn unsafe_stands_where_it_may_and_is_explained() {
    check_sources(rules::unsafe_places);
}

#[test]
fn banned_calls_are_absent() {
    check_sources(rules::banned_calls);
}

#[test]
fn lines_are_short() {
    check_files(house::line_length);
}

#[test]
fn nothing_is_left_over() {
    check_files(house::leftovers);
}

#[test]
fn no_path_of_one_machine() {
    check_files(house::machine_paths);
}

#[test]
fn dependencies_say_what_for() {
    check_files(house::dependency_comments);
}

#[test]
fn dependencies_come_from_crates_io() {
    check_files(house::lock_sources);
}

#[test]
fn make_targets_have_a_help_text() {
    check_files(house::make_help);
}

#[test]
fn relative_links_resolve() {
    report(house::links(&tree()));
}

#[test]
fn every_page_of_docs_is_linked() {
    report(house::pages_linked(&tree()));
}

#[test]
fn people_and_ci_run_the_same_command() {
    report(house::one_test_command(&tree()));
}

fn check_sources(rule: fn(&Source) -> Vec<Finding>) {
    report(source::parse_all(&tree()).iter().flat_map(rule).collect());
}

fn check_files(rule: fn(&str, &str) -> Vec<Finding>) {
    report(tree().iter().flat_map(|(path, text)| rule(path, text)).collect());
}

fn report(findings: Vec<Finding>) {
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert!(lines.is_empty(), "{} to mend:\n{}\n", lines.len(), lines.join("\n"));
}

fn tree() -> Tree {
    let mut tree = Tree::new();
    collect(Path::new(env!("CARGO_MANIFEST_DIR")), "", &mut tree);
    assert!(tree.contains_key("src/lib.rs"), "the walk over the tree must find its root module");
    tree
}

/// Adds the text files below `folder`; hidden ones (but `.ci`) and what tools build stay out.
fn collect(folder: &Path, prefix: &str, tree: &mut Tree) {
    const BUILT: [&str; 4] = ["target", "build", "dist", "__pycache__"];
    for entry in std::fs::read_dir(folder).expect("a folder of the tree can be read") {
        let entry = entry.expect("an entry of the tree can be read");
        let name = entry.file_name().to_string_lossy().into_owned();
        let hidden = name.starts_with('.') && name != ".ci";
        if hidden || BUILT.contains(&name.as_str()) || name.ends_with(".egg-info") {
            continue;
        }
        let path = format!("{prefix}{name}");
        if entry.path().is_dir() {
            collect(&entry.path(), &format!("{path}/"), tree);
        } else if let Ok(text) = std::fs::read_to_string(entry.path()) {
            tree.insert(path, text);
        }
    }
}

#[test]
fn a_finding_names_file_line_and_advice() {
    assert_eq!(Finding::new("a.rs", 4, "do this").to_string(), "a.rs:5: do this");
}
