//! The rules for everything that is not a matter of Rust syntax: text, dependencies, pages.

use crate::{Finding, Tree};

const COLUMNS_MAX: usize = 100;

/// Sources that people read have lines of at most 100 columns; a line with a link may be longer.
pub fn line_length(path: &str, text: &str) -> Vec<Finding> {
    let generated = path.starts_with("include/");
    if generated || !has_suffix(path, &[".rs", ".c", ".h", ".hpp", ".py", ".pyi", ".sh"]) {
        return Vec::new();
    }
    let columns = |line: &str| line.chars().count();
    let advice = |n| format!("{n} columns, {COLUMNS_MAX} is the limit: wrap it");
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| columns(line) > COLUMNS_MAX && !line.contains("://"))
        .map(|(at, line)| Finding::new(path, at, advice(columns(line))))
        .collect()
}

/// Marks of unfinished work. What is known and open stands in the tracker or in the changelog.
pub fn leftovers(path: &str, text: &str) -> Vec<Finding> {
    // Written in two parts, so that this file does not find itself.
    const MARKS: [&str; 4] =
        [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX"), concat!("HA", "CK")];
    let mut findings = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        if let Some(mark) = words.find(|word| MARKS.contains(word)) {
            let advice = format!("`{mark}`: finish it now, or say in plain words what is missing");
            findings.push(Finding::new(path, at, advice));
        }
    }
    findings
}

/// A path that exists on one machine only.
pub fn machine_paths(path: &str, text: &str) -> Vec<Finding> {
    const ROOTS: [&str; 5] = [
        concat!("/", "work/"),
        concat!("/", "root/"),
        concat!("/", "home/"),
        concat!("/", "farm/"),
        concat!("/", "Users/"),
    ];
    let absolute = |line: &str, root: &str| {
        line.match_indices(root).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || "_.-/}$".contains(c))
        })
    };
    let mut findings = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if let Some(root) = ROOTS.iter().find(|root| absolute(line, root)) {
            let advice =
                format!("`{root}` is a path of one machine: make it relative or an option");
            findings.push(Finding::new(path, at, advice));
        }
    }
    findings
}

/// Every dependency says what it is for, on its line or on the line above.
pub fn dependency_comments(path: &str, text: &str) -> Vec<Finding> {
    if path != "Cargo.toml" && !path.ends_with("/Cargo.toml") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let mut in_dependencies = false;
    let mut above = "";
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            let table = line.trim_matches(['[', ']']);
            in_dependencies = table.ends_with("dependencies");
            if table.contains("dependencies.") {
                let advice = "write the dependency on one line, with a comment that says what for";
                findings.push(Finding::new(path, at, advice));
            }
        } else if in_dependencies
            && line.starts_with(|c: char| c.is_alphanumeric())
            && !line.contains("# ")
            && !above.starts_with("# ")
        {
            let advice = "say in a comment on this line what the dependency is for";
            findings.push(Finding::new(path, at, advice));
        }
        above = line;
    }
    findings
}

/// Everything that is built from elsewhere comes from crates.io.
pub fn lock_sources(path: &str, text: &str) -> Vec<Finding> {
    if !path.ends_with("Cargo.lock") {
        return Vec::new();
    }
    const REGISTRY: &str = r#"source = "registry+https://github.com/rust-lang/crates.io-index""#;
    let foreign = |line: &&str| line.starts_with("source = ") && *line != REGISTRY;
    let lines = text.lines().enumerate().filter(|(_, line)| foreign(line));
    lines.map(|(at, _)| Finding::new(path, at, "take the crate from crates.io")).collect()
}

/// `make help` lists every target that a person would call, so each has its text.
pub fn make_help(path: &str, text: &str) -> Vec<Finding> {
    if path != "Makefile" && !path.ends_with(".mk") {
        return Vec::new();
    }
    let target = |line: &str| -> Option<String> {
        let (names, rest) = line.split_once(':')?;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "- ".contains(c);
        let is_rule = !rest.starts_with('=') && !rest.starts_with(":=") && !rest.contains(":=");
        let named = names.starts_with(|c: char| c.is_ascii_lowercase()) && names.chars().all(plain);
        (is_rule && named && !rest.contains("## ")).then(|| names.to_owned())
    };
    let advice = |name| format!("target `{name}`: add `## ` and a line of help");
    let lines = text.lines().enumerate();
    lines.filter_map(|(at, l)| Some(Finding::new(path, at, advice(target(l)?)))).collect()
}

/// Relative links between pages lead somewhere, also the part behind `#`.
pub fn links(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.iter().filter(|(path, _)| path.ends_with(".md")) {
        for (at, link) in relative_links(text) {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { path.clone() } else { resolve(path, file) };
            let folder = format!("{target}/");
            let is_folder = tree.keys().any(|known| known.starts_with(&folder));
            match tree.get(&target) {
                None if is_folder => {}
                None => {
                    let advice = format!("link `{link}`: there is no file `{target}`");
                    findings.push(Finding::new(path, at, advice));
                }
                Some(page) if !anchor.is_empty() && !anchors(page).any(|a| a == anchor) => {
                    let advice = format!("link `{link}`: `{target}` has no heading `#{anchor}`");
                    findings.push(Finding::new(path, at, advice));
                }
                Some(_) => {}
            }
        }
    }
    findings
}

/// Who reads the README or the architecture finds every page.
pub fn pages_linked(tree: &Tree) -> Vec<Finding> {
    let mut linked = Vec::new();
    for index in ["README.md", "docs/ARCHITECTURE.md"] {
        let text = tree.get(index).map_or("", String::as_str);
        let targets = relative_links(text).into_iter();
        let file = |link: String| link.split('#').next().map(|file| resolve(index, file));
        linked.extend(targets.filter_map(|(_, link)| file(link)));
    }
    let pages = tree.keys().filter(|path| path.starts_with("docs/"));
    let lost = pages.filter(|path| *path != "docs/ARCHITECTURE.md" && !linked.contains(path));
    let advice = "link this page from README.md or docs/ARCHITECTURE.md";
    lost.map(|path| Finding::new(path, 0, advice)).collect()
}

/// The README names the two commands, and continuous integration runs the one for tests.
pub fn one_test_command(tree: &Tree) -> Vec<Finding> {
    let needed = [("README.md", "make run"), ("README.md", "make test"), (".ci/run", "make test")];
    let has = |(path, call): &(&str, &str)| tree.get(*path).is_some_and(|t| t.contains(call));
    let missing = needed.into_iter().filter(|pair| !has(pair));
    missing.map(|(path, call)| Finding::new(path, 0, format!("it must name `{call}`"))).collect()
}

fn has_suffix(path: &str, suffixes: &[&str]) -> bool {
    suffixes.iter().any(|suffix| path.ends_with(suffix))
}

/// The lines of a page that are prose, not code, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    text.lines().enumerate().filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !fence && !in_code
    })
}

fn relative_links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (at, line) in prose(text) {
        // What stands in backticks is every second part.
        let outside: String = line.split('`').step_by(2).collect();
        for part in outside.split("](").skip(1) {
            let link = part.split(')').next().unwrap_or_default();
            let elsewhere = link.contains("://") || link.starts_with("mailto:");
            if !link.is_empty() && !elsewhere {
                links.push((at, link.to_owned()));
            }
        }
    }
    links
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    let headings = prose(text).filter_map(|(_, line)| Some(line.strip_prefix('#')?.to_owned()));
    headings.map(|heading| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

/// `link` as seen from the folder of `page`.
fn resolve(page: &str, link: &str) -> String {
    let folder = page.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines, from one, that `rule` finds in `text`.
    fn found(rule: fn(&str, &str) -> Vec<Finding>, path: &str, text: &str) -> Vec<usize> {
        rule(path, text).iter().map(|finding| finding.line).collect()
    }

    fn tree(files: &[(&str, &str)]) -> Tree {
        files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect()
    }

    #[test]
    fn long_lines_are_found() {
        let text = format!("{}\n{}\n{}", "a".repeat(100), "b".repeat(101), "ä".repeat(100));
        assert_eq!(found(line_length, "src/a.rs", &text), [2]);
        assert_eq!(found(line_length, "README.md", &text), [0; 0]);
        let linked = text.replace("bbbb", "http://x.org/");
        assert_eq!(found(line_length, "src/a.rs", &linked), [0; 0]);
    }

    #[test]
    fn leftovers_are_found() {
        let text = format!("a\n// {}: b\nmktemp -t {}", concat!("TO", "DO"), "XX".repeat(3));
        assert_eq!(found(leftovers, "Makefile", &text), [2]);
    }

    #[test]
    fn machine_paths_are_found() {
        let text = format!("cd {}work/x\ncd a{0}home/b\nls /usr/include\n\"{0}root/x\"", '/');
        assert_eq!(found(machine_paths, "a.sh", &text), [1, 4]);
    }

    #[test]
    fn dependencies_without_a_reason_are_found() {
        let text = "[package]\nname = \"x\"\n[dependencies]\na = \"1\" # for a\nb = \"1\"\n\
                    # for c\nc = \"1\"\n[dev-dependencies.d]\nversion = \"1\"";
        assert_eq!(found(dependency_comments, "Cargo.toml", text), [5, 8]);
        assert_eq!(found(dependency_comments, "other.toml", text), [0; 0]);
    }

    #[test]
    fn foreign_sources_are_found() {
        let text = "source = \"registry+https://github.com/rust-lang/crates.io-index\"\n\
                    source = \"git+https://example.org/x\"";
        assert_eq!(found(lock_sources, "Cargo.lock", text), [2]);
    }

    #[test]
    fn targets_without_help_are_found() {
        let text = ".PHONY: a b\na: b ## Does a\n\techo x: y\nb:\nX := 1\n$(D)/f: a\nc d: e\nv:=1";
        assert_eq!(found(make_help, "Makefile", text), [4, 7]);
        assert_eq!(found(make_help, "README.md", text), [0; 0]);
    }

    #[test]
    fn broken_links_are_found() {
        let text = "[a](docs/A.md) [b](docs/B.md)\n`[c](no)` [d](docs/A.md#two-words) [e](#none)\n\
                    ```\n[f](no)\n```\n[g](https://x.org/y) [h](docs) [i](./docs/../no.txt)";
        let tree =
            tree(&[("README.md", text), ("docs/A.md", "# One\n## Two words\n[r](../README.md)")]);
        let lines: Vec<usize> = links(&tree).iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [1, 2, 6]);
    }

    #[test]
    fn lost_pages_are_found() {
        let tree = tree(&[
            ("README.md", "[a](docs/A.md#x)"),
            ("docs/ARCHITECTURE.md", "[b](B.md)"),
            ("docs/A.md", ""),
            ("docs/B.md", ""),
            ("docs/C.md", ""),
        ]);
        let paths: Vec<String> = pages_linked(&tree).into_iter().map(|f| f.path).collect();
        assert_eq!(paths, ["docs/C.md"]);
    }

    #[test]
    fn missing_commands_are_found() {
        let good = tree(&[("README.md", "make run, make test"), (".ci/run", "make test")]);
        assert_eq!(one_test_command(&good), []);
        let bad = tree(&[("README.md", "make run"), (".ci/run", "cargo test")]);
        assert_eq!(one_test_command(&bad).len(), 2);
    }
}
